//! What a guest can and cannot do on the wire: from inside it, as its root.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::process::Command;

use serde_json::json;
use triton_e2e::{Node, assert_no_trace, until};

/// True if the guest reaches `target` with two of five tries at most.
fn reaches(node: &Node, uuid: &str, target: &str, more: &str) -> bool {
    node.guest(uuid, &format!("ping -c 5 -i 0.2 -W 1 {more} {target} >/dev/null 2>&1 && echo yes || echo no")).trim() == "yes"
}

fn ruleset(node: &Node) -> String {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", node.layout().namespaces().join("net").display())).args(["nft", "list", "ruleset", "bridge"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// net-agent cases 60, 63, 72, 75, 77
#[test]
fn a_guests_root_cannot_send_as_another_whatever_it_configures() {
    let node = Node::with_image("guard");
    let before = node.traces();
    let [attacker, victim] = [5, 6].map(|number| node.create(&node.payload(number)));
    assert!(reaches(&node, &attacker, "10.64.0.6", ""));
    node.guest(&attacker, "ip address add 10.64.0.66/24 dev eth0");
    assert!(!reaches(&node, &attacker, "10.64.0.6", "-I 10.64.0.66"), "an address that is not its own");
    assert!(reaches(&node, &attacker, "10.64.0.6", "-I 10.64.0.5"), "its own address works beside it");
    let nics = node.vmadm(&["info", &attacker, "nics"]).ok().json()["nics"].clone();
    assert!(nics[0]["dropped"]["ipspoofed"]["packets"].as_u64().is_some_and(|count| count >= 1), "{nics:#}");
    assert!(nics[0]["dropped"]["dhcpspoofed"]["packets"] == 0 && nics[0]["interface"] == "eth0" && nics[0]["learned"] == json!([]));
    let mac = node.get(&attacker)["nics"][0]["mac"].as_str().unwrap().to_owned();
    node.guest(&attacker, "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:77; ip link set eth0 up");
    assert!(!reaches(&node, &attacker, "10.64.0.6", ""), "a MAC address that is not its own");
    node.guest(&attacker, &format!("ip link set eth0 down; ip link set eth0 address {mac}; ip link set eth0 up"));
    assert!(reaches(&node, &attacker, "10.64.0.6", ""), "its own again");
    // A reboot keeps the guard, a stop ends it for this instance alone.
    let pid = node.get(&attacker)["pid"].clone();
    node.vmadm(&["reboot", &attacker]).ok();
    until("it booted again", || node.get(&attacker)["state"] == "running" && node.get(&attacker)["pid"] != pid);
    node.guest(&attacker, "ip address add 10.64.0.66/24 dev eth0");
    assert!(!reaches(&node, &attacker, "10.64.0.6", "-I 10.64.0.66"));
    let address = "10.64.0.5";
    assert!(ruleset(&node).contains(address));
    node.vmadm(&["stop", &attacker, "-F"]).ok();
    assert!(!ruleset(&node).contains(address) && ruleset(&node).contains("10.64.0.6"));
    for uuid in [&attacker, &victim] {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_eq!(ruleset(&node).trim(), "");
    assert_no_trace(&node, &before);
}

/// net-agent cases 68, 79, 80
#[test]
fn what_a_nic_is_allowed_it_can_do() {
    let node = Node::with_image("allowed");
    let before = node.traces();
    let victim = node.create(&node.payload(6));
    let mut payload = node.payload(5);
    payload["nics"][0]["allow_ip_spoofing"] = true.into();
    payload["nics"][0]["blocked_outgoing_ports"] = json!([25]);
    let guest = node.create(&payload);
    node.guest(&victim, "for port in 25 26; do nc -l -p $port </dev/null >/tmp/$port 2>&1 & done; ip route add 10.77.0.0/24 dev eth0");
    node.guest(&guest, "ip address add 10.77.0.1/24 dev eth0");
    assert!(reaches(&node, &guest, "10.64.0.6", "-I 10.77.0.1"), "allow_ip_spoofing");
    node.guest(&guest, "echo mail | nc -w 2 10.64.0.6 25; echo other | nc -w 2 10.64.0.6 26; true");
    // The listener writes after the sender has gone.
    until("what was sent to the other port", || node.guest(&victim, "cat /tmp/26") == "other\n");
    assert_eq!(node.guest(&victim, "cat /tmp/25"), "", "port 25 is blocked");
    for uuid in [&guest, &victim] {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(&node, &before);
}
