//! Bridges that are full, with a limit of three ports.

use std::{
    net::UdpSocket,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use triton_link::{Links, NetNs, VethSpec};

use super::*;
use crate::{Port, set_port_within};

const LIMIT: u16 = 3;

struct Guest {
    netns: NetNs,
    number: u8,
    bridge: String,
}

/// Guest `number` with its address, on whatever bridge has room.
fn guest(node: &Node, bridge: &str, number: u8) -> Guest {
    let netns = NetNs::create().unwrap();
    let host = format!("vtguest{number}");
    let mac = [2, 8, 0x20, 0, 0, number];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let placed = runtime.block_on(async {
        let (links, inside) = (Links::open().unwrap(), Links::of(netns.clone()));
        let spec = VethSpec {
            host: &host,
            guest: "eth0",
            guest_mac: Some(mac),
            mtu: None,
            guest_netns: netns.as_fd(),
            bridge: Some(bridge),
            alias: None,
        };
        links.create_veth(&spec).await.unwrap();
        let port = Port { layout: &node.layout, bridge, host: &host, mac, vlan_id: 0, learning: false };
        let placed = set_port_within(&links, &port, LIMIT).await.unwrap();
        assert_eq!(set_port_within(&links, &port, LIMIT).await.unwrap(), placed, "where it is, it stays");
        inside.add_address("eth0", format!("10.5.0.{number}/24").parse().unwrap()).await.unwrap();
        inside.set_up("eth0").await.unwrap();
        placed
    });
    Guest { netns, number, bridge: placed }
}

fn socket(guest: &Guest) -> UdpSocket {
    let _inside = guest.netns.enter().unwrap();
    let socket = UdpSocket::bind((std::net::Ipv4Addr::new(10, 5, 0, guest.number), 7)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Whether a datagram from one reaches the other: links need a moment to be up, so it is sent until it is there.
fn reaches(from: &Guest, to: &Guest) -> bool {
    let (sender, receiver) = (socket(from), socket(to));
    let deadline = Instant::now() + Duration::from_secs(20);
    let word = [from.number, to.number];
    let mut buffer = [0; 8];
    while Instant::now() < deadline {
        let _ = sender.send_to(&word, (std::net::Ipv4Addr::new(10, 5, 0, to.number), 7));
        if receiver.recv(&mut buffer).is_ok_and(|length| buffer[..length] == word) {
            return true;
        }
    }
    false
}

fn ports(bridge: &str) -> Vec<String> {
    let text = run(&format!("ip -json link show master {bridge}"));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    list.as_array().unwrap().iter().map(|link| link["ifname"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn guests_beyond_a_bridge_s_room_go_to_further_ones_and_all_reach_each_other() {
    let node = Node::new();
    node.write(&format!(r#"{{"nictags":[{{"name":"admin","mac":"{NIC0}"}}]}}"#));
    let tags = node.tags();
    tags.ensure_bridges().unwrap();
    let first = tags.bridge(&tag("admin")).unwrap();
    let guests: Vec<Guest> = (1..=6).map(|number| guest(&node, &first, number)).collect();
    let bridges: Vec<&str> = guests.iter().map(|guest| guest.bridge.as_str()).collect();
    let further = [format!("{first}-1"), format!("{first}-2")];
    // The first has its uplink and two guests, each further one its trunk and two.
    assert_eq!(bridges, [&first, &first, &further[0], &further[0], &further[1], &further[1]]);
    assert_eq!(ports(&further[1]).len(), 3, "{:?}", ports(&further[1]));
    assert!(ports(&first).iter().filter(|port| port.starts_with("tt")).count() == 2, "{:?}", ports(&first));
    for (from, to) in [(0, 1), (0, 2), (2, 5), (5, 0), (4, 5), (3, 4)] {
        assert!(reaches(&guests[from], &guests[to]), "guest {from} on {} to {to} on {}", guests[from].bridge, guests[to].bridge);
    }
    let judged = run(&format!("bridge fdb show br {}", further[0]));
    for guest in &guests[2..4] {
        let entry = judged.lines().find(|line| line.contains(&format!("02:08:20:00:00:0{}", guest.number)));
        assert!(entry.is_some_and(|entry| entry.contains("sticky") && entry.contains("static")), "{judged}");
    }
    let trunk = ports(&further[0]).into_iter().find(|port| port.starts_with("tu")).unwrap();
    assert!(run(&format!("ip -json -d link show {trunk}")).contains(r#""learning":true"#));

    // Room that was given up is taken again, and a trunk that was removed is made again.
    run("ip link del vtguest1");
    let seventh = guest(&node, &first, 7);
    assert_eq!(seventh.bridge, first);
    run(&format!("ip link del {trunk}"));
    run("ip link del vtguest4");
    let again = guest(&node, &first, 8);
    assert_eq!(again.bridge, further[0]);
    assert!(reaches(&again, &guests[1]) && reaches(&guests[5], &again));
    assert!(tags.ensure_bridges().unwrap().iter().all(|report| report.result.is_ok()));
}

#[test]
fn a_bridge_that_is_right_is_found_so_whoever_asks_and_repaired_when_it_is_not() {
    let node = Node::new();
    node.write(&format!(r#"{{"nictags":[{{"name":"admin","mac":"{NIC0}","mtu":2000}}]}}"#));
    let tags = node.tags();
    let bridge = tags.bridge(&tag("admin")).unwrap();
    // As it is after boot: made by others, without an alias, with a guest whose MTU is smaller.
    run(&format!("ip link add {bridge} address {NIC0} mtu 2000 type bridge"));
    run(&format!("ip link set nic0 mtu 2000 master {bridge} up"));
    run(&format!("ip addr add 2001:db8::5/64 dev {bridge} nodad"));
    tags.ensure_bridges().unwrap();
    run("ip link add vtsmall mtu 1400 type veth peer name small");
    run(&format!("ip link set vtsmall master {bridge}"));
    let shown = run(&format!("ip -json addr show {bridge}"));
    assert!(shown.contains(r#""mtu":2000"#), "a guest's MTU does not change the host's: {shown}");
    assert!(shown.contains("2001:db8::5"), "an address of the host stays: {shown}");
    for damage in
        ["ip link set nic0 nomaster", "ip link set nic0 down", &format!("ip link set {bridge} mtu 1500"), "ip link set nic0 name other0"]
    {
        run(damage);
        let report = tags.ensure_bridges().unwrap();
        assert!(report[0].result.is_ok(), "{damage}: {report:?}");
        let shown = run(&format!("ip -json link show master {bridge} up"));
        let nic = report[0].result.as_ref().unwrap().clone().unwrap();
        assert!(
            shown.contains(&format!("\"{nic}\"")) && run(&format!("ip -json link show {bridge}")).contains(r#""mtu":2000"#),
            "{damage}: {shown}"
        );
    }
}
