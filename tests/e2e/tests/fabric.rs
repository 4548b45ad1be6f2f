//! An instance with a NIC of an overlay network: its links come with it and go with it. Frames between nodes are in net-agent's tests.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::process::Command;

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

/// Runs a command in the node's network namespace.
fn run(node: &Node, line: &str) -> String {
    let pin = node.layout().namespaces().join("net");
    let output = Command::new("nsenter").arg(format!("--net={}", pin.display())).args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// net-agent sections 14 and 17, instances case 36
#[test]
fn an_overlay_network_comes_with_its_first_instance_and_goes_with_its_last() {
    let node = Node::with_image("fabric");
    let before = node.traces();
    let path = node.layout().config().join("triton-networking.json");
    let kept = std::fs::read(&path).unwrap();
    let payload = |last: u8| {
        let mut payload = node.payload(last);
        payload["nics"] =
            json!([{"nic_tag": "sdc_overlay/5", "mac": format!("90:b8:d0:00:00:{last:02x}"), "ips": [format!("192.168.128.{last}/24")]}]);
        payload
    };
    // Without a rule the tag is unknown; with one, and no underlay, an instance is stored but does not start.
    let refused = node.run_with("vmadm", &["create"], &payload(5).to_string(), &[]);
    assert!(refused.code != Some(0) && refused.stderr.contains("sdc_overlay/5"), "{}", refused.stderr);
    let mut document: Value = serde_json::from_slice(&kept).unwrap();
    document["nictag_rules"] = json!({"sdc_overlay": "-e vxlan -s svp -p svp/host=10.9.0.254 -p svp/underlay_ip=10.9.0.1 -p vxlan/listen_ip=10.9.0.1 -p mtu=1400"});
    std::fs::write(&path, document.to_string()).unwrap();
    run(&node, "ip link add e2eunder type veth peer name e2ewire");
    run(&node, "ip addr add 10.9.0.1/24 dev e2eunder");
    run(&node, "ip link set e2eunder up");
    let (first, second) = (node.create(&payload(5)), node.create(&payload(6)));
    let shown = node.guest(&first, "ip link show eth0");
    assert!(shown.contains("mtu 1400"), "{shown}");
    let networks = || run(&node, "ip -d link").matches("alias fabric sdc_overlay/5").count();
    assert_eq!(networks(), 2, "bridge and device: {}", run(&node, "ip -d link"));
    let guarded = run(&node, "nft list table bridge triton_guard");
    assert!(guarded.contains("90:b8:d0:00:00:05") && guarded.contains("192.168.128.5"), "{guarded}");
    assert!(node.guest(&first, "ping -c 1 -W 5 192.168.128.6 || echo unreached").contains("bytes from"));
    node.vmadm(&["stop", &first, "-F"]).ok();
    assert_eq!(networks(), 2, "the other one runs");
    node.vmadm(&["stop", &second, "-F"]).ok();
    assert_eq!(networks(), 0, "{}", run(&node, "ip -d link"));
    run(&node, "ip addr flush dev e2eunder");
    let refused = node.vmadm(&["start", &first]);
    assert!(refused.stderr.contains("no link of this node has the underlay address 10.9.0.1"), "{}", refused.stderr);
    for uuid in [&first, &second] {
        node.vmadm(&["delete", uuid]).ok();
    }
    run(&node, "ip link del e2eunder");
    std::fs::write(&path, kept).unwrap();
    assert_no_trace(&node, &before);
}
