//! Changes while guests send, restoring, forgetting, and the node's own ports.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    frames::*,
    wire::{A, B, kernel, run},
};
use crate::{Protection, TABLE};

/// net-agent case 77
#[test]
fn kernel_a_guests_link_that_is_in_no_set_sends_nothing_and_nothing_stays_of_one_that_was_forgotten() {
    kernel(|net| {
        let b = net.port("up0", B);
        let a = net.guest("vta", A, |nic| {
            nic.allowed_ips = vec!["10.1.0.0/16".into(), "10.1.2.0/24".into(), "fd01::/64".into()];
            nic.blocked_outgoing_ports = vec![25];
        });
        let stranger = net.port("vtz", B);
        stranger.send(&ipv4(B, "10.0.0.7"));
        assert!(net.passes(&a, &b, &ipv4(A, "10.0.0.5")));
        net.guard.learn("vta", "10.7.7.7".parse().unwrap(), Duration::from_secs(60)).unwrap();
        let again = net.guest("vty", A, |_| {});
        net.guard.forget(&["vta".to_owned(), "vtnever".to_owned()]).unwrap();
        assert!(!run("nft list ruleset").contains("\"vta\""), "{}", run("nft list ruleset"));
        net.guard.forget(&["vta".to_owned()]).unwrap();
        a.send(&ipv4(A, "10.0.0.5"));
        stranger.send(&ipv4(B, "10.0.0.7"));
        // Nothing of what was sent before comes before this.
        assert!(net.passes(&again, &b, &ipv4(A, "10.0.0.5")));
        assert!(b.receive(std::time::Instant::now()).is_none());
        net.guard.forget(&["vty".to_owned()]).unwrap();
        assert_eq!(run("nft list ruleset"), "", "the table goes with the last NIC");
    });
}

/// net-agent case 77: a link that comes up is only added, and is guarded whatever somebody left of one of its name.
#[test]
fn kernel_a_link_that_comes_up_is_guarded_beside_what_is_left_of_one_of_its_name() {
    kernel(|net| {
        let b = net.port("up0", B);
        let other = net.guest("vty", B, |nic| nic.ips = vec!["10.0.0.7/24".parse().unwrap()]);
        let a = net.guest("vta", A, |nic| nic.allowed_ips = vec!["10.1.0.0/16".into()]);
        assert!(net.passes(&a, &b, &ipv4(A, "10.1.2.3")) && net.passes(&other, &b, &ipv4(B, "10.0.0.7")));
        run("nft delete element bridge triton_guard known { vta }");
        let mut nic = a.nic.clone();
        // A range within the one that is still there: the kernel refuses to add it.
        nic.allowed_ips = vec!["10.1.2.0/24".into()];
        net.guard.protect(&[Protection::of(&nic, "vta")], || Ok(Vec::new())).unwrap();
        assert!(net.passes(&a, &b, &ipv4(A, "10.1.2.3")));
        assert!(!net.passes(&a, &b, &ipv4(A, "10.1.3.3")), "the old range is gone");
        assert!(net.passes(&other, &b, &ipv4(B, "10.0.0.7")), "others are as they were");
    });
}

