//! Bridges, their ports and VLANs, judged by the frames that arrive.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_e2e::{
    Node, assert_no_trace, until,
    wire::{Wire, frame, packet},
};
use triton_link::NetNs;
use triton_types::Mac;

/// How long a frame that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(500);
/// How long one that must come may take.
const PATIENCE: Duration = Duration::from_secs(20);

fn mac(host: u8) -> Mac {
    Mac([0x02, 0x08, 0x20, 0, 0, host])
}

/// Runs a command in the node's network namespace.
fn try_run(node: &Node, line: &str) -> std::process::Output {
    let pin = node.layout().namespaces().join("net");
    Command::new("nsenter").arg(format!("--net={}", pin.display())).args(line.split(' ')).output().unwrap()
}

fn run(node: &Node, line: &str) -> String {
    let output = try_run(node, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A switch port behind the bridge of the tag: what is sent at `far` comes from the wire.
struct Uplink<'a> {
    node: &'a Node,
    far: Wire,
    /// Where frames of VLANs are heard: their tags are not among the bytes that a socket of `far` shows.
    vlans: BTreeMap<u16, Wire>,
}

impl<'a> Uplink<'a> {
    const NAMES: (&'static str, &'static str) = ("e2eup", "e2ewire");

    fn plug(node: &'a Node, bridge: &str, vlans: &[u16]) -> Self {
        let (near, far) = Self::NAMES;
        run(node, &format!("ip link add {near} type veth peer name {far}"));
        run(node, &format!("ip link set {near} master {bridge}"));
        for name in [near, far] {
            run(node, &format!("ip link set {name} up"));
        }
        let namespace = NetNs::open(&node.layout().namespaces().join("net")).unwrap();
        let tagged = |vlan: u16| {
            let name = format!("{far}.{vlan}");
            run(node, &format!("ip link add link {far} name {name} type vlan id {vlan}"));
            run(node, &format!("ip link set {name} up"));
            (vlan, Wire::open(&namespace, &name))
        };
        Self { node, vlans: vlans.iter().copied().map(tagged).collect(), far: Wire::open(&namespace, far) }
    }

    /// What comes with this tag, or with none.
    fn of(&self, vlan: u16) -> &Wire {
        if vlan == 0 { &self.far } else { &self.vlans[&vlan] }
    }
}

impl Drop for Uplink<'_> {
    fn drop(&mut self) {
        try_run(self.node, &format!("ip link del {}", Self::NAMES.0));
    }
}

/// A guest in a VLAN, and its link.
struct Guest {
    uuid: String,
    wire: Wire,
    link: String,
    bridge: String,
}

fn guest(node: &Node, host: u8, vlan: u16, more: &Value) -> Guest {
    let mut payload = node.payload(host);
    if vlan != 0 {
        payload["nics"][0]["vlan_id"] = json!(vlan);
    }
    let nic = payload["nics"][0].as_object_mut().unwrap();
    nic.extend(more.as_object().unwrap().clone());
    let uuid = node.create(&payload);
    let info = node.vmadm(&["info", &uuid, "network"]).ok().json()["network"][0].clone();
    let text = |key: &str| info[key].as_str().unwrap().to_owned();
    let pid = i32::try_from(node.get(&uuid)["pid"].as_i64().unwrap()).unwrap();
    let wire = Wire::open(&NetNs::of_pid(pid).unwrap(), &text("interface"));
    Guest { uuid, wire, link: text("host_link"), bridge: text("bridge") }
}

/// A datagram with a number in it, from one host to another.
fn datagram(from: u8, to: u8, source: Mac, number: u16) -> Vec<u8> {
    let address = |host: u8| Ipv4Addr::new(10, 64, 0, host);
    frame(source, mac(to), packet(address(from).into(), address(to).into(), 17, 0, number))
}

/// The same frame as a trunk carries it.
fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    if vlan == 0 { frame.to_vec() } else { [&frame[..12], &[0x81, 0], &vlan.to_be_bytes(), &frame[12..]].concat() }
}

