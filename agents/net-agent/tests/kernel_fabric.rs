//! Overlay networks on the real kernel: nodes and guests are network namespaces, the underlay is a bridge between them, and portolan is the
//! stand-in. Everything is in namespaces of its own and gone with them.

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

#[path = "fabric/lab.rs"]
mod lab;

use std::time::Duration;

use headnode_standin::portolan::{Asked, Mood};
use lab::{Guest, Lab, PATIENCE};

/// net-agent section 17
#[test]
fn kernel_guests_of_one_network_reach_each_other_from_node_to_node_over_ipv4_and_ipv6() {
    let lab = Lab::new(2);
    let (a, b) = (lab.guest(0, 5, 0, 1), lab.guest(1, 5, 0, 2));
    a.reaches(&b.v4());
    a.reaches(&b.v6());
    b.reaches(&a.v6());
    // Link-local addresses are nobody's in NAPI; they have their MAC address within.
    a.reaches(&format!("{}%eth0", b.link_local()));
    let c = lab.guest(0, 5, 0, 3);
    c.reaches(&a.v4());
    c.reaches(&b.v4());
    assert!(a.reached(&c.v6()));
    lab.is_right();
}

#[test]
fn kernel_networks_do_not_meet_and_unknown_addresses_flood_nothing() {
    let lab = Lab::new(2);
    let (a, b) = (lab.guest(0, 5, 0, 1), lab.guest(1, 5, 0, 2));
    let (other_a, other_b) = (lab.guest(0, 6, 0, 1), lab.guest(1, 6, 0, 3));
    a.reaches(&b.v4());
    other_a.reaches(&other_b.v4());
    // The same addresses are somebody else in another network, and what is only there is not here.
    assert!(!a.reached(&other_b.v4()) && !a.reached(&other_b.v6()));
    assert!(!other_a.reached(&b.v4()));
    let sent = lab.sent(0, 5);
    let asked = lab.asked(|asked| matches!(asked, Asked::Ip(5, _)));
    for _ in 0..2 {
        assert!(!a.reached("192.168.128.77"));
    }
    a.run("ping -c 2 -i 0.2 -W 1 -b 192.168.128.255");
    a.run("ping -c 2 -i 0.2 -W 1 ff02::1%eth0");
    assert_eq!(lab.sent(0, 5), sent, "no frame for nobody, and no broadcast, went to another node");
    assert!(lab.asked(|asked| matches!(asked, Asked::Ip(5, _))) - asked < 12, "and portolan is not asked for each frame");
    lab.is_right();
}

#[test]
fn kernel_a_moved_instance_is_found_at_its_new_node() {
    let lab = Lab::new(3);
    let (a, b) = (lab.guest(0, 5, 0, 1), lab.guest(1, 5, 0, 2));
    a.reaches(&b.v4());
    a.reaches(&b.v6());
    lab.stop(1, 5, b);
    let b = lab.guest(2, 5, 0, 2);
    a.reaches(&b.v4());
    a.reaches(&b.v6());
    for node in 0..3 {
        lab.until("the log was followed", || lab.log(node) == 0);
    }
    // And to the node of the one that asks.
    lab.stop(2, 5, b);
    let b = lab.guest(0, 5, 0, 2);
    a.reaches(&b.v4());
    b.reaches(&a.v6());
    // And away again, while its neighbours know its MAC address.
    lab.stop(0, 5, b);
    let b = lab.guest(1, 5, 0, 2);
    a.reaches(&b.v4());
    lab.is_right();
}

#[test]
fn kernel_without_portolan_what_is_known_goes_on_and_the_rest_comes_when_it_is_back() {
    let mut lab = Lab::new(2);
    let (a, b, c) = (lab.guest(0, 5, 0, 1), lab.guest(1, 5, 0, 2), lab.guest(1, 5, 0, 3));
    a.reaches(&b.v4());
    lab.kill_portolan();
    assert!(a.reached(&b.v4()), "the kernel knows it");
    a.run("ip neigh flush all");
    b.run("ip neigh flush all");
    a.reaches(&b.v4());
    assert!(!a.reached(&c.v4()));
    lab.start_portolan();
    a.reaches(&c.v4());
    // An agent that ends takes nothing with it, and the next one goes on.
    lab.nodes[0].fabrics = None;
    assert!(a.reached(&b.v4()) && a.reached(&c.v4()));
    lab.start_agent(0);
    let d = lab.guest(1, 5, 0, 4);
    a.reaches(&d.v4());
    a.reaches(&b.v4());
    lab.is_right();
}

#[test]
fn kernel_a_portolan_that_lies_or_stalls_is_left_and_asked_again() {
    let lab = Lab::new(2);
    let a = lab.guest(0, 5, 0, 1);
    let moods = [Mood::Checksum, Mood::Identity, Mood::Operation, Mood::Garbage, Mood::Fatal, Mood::Drop];
    for (number, mood) in (2u8..).zip(moods) {
        let b = lab.guest(1, 5, 0, number);
        lab.portolan().behave(mood);
        assert!(!a.reached(&b.v4()), "{mood:?}");
        lab.portolan().behave(Mood::Right);
        a.reaches(&b.v4());
    }
    lab.is_right();
}

