//! Bridges and their ports.

use super::*;
use crate::{BridgeSpec, BridgeVlan, Capabilities, FdbEntry, LinkKind, PortFlags, VethSpec};

const MAC: [u8; 6] = [2, 8, 0x20, 1, 2, 3];

fn spec() -> BridgeSpec<'static> {
    BridgeSpec { mtu: Some(9000), mac: Some(MAC), alias: Some("tags: admin"), ..BridgeSpec::new("br0") }
}

async fn port(links: &Links, guest: &NetNs, name: &str) {
    use std::os::fd::AsFd;
    let spec = VethSpec {
        host: name,
        guest: name,
        guest_mac: None,
        mtu: Some(1400),
        guest_netns: guest.as_fd(),
        bridge: Some("br0"),
        alias: None,
    };
    links.create_veth(&spec).await.unwrap();
}

#[tokio::test]
async fn a_bridge_is_made_once_and_made_right_again() {
    let links = Links::of(NetNs::create().unwrap());
    let first = links.ensure_bridge(&spec()).await.unwrap();
    assert_eq!((first.kind.clone(), first.mtu, first.mac, first.up), (LinkKind::Bridge, 9000, Some(MAC), true));
    links.set_mtu("br0", 1500).await.unwrap();
    links.set_alias("br0", "").await.unwrap();
    links.set_down("br0").await.unwrap();
    links.set_mac("br0", [2; 6]).await.unwrap();
    let second = links.ensure_bridge(&spec()).await.unwrap();
    assert_eq!(Link { stats: None, carrier: false, ..second }, Link { stats: None, carrier: false, ..first });
    let judged = ip(links.netns(), "-d link show br0");
    for wanted in [r#""ifalias":"tags: admin""#, r#""mtu":9000"#, r#""address":"02:08:20:01:02:03""#, r#""UP""#, r#""stp_state":0"#] {
        assert!(judged.contains(wanted), "{wanted} in {judged}");
    }
}

#[tokio::test]
async fn a_bridge_has_no_ipv6_and_answers_arp_for_itself_only() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    Links::of(guest).set_up("vt0").await.unwrap();
    eventually("carrier", async || get(&links, "br0").await.carrier).await;
    let judged = ip(links.netns(), "-6 addr show");
    assert!(!judged.contains("fe80"), "neither bridge nor port has a link-local address: {judged}");
    let read = |path: &str| std::fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned();
    let values = links.netns().run(|| ["ipv6/conf/br0/disable_ipv6", "ipv4/conf/br0/arp_ignore", "ipv4/conf/br0/arp_announce"].map(read));
    assert_eq!(values.unwrap(), ["1", "1", "2"]);
}

#[tokio::test]
async fn a_bridge_keeps_its_mtu_and_mac_when_ports_come_and_go() {
    let links = Links::of(NetNs::create().unwrap());
    let guest = NetNs::create().unwrap();
    for mtu in [1500, 9000] {
        let wanted = BridgeSpec { mtu: Some(mtu), ..spec() };
        links.ensure_bridge(&wanted).await.unwrap();
        port(&links, &guest, "vt0").await;
        let bridge = get(&links, "br0").await;
        assert_eq!((bridge.mtu, bridge.mac), (mtu, Some(MAC)));
        links.delete("vt0").await.unwrap();
        let bridge = get(&links, "br0").await;
        assert_eq!((bridge.mtu, bridge.mac), (mtu, Some(MAC)));
        links.delete("br0").await.unwrap();
    }
}

