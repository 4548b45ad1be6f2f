//! Overlay networks: their tags, and their bridges on the real kernel.

use triton_link::{Links, NetNs};

use super::*;
use crate::{Fabric, FabricPart, FabricParts, Port, ensure_fabric, fabric_parts, mend_fabric, release_fabric, set_port};

/// Runs `future` to its end.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Links of networks; `tunl0` is some kernels' own.
fn left() -> Vec<String> {
    let ours = |line: &&str| ["tb", "tt", "tu"].iter().any(|prefix| line.starts_with(prefix)) && !line.starts_with("tunl");
    run("ip -br link").lines().filter(ours).map(str::to_owned).collect()
}

const RULE: &str = "-e vxlan -s svp -p svp/host=10.9.0.254 -p svp/underlay_ip=10.9.0.1 -p vxlan/listen_ip=10.9.0.1 -p mtu=1400";

fn with_rule(node: &Node, rule: &str) -> NicTags {
    node.write(&format!(r#"{{"nictags":[{{"name":"external","mac":"{NIC0}"}}],"nictag_rules":{{"sdc_overlay":"{rule}"}}}}"#));
    node.tags()
}

fn fabric(tags: &NicTags, name: &str) -> Fabric {
    tags.fabric(&tag(name)).unwrap().unwrap()
}

/// net-agent section 17
#[test]
fn a_tag_of_an_overlay_is_here_if_this_node_has_its_rule() {
    let node = Node::new();
    let tags = with_rule(&node, RULE);
    let wanted = Fabric { tag: tag("sdc_overlay/5"), vnet: 5, underlay: "10.9.0.1".parse().unwrap(), port: 4789, mtu: 1400 };
    assert_eq!(tags.fabric(&tag("sdc_overlay/5")).unwrap(), Some(wanted.clone()));
    assert_eq!(tags.bridge(&tag("sdc_overlay/5")), Some(wanted.bridge()));
    assert_ne!(wanted.bridge(), fabric(&tags, "sdc_overlay/6").bridge());
    assert_eq!(fabric(&tags, "sdc_overlay/16777215").vnet, 0x00ff_ffff);
    for other in ["other/5", "external", "sdc_overlay", "external/5"] {
        assert_eq!(tags.fabric(&tag(other)).unwrap(), None, "{other}");
    }
    assert_eq!((tags.bridge(&tag("other/5")), tags.overlays().len()), (None, 1));
    for bad in ["sdc_overlay/16777216", "sdc_overlay/x", "sdc_overlay/", "sdc_overlay/05", "sdc_overlay/5/6"] {
        let error = tags.fabric(&tag(bad)).unwrap_err().to_string();
        assert!(error.contains(bad) && error.contains("0 to 16777215"), "{error}");
        assert_eq!(tags.bridge(&tag(bad)), None);
    }
}

#[test]
fn a_rule_that_cannot_be_followed_is_named_by_whoever_needs_it() {
    let node = Node::new();
    let tags = with_rule(&node, "-e vxlan -s direct");
    let error = tags.fabric(&tag("sdc_overlay/5")).unwrap_err().to_string();
    assert!(error.contains("sdc_overlay/5") && error.contains("nictag_rules") && error.contains("svp"), "{error}");
    assert!(tags.overlays().is_empty() && tags.bridge(&tag("sdc_overlay/5")).is_none());
}

#[test]
fn a_network_is_made_once_held_and_removed_with_its_last_port() {
    let node = Node::new();
    wait(made_and_removed(&node, &with_rule(&node, RULE)));
}

async fn made_and_removed(node: &Node, tags: &NicTags) {
    let links = Links::of(NetNs::current().unwrap());
    let (here, other) = (fabric(tags, "sdc_overlay/5"), fabric(tags, "sdc_overlay/6"));
    let error = ensure_fabric(&links, &node.layout, &here).await.unwrap_err().to_string();
    assert!(error.contains("no link of this node has the underlay address 10.9.0.1"), "{error}");
    run("ip addr add 10.9.0.1/24 dev nic0");
    for _ in 0..2 {
        drop(ensure_fabric(&links, &node.layout, &here).await.unwrap());
    }
    drop(ensure_fabric(&links, &node.layout, &other).await.unwrap());
    let bridge = here.bridge();
    let [vxlan, tap] = triton_netconf::fabric_ports(&bridge);
    let judged = run("ip -json -d link");
    for wanted in [r#""ifalias":"fabric sdc_overlay/5""#, r#""mcast_snooping":0"#, r#""id":5"#, &vxlan, &tap] {
        assert!(judged.contains(wanted), "{wanted} in {judged}");
    }
    let parts = fabric_parts(&links, &tag("sdc_overlay")).await.unwrap();
    let part = parts.whole.iter().find(|part| part.tag == here.tag).unwrap();
    let index = links.get(&tap).await.unwrap().unwrap().index;
    let wanted = FabricPart { tag: here.tag.clone(), bridge: bridge.clone(), vlans: part.vlans, vxlan, tap, tap_index: index };
    assert_eq!((parts.whole.len(), part, &parts.broken), (2, &wanted, &Vec::new()));
    assert_eq!(fabric_parts(&links, &tag("other")).await.unwrap(), FabricParts::default());
    // Without guests there is nothing to mend, and a network that is gone is not made.
    run(&format!("ip link del {}", wanted.vxlan));
    assert_eq!(fabric_parts(&links, &tag("sdc_overlay")).await.unwrap().broken, std::slice::from_ref(&here.tag));
    assert!(!mend_fabric(&links, &node.layout, &here).await.unwrap());
    assert!(!mend_fabric(&links, &node.layout, &fabric(tags, "sdc_overlay/7")).await.unwrap());
    run("ip link add vt1 type veth peer name guest1");
    let port = Port { layout: &node.layout, bridge: &bridge, host: "vt1", mac: [2, 0, 0, 0, 0, 1], vlan_id: 0, learning: false };
    {
        let _hold = ensure_fabric(&links, &node.layout, &here).await.unwrap();
        set_port(&links, &port).await.unwrap();
        assert!(matches!(mend_fabric(&links, &node.layout, &here).await, Err(NicTagError::Lock(_))), "an instance is being started");
    }
    assert!(!mend_fabric(&links, &node.layout, &here).await.unwrap(), "it is whole");
    run(&format!("ip link del {}", wanted.vxlan));
    assert!(mend_fabric(&links, &node.layout, &here).await.unwrap());
    assert_eq!(fabric_parts(&links, &tag("sdc_overlay")).await.unwrap(), parts);
    assert!(!release_fabric(&links, &node.layout, &here).await.unwrap(), "a guest is there");
    run("ip link del vt1");
    for fabric in [&here, &here, &other] {
        assert!(release_fabric(&links, &node.layout, fabric).await.unwrap());
    }
    assert_eq!(left(), Vec::<String>::new());
}

#[test]
fn further_bridges_of_a_network_go_with_it() {
    let node = Node::new();
    wait(further_bridges(&node, &with_rule(&node, RULE)));
}

async fn further_bridges(node: &Node, tags: &NicTags) {
    run("ip addr add 10.9.0.1/24 dev nic0");
    let links = Links::of(NetNs::current().unwrap());
    let here = fabric(tags, "sdc_overlay/5");
    drop(ensure_fabric(&links, &node.layout, &here).await.unwrap());
    let bridge = here.bridge();
    for number in 1..=4u8 {
        run(&format!("ip link add vt{number} type veth peer name guest{number}"));
        let host = format!("vt{number}");
        let port = Port { layout: &node.layout, bridge: &bridge, host: &host, mac: [2, 0, 0, 0, 0, number], vlan_id: 0, learning: false };
        crate::set_port_within(&links, &port, 4).await.unwrap();
    }
    assert!(run("ip -br link").contains(&format!("{bridge}-1")), "two guests beside the two ports of the network, and the trunk");
    for number in [1, 2, 3, 4] {
        assert!(!release_fabric(&links, &node.layout, &here).await.unwrap(), "{number} guests are gone");
        run(&format!("ip link del vt{number}"));
    }
    assert!(release_fabric(&links, &node.layout, &here).await.unwrap());
    assert_eq!(left(), Vec::<String>::new());
}