/// net-agent case 76
#[test]
fn kernel_a_protection_is_switched_while_the_guest_sends_and_no_legal_frame_is_lost() {
    kernel(|net| {
        let mut a = net.guest("vta", A, |_| {});
        let b = net.port("up0", B);
        let sender = net.port("up1", B);
        drop(sender);
        let stop = Arc::new(AtomicBool::new(false));
        let frame = ipv4(A, "10.0.0.5");
        let a_link = Arc::new(a);
        let (from, end, legal) = (a_link.clone(), stop.clone(), frame.clone());
        let sending = std::thread::spawn(move || {
            let mut sent = 0u32;
            while !end.load(Ordering::Relaxed) {
                from.send(&legal);
                sent += 1;
                std::thread::sleep(Duration::from_micros(200));
            }
            sent
        });
        let mut nic = a_link.nic.clone();
        let mut got = 0u32;
        for round in 0..20 {
            nic.allow_ip_spoofing = round % 2 == 0;
            net.guard.protect(&[Protection::of(&nic, "vta")], || Ok(Vec::new())).unwrap();
            while let Some(received) = b.receive(std::time::Instant::now() + Duration::from_millis(1)) {
                got += u32::from(received == frame);
            }
        }
        stop.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap();
        while let Some(received) = b.receive(std::time::Instant::now() + Duration::from_millis(200)) {
            got += u32::from(received == frame);
        }
        assert_eq!(got, sent);
        a = Arc::into_inner(a_link).unwrap();
        assert!(!net.passes(&a, &b, &ipv4(A, "10.0.0.6")), "the last switch was off");
    });
}

/// net-agent case 78
#[test]
fn kernel_what_somebody_removed_is_restored_with_all_nics() {
    kernel(|net| {
        let a = net.guest("vta", A, |nic| nic.ips.push("dhcp".parse().unwrap()));
        let c = net.guest("vtc", B, |nic| nic.ips = vec!["10.0.0.7/24".parse().unwrap()]);
        let b = net.port("up0", B);
        assert!(net.guard.is_there().unwrap());
        run("nft flush ruleset");
        assert!(!net.guard.is_there().unwrap());
        assert!(net.passes(&a, &b, &ipv4(A, "10.0.0.6")), "without a table there is no protection");
        // A change for one NIC makes the table for all.
        let protections = || Ok(vec![Protection::of(&a.nic, "vta"), Protection::of(&c.nic, "vtc")]);
        net.guard.protect(&[Protection::of(&a.nic, "vta")], protections).unwrap();
        assert!(!net.passes(&a, &b, &ipv4(A, "10.0.0.6")));
        assert!(net.passes(&c, &b, &ipv4(B, "10.0.0.7")));
        // What is not known is not guessed.
        run("nft flush ruleset");
        let error = net.guard.protect(&[Protection::of(&a.nic, "vta")], || Err("the pool is not there".to_owned())).unwrap_err();
        assert!(error.to_string().contains("the pool is not there"), "{error}");
        net.guard.learn("vta", "10.7.7.7".parse().unwrap(), Duration::from_secs(60)).unwrap_err();
        net.guard.restore(&[Protection::of(&a.nic, "vta")]).unwrap();
        net.guard.learn("vta", "10.7.7.7".parse().unwrap(), Duration::from_secs(60)).unwrap();
        net.guard.restore(&[Protection::of(&a.nic, "vta")]).unwrap();
        assert!(net.passes(&a, &b, &ipv4(A, "10.7.7.7")), "learned addresses outlive a restoration");
        // Also of a table that is gone, and by somebody who did not learn them.
        run("nft flush ruleset");
        net.another_guard().restore(&[Protection::of(&a.nic, "vta")]).unwrap();
        assert!(net.passes(&a, &b, &ipv4(A, "10.7.7.7")));
        assert_eq!(net.guard.learned("vta").len(), 1);
        net.guard.unlearn("vta", "10.7.7.7".parse().unwrap()).unwrap();
        assert!(!net.passes(&a, &b, &ipv4(A, "10.7.7.7")));
    });
}

