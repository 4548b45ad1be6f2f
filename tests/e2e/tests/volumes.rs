//! Private volumes of instances (instances.md section 2.5), as their guests see them: on a booted node each is a dataset of its own,
//! elsewhere a directory.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::process::Command;

use serde_json::json;
use triton_e2e::{Node, assert_no_trace};

const VOLUME: &str = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c12";

/// instances section 2.5, cases 67 and 70
#[test]
fn a_volume_follows_snapshots_another_image_and_the_end_of_its_instance() {
    let node = Node::with_image("volumes");
    let image = node.second_image();
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["filesystems"] = json!([{"type": "lofs", "source": VOLUME, "target": "/volume"}]);
    let uuid = node.create(&payload);
    let source = format!("/zones/{uuid}/volumes/{VOLUME}");
    assert_eq!(node.get(&uuid)["filesystems"][0]["source"], source);
    assert_eq!(node.guest(&uuid, "echo one >/volume/file; stat -c %u:%g /volume/file"), "0:0\n", "it is the guest's own");
    if node.is_machine() {
        let words = ["get", "-H", "-o", "value", "mounted", source.trim_start_matches('/')];
        assert_eq!(String::from_utf8_lossy(&Command::new("zfs").args(words).output().unwrap().stdout), "yes\n");
    }
    node.vmadm(&["create-snapshot", &uuid, "s"]).ok();
    node.guest(&uuid, "echo two >/volume/file; echo two >/file");
    node.vmadm(&["rollback-snapshot", &uuid, "s"]).ok();
    assert_eq!(node.guest(&uuid, "cat /volume/file; ls /file 2>&1 | wc -l; touch /volume/again && echo writable"), "one\n1\nwritable\n");
    node.vmadm(&["delete-snapshot", &uuid, "s"]).ok();
    node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": image}).to_string(), &[]).ok();
    assert_eq!(node.guest(&uuid, "cat /volume/file"), "one\n");
    node.vmadm(&["stop", "-F", &uuid]).ok();
    node.vmadm(&["start", &uuid]).ok();
    assert_eq!(node.guest(&uuid, "cat /volume/file"), "one\n");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}