/// A, B and an onlooker that may use any MAC address; somebody sends as B. B's traffic stays B's, and nobody else sees it.
fn the_traffic_of_one_is_not_diverted(node: &Node, vlan: u16) {
    let before = node.traces();
    let (a, b) = (guest(node, 5, vlan, &json!({})), guest(node, 6, vlan, &json!({})));
    {
        let uplink = Uplink::plug(node, &a.bridge, if vlan == 0 { &[] } else { std::slice::from_ref(&vlan) });
        // Started when the uplink is there: it makes that a member of the VLAN.
        let learning = guest(node, 7, vlan, &json!({"allow_mac_spoofing": true, "allow_ip_spoofing": true}));
        let mut number = 1000;
        let mut arrives = |who: &str| {
            number += 1;
            let sent = datagram(5, 6, mac(5), number);
            [&learning.wire, uplink.of(vlan)].iter().for_each(|wire| wire.clear());
            a.wire.send(&sent);
            assert!(
                b.wire.hears(&sent, Instant::now() + PATIENCE),
                "after {who}: {:#}",
                node.vmadm(&["info", &a.uuid, "nics"]).ok().json()
            );
            for (name, wire) in [("the onlooker", &learning.wire), ("the wire", uplink.of(vlan))] {
                assert!(!wire.hears(&sent, Instant::now() + SILENCE), "{name} sees it after {who}");
            }
        };
        arrives("nothing");
        let lie = datagram(6, 5, mac(6), 1);
        for _ in 0..3 {
            a.wire.send(&lie);
        }
        arrives("a guest's frame with the other's MAC address");
        for _ in 0..3 {
            learning.wire.send(&datagram(6, 5, mac(6), 2));
        }
        arrives("that of a guest that may use any");
        for _ in 0..3 {
            uplink.far.send(&tagged(&datagram(6, 5, mac(6), 3), vlan));
        }
        arrives("that of somebody on the wire");
        let shown: Value = serde_json::from_str(&run(node, &format!("bridge -j fdb show br {}", b.bridge))).unwrap();
        let places: Vec<&str> = shown
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["mac"] == mac(6).to_string() && entry["master"].is_string())
            .map(|entry| entry["ifname"].as_str().unwrap())
            .collect();
        assert!(!places.is_empty() && places.iter().all(|place| *place == b.link), "{shown:#}");
        node.vmadm(&["delete", &learning.uuid]).ok();
    }
    for uuid in [&a.uuid, &b.uuid] {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(node, &before);
}

/// net-agent case 73, ruling 15
#[test]
fn whoever_sends_with_the_mac_of_another_gets_nothing_of_its_traffic() {
    let node = Node::with_image("divert");
    the_traffic_of_one_is_not_diverted(&node, 0);
}

/// Adds a tag to the node's.
fn add_tag(node: &Node, name: &str, mtu: u32) {
    let path = node.layout().config().join("triton-networking.json");
    let mut document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    document["nictags"].as_array_mut().unwrap().push(json!({"name": name, "mac": "-", "mtu": mtu}));
    std::fs::write(&path, document.to_string()).unwrap();
}

/// net-agent case 81
#[test]
fn a_guest_has_the_mtu_of_its_nic_and_none_that_its_tag_cannot_carry() {
    let node = Node::with_image("mtu");
    add_tag(&node, "jumbo", 9000);
    let before = node.traces();
    let jumbo = |host: u8, mtu: Option<u32>| {
        let more = mtu.map_or(json!({"nic_tag": "jumbo"}), |mtu| json!({"nic_tag": "jumbo", "mtu": mtu}));
        guest(&node, host, 0, &more).uuid
    };
    let (absent, large, other) = (jumbo(5, None), jumbo(6, Some(9000)), jumbo(7, Some(9000)));
    let mtu = |uuid: &str| node.guest(uuid, "cat /sys/class/net/eth0/mtu").trim().to_owned();
    assert_eq!((mtu(&absent).as_str(), mtu(&large).as_str()), ("1500", "9000"));
    let whole =
        |from: &str, to: u8, size: u32| node.try_guest(from, &format!("ping -c 3 -W 3 -s {size} 10.64.0.{to} >/dev/null")).code == Some(0);
    assert!(whole(&large, 7, 8900), "nine thousand bytes from end to end");
    assert!(whole(&absent, 6, 1400));
    // More than the tag carries: refused with a reason, and nothing stays.
    let mut payload = node.payload(8);
    payload["nics"][0]["mtu"] = json!(9000);
    let refused = node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("9000") && refused.stderr.contains("external"), "{}", refused.stderr);
    for uuid in [&absent, &large, &other] {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(&node, &before);
}

/// net-agent case 82, without a VLAN
#[test]
fn tags_that_begin_alike_have_links_of_their_own() {
    let node = Node::with_image("long-tags");
    long_tags(&node, 0);
}

/// Two tags of thirty characters that differ in the last: guests of one reach each other, those of two do not.
fn long_tags(node: &Node, vlan: u16) {
    let names = ["a23456789012345678901234567890", "a23456789012345678901234567899"];
    names.iter().for_each(|name| add_tag(node, name, 1500));
    let before = node.traces();
    let on = |host: u8, tag: &str| guest(node, host, vlan, &json!({"nic_tag": tag}));
    let guests = [on(5, names[0]), on(6, names[0]), on(7, names[1])];
    assert!(guests[0].bridge == guests[1].bridge && guests[0].bridge != guests[2].bridge);
    assert!(guests.iter().all(|guest| guest.bridge.len() <= 15 && guest.link.len() <= 15));
    let sent = datagram(5, 6, mac(5), 1000);
    guests[0].wire.send(&sent);
    assert!(guests[1].wire.hears(&sent, Instant::now() + PATIENCE));
    let everybody =
        frame(mac(5), Mac([0xff; 6]), packet(Ipv4Addr::new(10, 64, 0, 5).into(), Ipv4Addr::new(10, 64, 0, 7).into(), 17, 0, 1001));
    guests[0].wire.send(&everybody);
    assert!(guests[1].wire.hears(&everybody, Instant::now() + PATIENCE));
    assert!(!guests[2].wire.hears(&everybody, Instant::now() + SILENCE), "what is for everybody stays within its tag");
    for guest in &guests {
        node.vmadm(&["delete", &guest.uuid]).ok();
    }
    assert_no_trace(node, &before);
}

