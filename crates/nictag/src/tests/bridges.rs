//! Bridges on the real kernel.

use super::*;
use crate::{NicTagError, Port, TagProblem, check_vlan, set_port, vlan_support};

fn two_tags_on_nic0(node: &Node, mtu: u32) -> NicTags {
    node.write(&format!(
        r#"{{"nictags":[{{"name":"external","mac":"{NIC0}","mtu":{mtu}}},{{"name":"admin","mac":"{NIC0}"}},{{"name":"inner"}}]}}"#
    ));
    node.tags()
}

#[test]
fn tags_of_one_nic_share_a_bridge_with_the_nic_as_its_way_out() {
    let node = Node::new();
    let tags = two_tags_on_nic0(&node, 9000);
    let mut judged = String::new();
    for _ in 0..2 {
        let report = tags.ensure_bridges().unwrap();
        let uplinks: Vec<_> = report.iter().map(|report| (report.tag.as_str(), report.result.as_ref().unwrap().as_deref())).collect();
        assert_eq!(uplinks, [("admin", Some("nic0")), ("external", Some("nic0")), ("inner", None)]);
        judged = run("ip -json -d link show type bridge");
    }
    let (shared, inner) = (tags.bridge(&tag("admin")).unwrap(), tags.bridge(&tag("inner")).unwrap());
    for wanted in [r#""ifalias":"nictags: external,admin via nic0""#, r#""ifalias":"nictags: inner""#, r#""mtu":9000"#, &shared, &inner] {
        assert!(judged.contains(wanted), "{wanted} in {judged}");
    }
    assert_eq!(judged.matches("ifname").count(), 2);
    let nic = run("ip -json -d link show nic0");
    for wanted in [&format!(r#""master":"{shared}""#), r#""mtu":9000"#, r#""learning":true"#, r#""UP""#] {
        assert!(nic.contains(wanted), "{wanted} in {nic}");
    }
    for link in ["nic0", &shared, &inner] {
        assert!(!run(&format!("ip -json addr show {link}")).contains("local"), "{link} has no address of any kind");
    }
}

#[test]
fn a_nic_with_an_address_is_left_alone_and_reported() {
    let node = Node::new();
    run("ip addr add 10.1.2.3/24 dev nic0");
    let tags = two_tags_on_nic0(&node, 1500);
    let report = tags.ensure_bridges().unwrap();
    for report in &report[..2] {
        let problem = report.result.as_ref().unwrap_err();
        assert!(matches!(problem, TagProblem::UplinkHasAddress { .. }));
        assert!(problem.to_string().contains("nic0") && problem.to_string().contains("10.1.2.3/24"), "{problem}");
    }
    assert!(report[2].result.is_ok());
    assert!(!run("ip -json link show nic0").contains("master") && run("ip addr show nic0").contains("10.1.2.3/24"));
    assert!(run("ip -json link show type bridge").contains(&tags.bridge(&tag("admin")).unwrap()), "instances can start");
    run("ip addr del 10.1.2.3/24 dev nic0");
    assert!(tags.ensure_bridges().unwrap().iter().all(|report| report.result.is_ok()), "attached once it is free");
}

#[test]
fn a_nic_that_is_missing_or_belongs_to_somebody_else_is_reported() {
    let node = Node::new();
    run("ip link add theirs type bridge");
    run("ip link set nic0 master theirs");
    node.write(&format!(r#"{{"nictags":[{{"name":"a","mac":"{NIC0}"}},{{"name":"b","mac":"02:00:00:00:00:99"}}]}}"#));
    let report = node.tags().ensure_bridges().unwrap();
    assert!(matches!(report[0].result.as_ref().unwrap_err(), TagProblem::UplinkBusy { master, .. } if master == "theirs"));
    assert!(matches!(report[1].result.as_ref().unwrap_err(), TagProblem::NoSuchNic(_)));
    assert!(run("ip -json link show nic0").contains(r#""master":"theirs""#));
}

#[test]
fn a_link_that_has_the_name_of_our_bridge_is_not_touched() {
    let node = Node::new();
    let tags = two_tags_on_nic0(&node, 1500);
    let name = tags.bridge(&tag("inner")).unwrap();
    run(&format!("ip link set nic1 name {name}"));
    let report = tags.ensure_bridges().unwrap();
    let problem = report[2].result.as_ref().unwrap_err();
    assert!(matches!(problem, TagProblem::Refused(_)) && problem.to_string().contains(&name), "{problem}");
    assert!(report[0].result.is_ok());
    assert!(run(&format!("ip -json -d link show {name}")).contains(r#""info_kind":"veth""#));
}

#[test]
fn the_list_is_sorted_and_shows_what_is_up() {
    let node = Node::new();
    let tags = two_tags_on_nic0(&node, 1500);
    let before = tags.list().unwrap();
    assert!(before.iter().all(|status| !status.bridge_exists && !status.up));
    assert_eq!(before[0].uplink.as_deref(), Some("nic0"));
    tags.ensure_bridges().unwrap();
    let list = tags.list().unwrap();
    let shown: Vec<_> = list.iter().map(|s| (s.tag.name.as_str(), s.uplink.as_deref(), s.bridge_exists, s.up)).collect();
    assert_eq!(shown, [("admin", Some("nic0"), true, true), ("external", Some("nic0"), true, true), ("inner", None, true, true)]);
    run("ip link set nic0 down");
    assert!(!tags.list().unwrap()[0].up);
}

#[test]
fn vlans_are_refused_with_the_reason() {
    for vlan_id in [1, 4095, 5000] {
        assert!(check_vlan(vlan_id).unwrap_err().to_string().contains("not allowed"));
    }
    check_vlan(0).unwrap();
    let support = vlan_support().unwrap();
    for vlan_id in [2, 4094] {
        match check_vlan(vlan_id) {
            Ok(()) => assert!(support),
            Err(error) => assert!(!support && error.to_string().contains("no bridge VLAN filtering"), "{error}"),
        }
    }
}

#[test]
fn the_calls_work_from_within_a_runtime() {
    let node = Node::new();
    let tags = two_tags_on_nic0(&node, 1500);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(tags.ensure_bridges().unwrap().len(), 3);
        check_vlan(0).unwrap();
    });
}

#[test]
fn a_port_of_an_instance_has_its_static_entry_or_learns() {
    let node = Node::new();
    let tags = two_tags_on_nic0(&node, 1500);
    tags.ensure_bridges().unwrap();
    let bridge = tags.bridge(&tag("admin")).unwrap();
    run("ip link add vtx type veth peer name peerx");
    run(&format!("ip link set vtx master {bridge}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let links = triton_link::Links::open().unwrap();
    let mac = [2, 8, 0x20, 0, 0, 1];
    let port = Port { layout: &node.layout, bridge: &bridge, host: "vtx", mac, vlan_id: 0, learning: false };
    let entries = || -> Vec<String> {
        run("bridge fdb show dev vtx").lines().filter(|line| line.contains("02:08:20:00:00:01")).map(str::to_owned).collect()
    };
    for _ in 0..2 {
        runtime.block_on(set_port(&links, &port)).unwrap();
        assert!(!entries().is_empty() && entries().iter().all(|e| e.contains("sticky") && e.contains("static")), "{:?}", entries());
        let shown = run("ip -json -d link show vtx");
        assert!(shown.contains(r#""learning":false"#) && shown.contains(r#""flood":false"#), "{shown}");
        runtime.block_on(set_port(&links, &Port { learning: true, ..port })).unwrap();
        assert!(entries().is_empty() && run("ip -json -d link show vtx").contains(r#""learning":true"#), "{:?}", entries());
    }
    if !vlan_support().unwrap() {
        let error = runtime.block_on(set_port(&links, &Port { vlan_id: 5, ..port })).unwrap_err();
        assert!(matches!(&error, NicTagError::Link(error) if error.kind() == triton_link::ErrorKind::Unsupported), "{error}");
    }
    let error = runtime.block_on(set_port(&links, &Port { host: "vtnone", ..port })).unwrap_err();
    assert!(error.to_string().contains("vtnone"));
}