/// Ruling 8
#[test]
fn kernel_guests_do_not_reach_the_node_neither_the_bridge_nor_its_own_ports() {
    kernel(|net| {
        let a = net.guest("vta", A, |_| {});
        let own = net.port("tv0123", B);
        let b = net.port("up0", B);
        run("ip address add 10.0.0.1/24 dev br0");
        // The other ends of the links are in this namespace, too, and would answer for its address.
        run("sysctl -q -w net.ipv4.conf.all.arp_ignore=1");
        for frame in [ipv4(A, "10.0.0.5"), arp(A, A, [10, 0, 0, 5], [10, 0, 0, 1])] {
            assert!(net.passes(&a, &b, &frame));
        }
        // Nothing of it came to the node's own port; what others send comes.
        b.send(&ipv4(B, "10.0.0.9"));
        let got = own.receive(std::time::Instant::now() + Duration::from_secs(20)).unwrap();
        assert_eq!(got, ipv4(B, "10.0.0.9"));
        // The guest's socket sees what it sends, too.
        let mut others = Vec::new();
        while let Some(frame) = a.receive(std::time::Instant::now() + Duration::from_millis(200)) {
            others.extend((frame[6..12] != A.0).then_some(frame));
        }
        assert_eq!(others, [ipv4(B, "10.0.0.9")], "no answer to its question for the node");
        assert!(net.guard.drops().unwrap()["vta"].host.packets >= 4);
    });
}

#[test]
fn kernel_the_table_of_two_thousand_nics_is_made_in_one_change_and_one_of_them_is_changed_alone() {
    kernel(|net| {
        let nic = |n: u32| {
            let [_, b, c, d] = n.to_be_bytes();
            let mut nic = triton_types::Nic::new("net0", triton_types::Mac([2, 8, 0x20, b, c, d]), "external".parse().unwrap());
            nic.ips = vec![format!("10.{b}.{c}.{d}/8").parse().unwrap()];
            Protection::of(&nic, format!("vt{n:011}"))
        };
        let all: Vec<_> = (1..=2000).map(nic).collect();
        net.guard.restore(&all).unwrap();
        net.guard.protect(&[nic(2001)], || Err("not asked".to_owned())).unwrap();
        assert_eq!(net.guard.drops().unwrap().len(), 2001);
        net.guard.forget(&[all[0].link.clone()]).unwrap();
        let text = run("nft list ruleset");
        assert!(text.contains(TABLE) && !text.contains("vt00000000001\"") && text.contains("vt00000002001\""));
    });
}

#[test]
fn kernel_learned_addresses_end_with_their_time_with_the_property_and_are_bounded() {
    kernel(|net| {
        let mut a = net.guest("vta", A, |nic| nic.ips.push("dhcp".parse().unwrap()));
        let b = net.port("up0", B);
        let address = |n: usize| std::net::IpAddr::from([10, 7, 0, u8::try_from(n).unwrap()]);
        net.guard.learn("vta", address(250), Duration::from_millis(300)).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while net.passes(&a, &b, &ipv4(A, "10.7.0.250")) {
            assert!(std::time::Instant::now() < deadline, "it does not end");
        }
        // The kernel counts in ticks, the file in milliseconds: either may end a moment before the other.
        while !net.guard.learned("vta").is_empty() {
            assert!(std::time::Instant::now() < deadline, "it is remembered for longer than it was given");
        }
        for n in 0..=crate::LEARNED_MOST {
            net.guard.learn("vta", address(n), Duration::from_secs(100 + n as u64)).unwrap();
        }
        assert_eq!(net.guard.learned("vta").len(), crate::LEARNED_MOST);
        assert!(!net.passes(&a, &b, &ipv4(A, "10.7.0.0")), "the one that would end first went");
        assert!(net.passes(&a, &b, &ipv4(A, "10.7.0.1")));
        net.guard.learn("vta", "fd07::1".parse().unwrap(), Duration::from_secs(100)).unwrap();
        a.nic.ips = vec!["addrconf".parse().unwrap()];
        net.protect(&a);
        assert!(!net.passes(&a, &b, &ipv4(A, "10.7.0.1")), "without dhcp");
        assert!(net.passes(&a, &b, &ipv6(A, "fd07::1", 17, &udp(1, 2, b"x"))));
        let text = run("nft list set bridge triton_guard learned4");
        assert!(!text.contains("10.7."), "{text}");
    });
}
