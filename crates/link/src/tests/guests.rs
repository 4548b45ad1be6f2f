//! Two guests on one bridge: addresses, routes, traffic, counters.

use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

use super::*;
use crate::{FdbEntry, Route, VethSpec};

fn route(destination: Option<&str>, gateway: Option<&str>) -> Route {
    let destination = destination.map(|net| net.parse().unwrap());
    Route { destination, gateway: gateway.map(|ip| ip.parse().unwrap()), interface: "eth0".to_owned() }
}

/// A guest with one NIC on `br0`, its addresses `10.9.0.<n>/24` and `fd09::<n>/64`.
async fn guest(host: &Links, number: u8) -> Links {
    let netns = NetNs::create().unwrap();
    let mac = [2, 8, 0x20, 0, 0, number];
    let name = format!("vt{number}");
    let spec = VethSpec {
        host: &name,
        guest: "eth0",
        guest_mac: Some(mac),
        mtu: None,
        guest_netns: netns.as_fd(),
        bridge: Some("br0"),
        alias: None,
    };
    host.create_veth(&spec).await.unwrap();
    host.add_fdb(&name, FdbEntry { mac, vlan: None, sticky: true }).await.unwrap();
    let links = Links::open_in(netns.as_fd()).unwrap();
    for net in [format!("10.9.0.{number}/24"), format!("fd09::{number}/64")] {
        links.add_address("eth0", net.parse().unwrap()).await.unwrap();
    }
    links.set_up("eth0").await.unwrap();
    links
}

fn socket(netns: &NetNs, address: &str) -> UdpSocket {
    netns.run(|| UdpSocket::bind(address)).unwrap().unwrap_or_else(|e| panic!("bind {address}: {e}"))
}

