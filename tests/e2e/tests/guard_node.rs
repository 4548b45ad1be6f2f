//! Guests do not reach their node (ruling 8): frames from inside a guest to the node's own services, whatever address they carry.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    process::Command,
};

use serde_json::Value;
use triton_e2e::{
    Node, assert_no_trace, until,
    wire::{Wire, frame, link_local, packet},
};
use triton_link::NetNs;
use triton_types::Mac;

/// cn-agent, firewaller, cmon-agent, ssh.
const SERVICES: [u16; 4] = [5309, 2021, 9163, 22];
const NODE4: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 1);
const GUEST: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 5]);
/// A machine on the wire that is no guest: what it sends arrives, or the witness is blind.
const OUTSIDE: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0x77]);
/// The node's own port, as netconf names those of the machine, and its other end.
const OWN_PORT: (&str, &str) = ("tve2e0123", "e2eown");
const UPLINK: (&str, &str) = ("e2eup", "e2ewire");

/// What the witness calls them.
fn name_of(mac: Mac) -> &'static str {
    if mac == GUEST { "guest" } else { "outside" }
}

/// Everything that a guest may try: each service over TCP and UDP, ping, fragments; from its addresses, to each of the node's, in frames to
/// each of the node's links, to everybody, and to the group that the address makes.
fn attacks(from: Mac, host: u8, node: &[Mac]) -> Vec<Vec<u8>> {
    let everybody = Mac([0xff; 6]);
    let mut frames = Vec::new();
    let own4 = Ipv4Addr::new(10, 64, 0, host);
    for mac in node.iter().copied().chain([everybody]) {
        for port in SERVICES {
            for protocol in [6, 17] {
                frames.push(frame(from, mac, packet(own4.into(), NODE4.into(), protocol, 0, port)));
                frames.push(frame(from, mac, packet(own4.into(), Ipv4Addr::BROADCAST.into(), protocol, 0, port)));
                frames.push(frame(from, mac, packet(own4.into(), NODE4.into(), protocol, 0x2000, port)));
                for target in node {
                    frames.push(frame(from, mac, packet(link_local(from).into(), link_local(*target).into(), protocol, 0, port)));
                }
            }
        }
        frames.push(frame(from, mac, packet(own4.into(), NODE4.into(), 1, 0, 0)));
        for target in node {
            frames.push(frame(from, mac, packet(link_local(from).into(), link_local(*target).into(), 1, 0, 0)));
        }
        let ask = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &from.0, &own4.octets(), &[0; 6], &NODE4.octets()].concat();
        frames.push(frame(from, mac, (0x0806, ask)));
    }
    let all_nodes = Mac([0x33, 0x33, 0, 0, 0, 1]);
    frames.push(frame(from, all_nodes, packet(link_local(from).into(), "ff02::1".parse::<Ipv6Addr>().unwrap().into(), 1, 0, 0)));
    for port in SERVICES {
        let to = "ff02::1".parse::<Ipv6Addr>().unwrap();
        frames.push(frame(from, all_nodes, packet(link_local(from).into(), to.into(), 17, 0, port)));
    }
    frames
}

/// The node's namespace with addresses on the guests' bridge and on a port of the node's own, which no node should have; with a witness of
/// what comes in by them. Removed when dropped.
struct Bed {
    pin: PathBuf,
    bridge: String,
}

impl Bed {
    fn new(node: &Node, bridge: &str) -> Self {
        let bed = Self { pin: node.layout().namespaces().join("net"), bridge: bridge.to_owned() };
        let lines = [
            format!("ip link add {} type veth peer name {}", OWN_PORT.0, OWN_PORT.1),
            format!("ip link add {} type veth peer name {}", UPLINK.0, UPLINK.1),
            format!("ip link set {} master {bridge}", OWN_PORT.0),
            format!("ip link set {} master {bridge}", UPLINK.0),
            format!("sysctl -q -w net.ipv6.conf.{bridge}.disable_ipv6=0 net.ipv6.conf.{}.disable_ipv6=0", OWN_PORT.1),
            format!("sysctl -q -w net.ipv6.conf.{bridge}.addr_gen_mode=0 net.ipv6.conf.{}.addr_gen_mode=0", OWN_PORT.1),
            format!("sysctl -q -w net.ipv6.conf.{bridge}.accept_dad=0 net.ipv6.conf.{}.accept_dad=0", OWN_PORT.1),
        ];
        lines.iter().for_each(|line| drop(bed.run(line)));
        for name in [OWN_PORT.0, OWN_PORT.1, UPLINK.0, UPLINK.1] {
            bed.run(&format!("ip link set {name} up"));
        }
        for link in [bridge, OWN_PORT.1] {
            bed.run(&format!("ip address add {NODE4}/24 dev {link}"));
        }
        for family in ["ip", "ip6", "arp"] {
            bed.run(&format!("nft add table {family} e2e_witness"));
            bed.run(&format!("nft add chain {family} e2e_witness came {{ type filter hook input priority -300 ; }}"));
            for (link, mac) in [bridge, OWN_PORT.1].into_iter().flat_map(|link| [(link, GUEST), (link, OUTSIDE)]) {
                let source = if family == "arp" { "arp saddr ether" } else { "ether saddr" };
                bed.run(&format!("nft add rule {family} e2e_witness came iifname {link} {source} {mac} counter comment {}", name_of(mac)));
            }
        }
        bed
    }