/// net-agent case 81, for overlays
#[test]
fn kernel_frames_are_as_large_as_the_overlay_says_and_the_underlay_must_carry_them() {
    let lab = Lab::new(2);
    let (a, b) = (lab.guest(0, 5, 0, 1), lab.guest(1, 5, 0, 2));
    a.reaches(&b.v4());
    assert!(a.run(&format!("ping -c 1 -W 3 -M do -s 1372 {}", b.v4())));
    assert!(!a.run(&format!("ping -c 1 -W 1 -M do -s 1373 {}", b.v4())));
    lab.nodes[0].ip("link set under0 mtu 1453");
    let error = lab.try_fabric(0, 7).unwrap_err();
    for wanted in ["sdc_overlay/7", "under0", "1453", "1454"] {
        assert!(error.contains(wanted), "{error}");
    }
    lab.nodes[0].ip("addr flush dev under0");
    assert!(lab.try_fabric(0, 7).unwrap_err().contains("no link of this node has the underlay address 10.9.0.1"));
}

#[test]
fn kernel_a_network_comes_with_its_first_nic_and_goes_with_its_last() {
    let lab = Lab::new(1);
    // Some kernels have a tunl0 everywhere.
    let ours = |line: &&str| line.starts_with("tb") || line.starts_with("tu") && !line.starts_with("tunl");
    let links = || lab.nodes[0].ip("-br link").lines().filter(ours).count();
    assert_eq!(links(), 0);
    let (a, b): (Guest, Guest) = (lab.guest(0, 5, 0, 1), lab.guest(0, 5, 0, 2));
    assert_eq!(links(), 3, "bridge, device and tap: {}", lab.nodes[0].ip("-br link"));
    lab.until("the agent reads it", || lab.nodes[0].ip("-br link").lines().any(|line| line.contains("-q") && line.contains("UP,LOWER_UP")));
    a.reaches(&b.v4());
    assert!(!lab.stop(0, 5, a));
    assert_eq!(links(), 3);
    assert!(lab.stop(0, 5, b));
    lab.until("nothing is left", || links() == 0);
    let a = lab.guest(0, 5, 0, 1);
    let b = lab.guest(0, 5, 0, 2);
    a.reaches(&b.v6());
}

#[test]
fn kernel_links_that_somebody_takes_from_a_network_are_made_anew() {
    let mut lab = Lab::new(2);
    let vlan = if triton_nictag::vlan_support().unwrap() { 20 } else { 0 };
    let (a, b) = (lab.guest(0, 5, vlan, 1), lab.guest(1, 5, vlan, 2));
    a.reaches(&b.v4());
    let [device, tap] = lab.ports(0, 5);
    // What is known goes on without a tap: that frames pass does not say that it is there.
    let is_whole = |lab: &Lab| {
        let shown = lab.nodes[0].ip("link show");
        [&device, &tap]
            .iter()
            .all(|link| shown.lines().any(|line| line.contains(*link) && line.contains(",UP") && line.contains("master tb")))
    };
    for taken in [vec![&device], vec![&tap], vec![&tap, &device]] {
        taken.iter().for_each(|link| drop(lab.nodes[0].ip(&format!("link del {link}"))));
        lab.until("its links are there again", || is_whole(&lab));
        a.reaches(&b.v4());
        b.reaches(&a.v6());
    }
    for change in ["nomaster", "down"] {
        for link in [&device, &tap] {
            lab.nodes[0].ip(&format!("link set {link} {change}"));
            lab.until("it is as before", || is_whole(&lab));
        }
    }
    a.reaches(&b.v6());
    // Also what was taken while no agent ran.
    lab.nodes[0].fabrics = None;
    lab.nodes[0].ip(&format!("link del {device}"));
    lab.nodes[0].ip(&format!("link del {tap}"));
    lab.start_agent(0);
    a.run("ip neigh flush all");
    a.reaches(&b.v4());
    // A network without guests is not kept alive.
    assert!(lab.stop(0, 5, a));
    lab.until("nothing is left", || !lab.nodes[0].ip("-br link").contains(&device));
    lab.is_right();
}

/// Where the kernel keeps VLANs apart; others refuse such NICs.
#[test]
fn kernel_vlans_within_a_network_are_kept_apart_between_nodes() {
    if !triton_nictag::vlan_support().unwrap() {
        eprintln!("this kernel's bridges do not filter VLANs: nothing to see here");
        return;
    }
    let lab = Lab::new(2);
    let (a, b, c) = (lab.guest(0, 5, 20, 1), lab.guest(1, 5, 20, 2), lab.guest(1, 5, 30, 3));
    let untagged = lab.guest(1, 5, 0, 4);
    a.reaches(&b.v4());
    a.reaches(&b.v6());
    for other in [&c, &untagged] {
        assert!(!a.reached(&other.v4()) && !a.reached(&other.v6()));
    }
    assert!(PATIENCE > Duration::from_secs(1));
    lab.is_right();
}
