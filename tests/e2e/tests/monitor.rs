//! The monitor: exit statuses, guests that reboot or halt by themselves, and monitors that are killed.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use triton_e2e::{Node, assert_no_trace, until, until_some};

fn run_state(node: &Node, uuid: &str) -> Value {
    let text = std::fs::read_to_string(node.layout().run_state(uuid.parse().unwrap())).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn kill_pid(pid: &Value) {
    kill(Pid::from_raw(i32::try_from(pid.as_i64().unwrap()).unwrap()), Signal::SIGKILL).unwrap();
}

/// A node with one instance whose init is the shell script `init`, run by busybox.
fn node_with_init(name: &str, init: &str) -> (Node, String) {
    let node = Node::with_image(name);
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    payload["init_name"] = "/etc/own-init".into();
    let uuid = node.create(&payload);
    let path = node.layout().at(&format!("/zones/{uuid}/root/etc/own-init"));
    std::fs::write(&path, format!("#!/bin/sh\n{init}\n")).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    (node, uuid)
}

/// instances case 62
#[test]
fn the_exit_status_of_init_is_recorded() {
    for (name, init, status) in [("exit7", "sleep 0.2; exit 7", 7), ("exit0", "exit 0", 0), ("exit13", "sleep 0.1; exit 13", 13)] {
        let (node, uuid) = node_with_init(name, init);
        node.vmadm(&["start", &uuid]);
        until("the guest has ended", || node.state(&uuid) == "stopped" && node.get(&uuid).get("exit_status").is_some());
        let vm = node.get(&uuid);
        assert_eq!(vm["exit_status"], status, "{name}");
        assert!(vm["exit_timestamp"].is_string());
        let text = std::fs::read_to_string(node.layout().at(&format!("/zones/{uuid}/lastexited"))).unwrap();
        assert_eq!(text.split_whitespace().nth(1).unwrap(), (status << 8).to_string());
    }
}

/// instances case 62
#[test]
fn a_killed_init_is_recorded_as_minus_nine_and_leaves_nothing() {
    let node = Node::with_image("sigkill");
    let uuid = node.create(&node.payload(5));
    let links = node.links();
    node.vmadm(&["kill", "-9", &uuid]).ok();
    until("the guest has ended", || node.state(&uuid) == "stopped");
    let vm = node.get(&uuid);
    assert_eq!((vm["exit_status"].as_i64(), vm["autoboot"].as_bool()), (Some(-9), Some(true)));
    until("its link is gone", || node.links().len() < links.len());
    assert!(node.traces()["cgroups"].is_empty(), "{:?}", node.traces());
    node.vmadm(&["start", &uuid]).ok();
    assert!(node.get(&uuid).get("exit_status").is_none());
}

#[test]
fn a_guest_that_reboots_by_itself_stays_running_and_one_that_halts_is_stopped() {
    let node = Node::with_image("selfreboot");
    let uuid = node.create(&node.payload(5));
    let first = node.get(&uuid);
    node.try_guest(&uuid, "reboot");
    until("another init runs", || {
        let vm = node.get(&uuid);
        vm["state"] == "running" && vm["pid"] != first["pid"] && vm["pid"].is_i64()
    });
    assert_eq!(run_state(&node, &uuid).get("last_exit"), None, "a reboot records no exit");
    assert_eq!(node.monitors().iter().filter(|line| line.contains(" run ")).count(), 1);
    assert!(node.guest(&uuid, "ip addr").contains("10.64.0.5/24"));
    node.try_guest(&uuid, "poweroff");
    until("the guest is stopped", || node.state(&uuid) == "stopped");
    let vm = node.get(&uuid);
    assert_eq!((vm["exit_status"].as_i64(), vm["autoboot"].as_bool()), (Some(0), Some(true)), "autoboot is the operator's");
}

#[test]
fn an_init_that_cannot_run_fails_the_start_with_the_reason() {
    let node = Node::with_image("noinit");
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["init_name"] = "/no/such/init".into();
    let outcome = node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("/no/such/init"), "the reason is in the text: {}", outcome.stderr);
    let uuid = node.vmadm(&["lookup", "alias=web5"]).ok().stdout.trim().to_owned();
    assert_eq!(node.state(&uuid), "failed");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

#[test]
fn a_guest_survives_the_death_of_its_monitor_and_is_adopted() {
    for victim in ["supervisor", "child", "both"] {
        let node = Node::with_image(&format!("adopt-{victim}"));
        let before = node.traces();
        let uuid = node.create(&node.payload(5));
        let run = run_state(&node, &uuid);
        let init = node.get(&uuid)["pid"].clone();
        let supervisor = run["supervisor"]["pid"].clone();
        let child = until_some("the child of the monitor", || {
            let children = std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
            children.split_whitespace().next()?.parse::<i64>().ok().map(Value::from)
        });
        if victim != "child" {
            kill_pid(&supervisor);
        }
        if victim != "supervisor" {
            kill_pid(&child);
        }
        until("a monitor has the guest", || {
            let vm = node.get(&uuid);
            let run = run_state(&node, &uuid);
            vm["state"] == "running" && vm["pid"] == init && (victim == "child" || run["supervisor"]["pid"] != supervisor)
        });
        node.guest(&uuid, "true");
        if victim != "child" {
            assert_eq!(run_state(&node, &uuid)["adopted"], true, "{victim}");
        }
        node.vmadm(&["stop", &uuid]).ok();
        let vm = node.get(&uuid);
        assert_eq!(vm["state"], "stopped", "{victim}");
        if victim != "child" {
            assert!(vm.get("exit_status").is_none(), "nobody saw how it ended: {victim}");
        }
        node.vmadm(&["start", &uuid]).ok();
        node.vmadm(&["delete", &uuid]).ok();
        assert_no_trace(&node, &before);
    }
}

/// A guest that reboots while nobody supervises it is not lost: whoever looks next boots it again.
#[test]
fn a_reboot_that_no_supervisor_saw_is_carried_out_by_the_next_change() {
    let node = Node::with_image("lost-reboot");
    let uuid = node.create(&node.payload(5));
    let run = run_state(&node, &uuid);
    let init = node.get(&uuid)["pid"].clone();
    kill_pid(&run["supervisor"]["pid"]);
    let pid = init.to_string();
    let inside = ["-t", &pid, "-m", "-u", "-n", "-p", "-i", "-U", "-S", "0", "-G", "0", "--", "/bin/busybox", "reboot"];
    std::process::Command::new("nsenter").args(inside).status().unwrap();
    until("the old init has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    until("its boot child has ended", || node.monitors().is_empty());
    assert!(node.vmadm(&["start", &uuid]).ok().stderr.contains("is already 'running'"), "it was booted again before the start looked");
    assert_ne!(node.get(&uuid)["pid"], init);
    node.guest(&uuid, "true");
}