    fn try_run(&self, line: &str) -> std::process::Output {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.pin.display())).args(line.split(' ')).output().unwrap()
    }

    fn run(&self, line: &str) -> String {
        let output = self.try_run(line);
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn mac(&self, link: &str) -> Mac {
        let shown: Value = serde_json::from_str(&self.run(&format!("ip -json link show dev {link}"))).unwrap();
        shown[0]["address"].as_str().unwrap().parse().unwrap()
    }

    /// Packets of IPv4, IPv6 and ARP that came in from one.
    fn came(&self, from: Mac) -> [u64; 3] {
        ["ip", "ip6", "arp"].map(|family| {
            let shown: Value = serde_json::from_str(&self.run(&format!("nft -j list chain {family} e2e_witness came"))).unwrap();
            let rules = shown["nftables"].as_array().unwrap().iter().filter(|entry| entry["rule"]["comment"] == name_of(from));
            let parts = rules.filter_map(|entry| entry["rule"]["expr"].as_array()).flatten();
            parts.filter_map(|part| part["counter"]["packets"].as_u64()).sum()
        })
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for family in ["ip", "ip6", "arp"] {
            self.try_run(&format!("nft delete table {family} e2e_witness"));
        }
        for name in [OWN_PORT.0, UPLINK.0] {
            self.try_run(&format!("ip link del {name}"));
        }
        self.try_run(&format!("ip address del {NODE4}/24 dev {}", self.bridge));
        self.try_run(&format!("sysctl -q -w net.ipv6.conf.{}.disable_ipv6=1", self.bridge));
    }
}

/// Ruling 8: frames to ports 5309, 2021, 9163 and ssh, over IPv4 and IPv6 link-local; net-agent section 15
#[test]
fn no_frame_of_a_guest_reaches_a_service_of_its_node() {
    let node = Node::with_image("guard-node");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    {
        let info = node.vmadm(&["info", &uuid, "network"]).ok().json();
        let (bridge, link) = (info["network"][0]["bridge"].as_str().unwrap(), info["network"][0]["interface"].as_str().unwrap());
        let bed = Bed::new(&node, bridge);
        let own = [bed.mac(bridge), bed.mac(OWN_PORT.1)];

        // What somebody on the wire sends arrives: over each protocol, at the bridge and at the port.
        let outside = NetNs::open(&bed.pin).unwrap();
        let uplink = Wire::open(&outside, UPLINK.1);
        attacks(OUTSIDE, 0x77, &own).iter().for_each(|frame| uplink.send(frame));
        until("the witness sees what comes from outside", || bed.came(OUTSIDE).iter().all(|count| *count >= 4));
        let dropped = |uuid: &str| {
            let nics = node.vmadm(&["info", uuid, "nics"]).ok().json();
            let counted = nics["nics"][0]["dropped"].as_object().unwrap().clone();
            counted.values().map(|count| count["packets"].as_u64().unwrap()).sum::<u64>()
        };
        let pid = i32::try_from(node.get(&uuid)["pid"].as_i64().unwrap()).unwrap();
        let inside = NetNs::of_pid(pid).unwrap();
        let frames = attacks(GUEST, 5, &own);
        let counted = dropped(&uuid);
        let guest = Wire::open(&inside, link);
        frames.iter().for_each(|frame| guest.send(frame));
        // A guest's own programs, with the addresses of the node's links told to it.
        for (address, mac) in [(NODE4.to_string(), own[0]), (format!("{}%{link}", link_local(own[0])), own[0])] {
            let bare = address.split('%').next().unwrap();
            let told = format!("ip neigh replace {bare} lladdr {mac} dev {link} nud permanent");
            let mut command = Command::new("nsenter");
            let output = command.arg(format!("--net=/proc/{pid}/ns/net")).args(told.split(' ')).output().unwrap();
            assert!(output.status.success(), "{told}: {}", String::from_utf8_lossy(&output.stderr));
            for port in SERVICES {
                node.guest(&uuid, &format!("echo hello | nc -w 1 {address} {port} 2>/dev/null; true"));
            }
        }
        until("the guard has judged all of them", || dropped(&uuid) >= counted + frames.len() as u64);
        assert_eq!(bed.came(GUEST), [0; 3], "a frame of the guest came through");
    }
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}
