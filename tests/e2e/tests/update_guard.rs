//! What a running guest's NICs may send follows an update at once.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

/// instances case 48
#[test]
fn spoofing_is_allowed_and_forbidden_without_a_reboot() {
    let node = Node::with_image("update-guard");
    let before = node.traces();
    let [guest, other] = [5, 6].map(|number| node.create(&node.payload(number)));
    let pid = node.get(&guest)["pid"].clone();
    let reaches = |source: &str| {
        let ping = format!("ping -c 5 -i 0.2 -W 1 -I {source} 10.64.0.6 >/dev/null 2>&1 && echo yes || echo no");
        node.guest(&guest, &ping).trim() == "yes"
    };
    let update = |nic: Value| {
        let mut nic = nic;
        nic["mac"] = "02:08:20:00:00:05".into();
        let outcome = node.run_with("vmadm", &["update", &guest], &json!({ "update_nics": [nic] }).to_string(), &[]).ok();
        assert_eq!(outcome.stderr.trim(), format!("Successfully updated VM {guest}"), "nothing waits for a boot");
        node.get(&guest)["nics"][0].clone()
    };
    node.guest(&guest, "ip address add 10.64.0.66/24 dev eth0");
    assert!(reaches("10.64.0.5") && !reaches("10.64.0.66"));
    assert_eq!(update(json!({"allow_ip_spoofing": true}))["allow_ip_spoofing"], true);
    assert!(reaches("10.64.0.66"));
    assert!(update(json!({"allow_ip_spoofing": false})).get("allow_ip_spoofing").is_none());
    assert!(!reaches("10.64.0.66"));
    update(json!({"allowed_ips": ["10.64.0.66"]}));
    assert!(reaches("10.64.0.66"), "an address that is allowed beside its own");
    assert_eq!(node.get(&guest)["pid"], pid, "nothing was rebooted");
    for uuid in [&guest, &other] {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(&node, &before);
}
