//! What the machine's boot and shutdown do with the instances.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::json;
use triton_e2e::{Node, assert_no_trace};

/// instances case 74, ruling 40
#[test]
fn those_with_autoboot_are_up_after_a_reboot_of_the_machine_and_the_others_are_not() {
    let node = Node::with_image("boot-all");
    let before = node.traces();
    let wanted: Vec<String> = (5..8).map(|number| node.create(&node.payload(number))).collect();
    let idle = node.create(&node.payload(8));
    node.vmadm(&["stop", &idle, "-F"]).ok();
    let states = || wanted.iter().chain([&idle]).map(|uuid| node.get(uuid)["state"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let said = node.vmadm(&["halt-all", "--timeout", "20"]).ok();
    assert!(said.stderr.contains("3 stopped, 0 failed"), "{}", said.stderr);
    assert_eq!(states(), ["stopped"; 4]);
    assert!(wanted.iter().all(|uuid| node.get(uuid)["autoboot"] == json!(true)), "ending the machine is not the operator's stop");
    // One that cannot be read does not keep the others from starting, and is named.
    let broken = node.layout().machine(idle.parse().unwrap());
    let text = std::fs::read(&broken).unwrap();
    std::fs::write(&broken, "{").unwrap();
    let said = node.vmadm(&["boot-all", "--jobs", "2"]);
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stderr.contains("3 started, 1 failed") && said.stderr.contains(&idle), "{}", said.stderr);
    std::fs::write(&broken, text).unwrap();
    assert_eq!(states(), ["running", "running", "running", "stopped"]);
    let pids: Vec<_> = wanted.iter().map(|uuid| node.get(uuid)["pid"].clone()).collect();
    let said = node.vmadm(&["boot-all"]).ok();
    assert!(said.stderr.contains("0 started, 0 failed"), "{}", said.stderr);
    assert_eq!(wanted.iter().map(|uuid| node.get(uuid)["pid"].clone()).collect::<Vec<_>>(), pids, "who runs is left alone");
    for uuid in wanted.iter().chain([&idle]) {
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(&node, &before);
}

/// After a reboot nothing is below `/run`: whoever comes first makes what it needs there.
#[test]
fn the_first_start_after_a_boot_finds_nothing_below_run() {
    let node = Node::with_image("bootrun");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    node.vmadm(&["update", &uuid, "autoboot=true"]).ok();
    for folder in [node.layout().locks(), node.layout().run_states(), node.layout().at("/run/triton/runtime")] {
        std::fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(node.state(&uuid), "stopped");
    node.vmadm(&["boot-all"]).ok();
    assert_eq!(node.state(&uuid), "running");
    node.vmadm(&["delete", &uuid]).ok();
}