#[tokio::test]
async fn a_link_of_another_kind_is_not_taken_for_the_bridge() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    let error = links.ensure_bridge(&BridgeSpec::new("vt0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert!(error.to_string().contains("vt0"));
    assert_eq!(get(&links, "vt0").await.kind, LinkKind::Veth);
}

#[tokio::test]
async fn ports_are_listed_and_moved() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    port(&links, &guest, "vt1").await;
    let names = |ports: Vec<Link>| ports.into_iter().map(|port| port.name).collect::<Vec<_>>();
    assert_eq!(names(links.ports("br0").await.unwrap()), ["vt0", "vt1"]);
    links.set_bridge("vt0", None).await.unwrap();
    links.set_bridge("vt0", None).await.unwrap();
    assert_eq!(names(links.ports("br0").await.unwrap()), ["vt1"]);
    links.set_bridge("vt0", Some("br0")).await.unwrap();
    links.set_bridge("vt0", Some("br0")).await.unwrap();
    assert!(ip(links.netns(), "link show vt0").contains(r#""master":"br0""#));
}

#[tokio::test]
async fn flags_of_a_port_are_set_one_by_one() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    let judge = || ip(links.netns(), "-d link show vt0");
    for wanted in [r#""learning":false"#, r#""flood":false"#, r#""mcast_flood":true"#, r#""bcast_flood":true"#] {
        assert!(judge().contains(wanted), "{wanted} in {}", judge());
    }
    links.set_port("vt0", PortFlags { learning: Some(true), isolated: Some(true), ..PortFlags::default() }).await.unwrap();
    for wanted in [r#""learning":true"#, r#""flood":false"#, r#""isolated":true"#] {
        assert!(judge().contains(wanted), "{wanted} in {}", judge());
    }
    links.set_port("vt0", PortFlags::UPLINK).await.unwrap();
    assert!(judge().contains(r#""flood":true"#));
}

#[tokio::test]
async fn a_static_entry_is_sticky_and_moves_only_when_told() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    port(&links, &guest, "vt1").await;
    let entry = FdbEntry { mac: MAC, vlan: None, sticky: true };
    for _ in 0..2 {
        links.add_fdb("vt0", entry).await.unwrap();
    }
    // Where the kernel knows VLANs, an entry without one is there for the port's own VLANs too.
    let everywhere = |list: &[FdbEntry]| list.contains(&entry) && list.iter().all(|one| FdbEntry { vlan: None, ..*one } == entry);
    assert!(everywhere(&links.fdb("vt0").await.unwrap()));
    assert_eq!(links.fdb("vt1").await.unwrap(), []);
    let bridge = || std::process::Command::new("bridge").args(["fdb", "show", "br", "br0"]).output().unwrap();
    let judged = String::from_utf8(links.netns().run(bridge).unwrap().stdout).unwrap();
    let line = judged.lines().find(|line| line.contains("02:08:20:01:02:03")).unwrap();
    assert!(["dev vt0", "sticky", "static"].iter().all(|word| line.contains(word)), "{line}");
    links.add_fdb("vt1", entry).await.unwrap();
    assert_eq!(links.fdb("vt0").await.unwrap(), []);
    assert!(everywhere(&links.fdb("vt1").await.unwrap()));
    links.remove_fdb("vt1", entry).await.unwrap();
    assert_eq!(links.fdb("vt1").await.unwrap(), []);
}

#[tokio::test]
async fn vlans_work_exactly_where_the_probe_says_so() {
    let links = Links::of(NetNs::create().unwrap());
    // Without any bridge it is tried, with one it is seen: both say the same.
    let capabilities = Capabilities::probe(&links).await.unwrap();
    links.ensure_bridge(&BridgeSpec::new("another")).await.unwrap();
    assert_eq!(Capabilities::probe(&links).await.unwrap(), capabilities);
    let filtering = links.ensure_bridge(&BridgeSpec { vlan_filtering: true, ..spec() }).await;
    if !capabilities.vlan_filtering {
        assert_eq!(filtering.unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(links.get("br0").await.unwrap().is_none(), "nothing is left of a bridge that cannot be made");
        links.ensure_bridge(&spec()).await.unwrap();
    }
    let guest = NetNs::create().unwrap();
    port(&links, &guest, "vt0").await;
    let vlan = BridgeVlan { vid: 5, pvid: true, untagged: true };
    let added = links.add_vlan("vt0", vlan).await;
    if capabilities.vlan_filtering {
        added.unwrap();
        links.remove_vlan("vt0", 1).await.unwrap();
        links.remove_vlan("vt0", 1).await.unwrap();
        assert_eq!(links.vlans("vt0").await.unwrap(), [vlan]);
    } else {
        let error = added.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("vt0") && error.to_string().contains("VLAN 5"), "{error}");
        assert_eq!(links.vlans("vt0").await.unwrap(), []);
    }
    assert!(links.add_vlan("vt0", BridgeVlan { vid: 4095, ..vlan }).await.is_err());
}

#[tokio::test]
async fn a_vlan_link_is_made_once_or_typed_as_unsupported() {
    let links = host_with_bridge().await;
    match links.ensure_vlan_link("br0.5", "br0", 5).await {
        Ok(()) => {
            links.ensure_vlan_link("br0.5", "br0", 5).await.unwrap();
            assert_eq!(links.ensure_vlan_link("br0.5", "br0", 6).await.unwrap_err().kind(), ErrorKind::Exists);
            assert!(ip(links.netns(), "-d link show br0.5").contains(r#""id":5"#));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error:?}"),
    }
    assert_eq!(links.ensure_vlan_link("x", "nosuch0", 5).await.unwrap_err().kind(), ErrorKind::NoDevice);
}