#[tokio::test]
async fn two_guests_reach_each_other_at_once_by_ipv4_and_ipv6_and_are_counted() {
    let host = host_with_bridge().await;
    let (a, b) = (guest(&host, 1).await, guest(&host, 2).await);
    let before = host.stats("vt2").await.unwrap();
    for (from, to) in [("10.9.0.1:7000", "10.9.0.2:7000"), ("[fd09::1]:7000", "[fd09::2]:7000")] {
        // Binding to the IPv6 address works only once it is no longer tentative.
        let (sender, receiver) = (socket(a.netns(), from), socket(b.netns(), to));
        receiver.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut buffer = [0; 100];
        let arrived = (0..500).any(|_| {
            sender.send_to(b"hello", to).unwrap();
            receiver.recv_from(&mut buffer).is_ok_and(|(length, source)| &buffer[..length] == b"hello" && source.to_string() == from)
        });
        assert!(arrived, "{from} to {to}");
    }
    let after = host.stats("vt2").await.unwrap();
    assert!(after.tx_packets >= before.tx_packets + 2 && after.tx_bytes > before.tx_bytes, "{before:?} {after:?}");
    let judged = ip(host.netns(), "-s link show vt2");
    assert!(judged.contains(r#""stats64""#), "{judged}");
    assert_eq!(get(&host, "vt2").await.stats.map(|stats| stats.tx_packets >= after.tx_packets), Some(true));
}

#[tokio::test]
async fn addresses_are_set_once_listed_and_removed() {
    let host = host_with_bridge().await;
    let links = guest(&host, 1).await;
    for net in ["10.9.0.1/24", "fd09::1/64", "10.9.0.7/32", "172.16.5.4/31"] {
        links.add_address("eth0", net.parse().unwrap()).await.unwrap();
        links.add_address("eth0", net.parse().unwrap()).await.unwrap();
    }
    let nets: Vec<String> = links.addresses(Some("eth0")).await.unwrap().iter().map(|address| address.net.to_string()).collect();
    for net in ["10.9.0.1/24", "fd09::1/64", "10.9.0.7/32", "172.16.5.4/31"] {
        assert_eq!(nets.iter().filter(|found| *found == net).count(), 1, "{net} in {nets:?}");
    }
    assert!(!nets.iter().any(|net| net.starts_with("127.")), "only of the link asked for: {nets:?}");
    assert!(links.addresses(None).await.unwrap().iter().any(|address| address.net.addr().is_loopback()));
    let judged = ip(links.netns(), "addr show eth0");
    for wanted in [r#""local":"10.9.0.1","prefixlen":24,"broadcast":"10.9.0.255""#, r#""local":"fd09::1","prefixlen":64"#] {
        assert!(judged.contains(wanted), "{wanted} in {judged}");
    }
    assert!(!ip(links.netns(), "-6 addr show eth0 tentative").contains("fd09"), "{judged}");
    assert_eq!(links.add_address("eth0", "fd09::1/48".parse().unwrap()).await.unwrap_err().kind(), ErrorKind::Exists);
    links.remove_address("eth0", "10.9.0.1/24".parse().unwrap()).await.unwrap();
    links.remove_address("eth0", "10.9.0.1/24".parse().unwrap()).await.unwrap();
    assert!(!ip(links.netns(), "addr show eth0").contains(r#""local":"10.9.0.1""#));
}

#[tokio::test]
async fn default_and_other_routes_are_set_replaced_listed_and_removed() {
    let host = host_with_bridge().await;
    let links = guest(&host, 1).await;
    let routes = [
        route(None, Some("10.9.0.254")),
        route(None, Some("fd09::fe")),
        route(Some("192.168.0.0/16"), Some("10.9.0.253")),
        route(Some("198.51.100.0/24"), None),
        route(Some("fd77::/32"), Some("fd09::fe")),
    ];
    for route in &routes {
        links.add_route(route).await.unwrap();
        links.add_route(route).await.unwrap();
    }
    let found = links.routes().await.unwrap();
    for route in &routes {
        assert_eq!(found.iter().filter(|found| *found == route).count(), 1, "{route:?} in {found:?}");
    }
    let judged = ip(links.netns(), "route show");
    assert!(judged.contains(r#"{"dst":"default","gateway":"10.9.0.254","dev":"eth0""#) && !judged.contains("onlink"), "{judged}");
    assert!(ip(links.netns(), "-6 route show").contains(r#"{"dst":"default","gateway":"fd09::fe","dev":"eth0""#));
    links.add_route(&route(None, Some("10.9.0.252"))).await.unwrap();
    let judged = ip(links.netns(), "route show");
    assert!(judged.contains("10.9.0.252") && !judged.contains("10.9.0.254"), "one default route, the last: {judged}");
    for route in &routes[1..] {
        links.remove_route(route).await.unwrap();
        links.remove_route(route).await.unwrap();
    }
    let left = links.routes().await.unwrap();
    assert!(routes[1..].iter().all(|route| !left.contains(route)), "{left:?}");
}

#[tokio::test]
async fn a_gateway_outside_every_prefix_is_taken_to_be_on_the_link() {
    let host = host_with_bridge().await;
    let links = guest(&host, 1).await;
    for (gateway, family) in [("203.0.113.1", "-4"), ("2001:db8::1", "-6")] {
        links.add_route(&route(None, Some(gateway))).await.unwrap();
        let judged = ip(links.netns(), &format!("{family} route show default"));
        assert!(judged.contains(gateway) && judged.contains("onlink"), "{judged}");
    }
}

#[tokio::test]
async fn a_route_that_cannot_be_is_an_error_that_names_it() {
    let host = host_with_bridge().await;
    let links = guest(&host, 1).await;
    let error = links.add_route(&route(Some("fd00::/8"), Some("10.9.0.254"))).await.unwrap_err();
    assert!(error.to_string().contains("fd00::/8 via 10.9.0.254 on eth0"), "{error}");
    links.set_down("eth0").await.unwrap();
    let error = links.add_route(&route(None, Some("10.9.0.254"))).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Other(libc::ENETDOWN | libc::ENETUNREACH)), "{error:?}");
}
