//! Pairs.

use std::os::fd::AsFd;

use super::*;
use crate::{LinkKind, VethSpec};

const MAC: [u8; 6] = [2, 8, 0x20, 1, 2, 3];

fn spec<'a>(host: &'a str, guest: &'a NetNs) -> VethSpec<'a> {
    VethSpec {
        host,
        guest: "eth0",
        guest_mac: Some(MAC),
        mtu: Some(1400),
        guest_netns: guest.as_fd(),
        bridge: Some("br0"),
        alias: Some("instance x eth0"),
    }
}

#[tokio::test]
async fn both_ends_are_as_asked_and_the_guest_end_is_down() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    links.create_veth(&spec("vt0", &guest)).await.unwrap();
    let host = ip(links.netns(), "-d link show vt0");
    for wanted in [r#""mtu":1400"#, r#""master":"br0""#, r#""ifalias":"instance x eth0""#, r#""UP""#, r#""inet6_addr_gen_mode":"none""#] {
        assert!(host.contains(wanted), "{wanted} in {host}");
    }
    let inside = ip(&guest, "-d link show eth0");
    assert!(inside.contains(r#""address":"02:08:20:01:02:03""#) && inside.contains(r#""mtu":1400"#), "{inside}");
    assert!(!inside.contains(r#""UP""#), "{inside}");
    assert!(!ip(links.netns(), "link show").contains(r#""ifname":"eth0""#), "the guest end was never here");
}

#[tokio::test]
async fn an_mtu_too_small_for_ipv6_is_no_obstacle() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    links.create_veth(&VethSpec { mtu: Some(576), ..spec("vt0", &guest) }).await.unwrap();
    let host = ip(links.netns(), "-d link show vt0");
    assert!([r#""mtu":576"#, r#""UP""#, r#""learning":false"#].iter().all(|wanted| host.contains(wanted)), "{host}");
}

#[tokio::test]
async fn a_left_over_of_the_same_name_is_replaced() {
    let links = host_with_bridge().await;
    let (old, new) = (NetNs::create().unwrap(), NetNs::create().unwrap());
    links.create_veth(&spec("vt0", &old)).await.unwrap();
    links.create_veth(&spec("vt0", &new)).await.unwrap();
    assert!(ip(&new, "link show").contains("eth0"));
    assert!(!ip(&old, "link show").contains("eth0"));
}

#[tokio::test]
async fn a_pair_can_be_made_again_while_the_namespace_of_the_old_one_is_being_destroyed() {
    let links = host_with_bridge().await;
    for _ in 0..10 {
        let old = NetNs::create().unwrap();
        links.create_veth(&spec("vt0", &old)).await.unwrap();
        drop(old);
        let new = NetNs::create().unwrap();
        links.create_veth(&spec("vt0", &new)).await.unwrap();
        assert!(ip(&new, "link show").contains("eth0"));
    }
}

#[tokio::test]
async fn a_link_of_another_kind_is_never_removed_for_a_pair() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    links.ensure_bridge(&crate::BridgeSpec::new("vt0")).await.unwrap();
    let error = links.create_veth(&spec("vt0", &guest)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(get(&links, "vt0").await.kind, LinkKind::Bridge);
}

#[tokio::test]
async fn a_pair_that_cannot_be_made_leaves_nothing() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    links.create_veth(&spec("vt0", &guest)).await.unwrap();
    let error = links.create_veth(&spec("vt1", &guest)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists, "the guest has an eth0");
    assert!(error.to_string().contains("vt1") && error.to_string().contains("eth0"), "{error}");
    let error = links.create_veth(&VethSpec { bridge: Some("nosuch0"), ..spec("vt2", &guest) }).await.unwrap_err();
    assert!(error.to_string().contains("nosuch0") && error.kind() == ErrorKind::NoDevice, "{error}");
    let long = "x".repeat(256);
    links.create_veth(&VethSpec { alias: Some(&long), ..spec("vt3", &guest) }).await.unwrap_err();
    let names: Vec<String> = links.list().await.unwrap().into_iter().map(|link| link.name).collect();
    assert!(!names.iter().any(|name| ["vt1", "vt2", "vt3"].contains(&name.as_str())), "{names:?}");
    assert!(names.contains(&"vt0".to_owned()));
}

#[tokio::test]
async fn a_hundred_pairs_are_made_listed_at_once_and_leave_nothing() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    let names: Vec<String> = (0..100).map(|number| format!("vt{number}")).collect();
    for name in &names {
        links.create_veth(&VethSpec { guest: name, guest_mac: None, ..spec(name, &guest) }).await.unwrap();
    }
    let listed = links.list().await.unwrap();
    assert_eq!(listed.iter().filter(|link| link.kind == LinkKind::Veth && link.up).count(), 100);
    assert_eq!(links.ports("br0").await.unwrap().len(), 100);
    for name in &names {
        assert!(links.delete(name).await.unwrap());
    }
    let left: Vec<String> = links.list().await.unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(left.iter().filter(|name| name.starts_with("vt")).count(), 0, "{left:?}");
    assert!(!ip(&guest, "link show").contains("vt"), "and none in the guest");
}

#[tokio::test]
async fn a_link_is_renamed_changed_and_moved() {
    let links = host_with_bridge().await;
    let guest = NetNs::create().unwrap();
    links.create_veth(&spec("vt0", &guest)).await.unwrap();
    links.set_bridge("vt0", None).await.unwrap();
    links.set_down("vt0").await.unwrap();
    links.rename("vt0", "other0").await.unwrap();
    links.rename("vt0", "other0").await.unwrap();
    assert_eq!(links.rename("nosuch0", "nosuch1").await.unwrap_err().kind(), ErrorKind::NoDevice);
    links.set_mac("other0", MAC).await.unwrap();
    links.set_mtu("other0", 1300).await.unwrap();
    let there = NetNs::create().unwrap();
    links.move_to_netns("other0", there.as_fd(), Some("eth7")).await.unwrap();
    assert!(links.get("other0").await.unwrap().is_none());
    let judged = ip(&there, "link show eth7");
    assert!(judged.contains(r#""mtu":1300"#) && judged.contains("02:08:20:01:02:03"), "{judged}");
}
