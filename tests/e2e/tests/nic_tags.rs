//! CNAPI tells a node's NIC tags (cn-agent.md section 3.10), on real links.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::process::Command;

use serde_json::json;
use triton_e2e::{Headnode, Node};

const A: &str = "02:08:20:aa:00:01";
const B: &str = "02:08:20:aa:00:02";

/// cn-agent case 42
#[test]
fn a_tag_moves_between_nics_is_deleted_with_its_own_and_stays_on_others() {
    let node = Node::new("nic-tags");
    let headnode = Headnode::start(&node);
    let net = format!("--net={}", node.layout().namespaces().join("net").display());
    for (name, mac) in [("nica", A), ("nicb", B)] {
        let made = Command::new("nsenter").args([&net, "ip", "link", "add", name, "address", mac, "type", "dummy"]).status().unwrap();
        assert!(made.success());
    }
    let tags = || {
        let list = node.run("nictagadm", &["list", "-p", "-d", "|"]).ok().stdout;
        let tags = list.lines().map(|line| line.split('|').take(2).collect::<Vec<_>>().join("="));
        let mut tags: Vec<String> = tags.filter(|tag| tag.contains("02:08:20:aa") || tag.contains("2:8:20:aa")).collect();
        tags.sort();
        tags
    };
    let first = tags();
    assert!(first.is_empty(), "{first:?}");
    let update = |nics: serde_json::Value| {
        let reply = headnode.task("server_update_nics", &json!({"nics": nics}));
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
        tags()
    };
    let on = |tag: &str, mac: &str| format!("{tag}={mac}");
    let both = update(json!([{"mac": A, "nic_tags_provided": ["one", "two"]}]));
    assert_eq!(both, [on("one", A), on("two", A)]);
    assert_eq!(update(json!([{"mac": B, "nic_tags_provided": ["one"]}])), [on("one", B), on("two", A)], "moved; A was not spoken of");
    assert_eq!(update(json!([{"mac": A}])), [on("one", B), on("two", A)], "without the property nothing is said");
    assert_eq!(update(json!([{"mac": A, "nic_tags_provided": []}])), [on("one", B)], "deleted from A alone");
    // The first NIC that names a tag has it.
    let twice = json!([{"mac": A, "nic_tags_provided": ["one"]}, {"mac": B, "nic_tags_provided": ["one"]}]);
    assert_eq!(update(twice), [on("one", A)]);
    // It is in sysinfo, where CNAPI looks for it.
    let sysinfo = headnode.task("server_sysinfo", &json!({})).json();
    assert_eq!(sysinfo["sysinfo"]["Network Interfaces"]["nica"]["NIC Names"], json!(["one"]), "{sysinfo:#}");
}