/// What needs a kernel whose bridges filter VLANs.
mod node_only {
    use super::*;

    /// net-agent case 73, rulings 15 and 69
    #[test]
    fn within_a_vlan_nobody_gets_the_traffic_of_another() {
        let node = Node::with_image("divert-vlan");
        assert!(node.is_machine(), "this is no compute node");
        the_traffic_of_one_is_not_diverted(&node, 5);
    }

    /// net-agent case 82
    #[test]
    fn tags_that_begin_alike_have_links_of_their_own_in_the_last_vlan() {
        let node = Node::with_image("long-tags-vlan");
        long_tags(&node, 4094);
    }

    /// net-agent case 74, ruling 19: same tag and VLAN, each other and the gateway on the wire; else nobody.
    #[test]
    fn frames_of_a_vlan_stay_in_it_and_leave_the_node_with_its_tag() {
        let node = Node::with_image("frames-vlan");
        let before = node.traces();
        let first = guest(&node, 5, 0, &json!({}));
        {
            let uplink = Uplink::plug(&node, &first.bridge, &[5, 6]);
            let (five, same, six) = (guest(&node, 6, 5, &json!({})), guest(&node, 7, 5, &json!({})), guest(&node, 8, 6, &json!({})));
            let question = |host: u8, mark: u8| {
                let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &mac(host).0, &[10, 64, 0, host], &[0; 6], &[203, 0, 113, mark]].concat();
                frame(mac(host), Mac([0xff; 6]), (0x0806, body))
            };
            // From a guest to everybody: to those of its VLAN, and to the wire with its tag.
            for (from, host, vlan, to, not) in [
                (&five, 6, 5, vec![&same], vec![&six, &first]),
                (&six, 8, 6, vec![], vec![&five, &same, &first]),
                (&first, 5, 0, vec![], vec![&five, &same, &six]),
            ] {
                let sent = question(host, host);
                [&five, &same, &six, &first].iter().for_each(|guest| guest.wire.clear());
                [0, 5, 6].iter().for_each(|vlan| uplink.of(*vlan).clear());
                from.wire.send(&sent);
                assert!(uplink.of(vlan).hears(&sent, Instant::now() + PATIENCE), "10.64.0.{host} on the wire");
                for other in [5, 6].into_iter().filter(|other| *other != vlan) {
                    assert!(!uplink.of(other).hears(&sent, Instant::now() + SILENCE), "10.64.0.{host} with the tag {other}");
                }
                for guest in to {
                    assert!(guest.wire.hears(&sent, Instant::now() + PATIENCE), "{} does not hear 10.64.0.{host}", guest.link);
                }
                for guest in not {
                    assert!(!guest.wire.hears(&sent, Instant::now() + SILENCE), "{} hears 10.64.0.{host}", guest.link);
                }
            }
            // From the gateway, with and without a tag.
            for (vlan, to, not) in [
                (5, vec![&five, &same], vec![&six, &first]),
                (0, vec![&first], vec![&five, &same, &six]),
                (7, vec![], vec![&five, &same, &six, &first]),
            ] {
                let sent = question(1, 100 + u8::try_from(vlan).unwrap());
                uplink.far.send(&tagged(&sent, vlan));
                for guest in to {
                    assert!(guest.wire.hears(&sent, Instant::now() + PATIENCE), "{} does not hear VLAN {vlan}", guest.link);
                }
                for guest in not {
                    assert!(!guest.wire.hears(&sent, Instant::now() + SILENCE), "{} hears VLAN {vlan}", guest.link);
                }
            }
            // A guest's own tags lead nowhere.
            for vlan in [1, 5, 6] {
                let sent = tagged(&question(6, 200), vlan);
                five.wire.send(&sent);
                for guest in [&same, &six, &first] {
                    assert!(!guest.wire.hears(&question(6, 200), Instant::now() + SILENCE), "{} hears a guest's tag {vlan}", guest.link);
                }
            }
            until("the guard counted them", || {
                node.vmadm(&["info", &five.uuid, "nics"]).ok().json()["nics"][0]["dropped"]["restricted"]["packets"].as_u64() >= Some(3)
            });
            for guest in [&five, &same, &six] {
                node.vmadm(&["delete", &guest.uuid]).ok();
            }
        }
        node.vmadm(&["delete", &first.uuid]).ok();
        assert_no_trace(&node, &before);
    }
}
