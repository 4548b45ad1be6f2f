//! SIGKILL at every step of every change (design section 9, invariant 4; ruling 53). The steps are discovered, not listed.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::collections::BTreeSet;

use serde_json::Value;
use triton_e2e::{Node, assert_no_trace, until};

/// The steps that `run` reaches, in order, each once.
fn steps(node: &Node, run: impl FnOnce(&[(&str, &str)])) -> Vec<String> {
    steps_told_by(node, "TRITON_STEP_TRACE", run)
}

fn steps_told_by(node: &Node, variable: &str, run: impl FnOnce(&[(&str, &str)])) -> Vec<String> {
    let trace = node.layout().at("/var/tmp/steps");
    let _ = std::fs::remove_file(&trace);
    let path = trace.to_string_lossy().into_owned();
    run(&[(variable, path.as_str())]);
    let mut seen = BTreeSet::new();
    let text = std::fs::read_to_string(&trace).expect("steps were traced: this needs a debug build");
    text.lines().filter(|step| seen.insert(step.to_string())).map(str::to_owned).collect()
}

fn wait_for_rest(node: &Node, uuid: &str) {
    until("nothing is under way", || {
        let state = node.state(uuid);
        !matches!(state.as_str(), "ready" | "shutting_down" | "down" | "provisioning")
    });
}

/// instances case 71
#[test]
fn a_creation_killed_at_any_step_leaves_an_instance_that_can_be_deleted() {
    let node = Node::with_image("crash-create");
    let before = node.traces();
    let mut uuid = String::new();
    let steps = steps(&node, |environment| {
        let outcome = node.run_with("vmadm", &["create"], &node.payload(5).to_string(), environment).ok();
        uuid = outcome.last_error().rsplit(' ').next().unwrap().to_owned();
    });
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
    assert!(steps.len() >= 8, "{steps:?}");
    for step in &steps {
        let outcome = node.run_with("vmadm", &["create"], &node.payload(5).to_string(), &[("TRITON_STEP_KILL", step)]);
        assert_eq!(outcome.code, None, "{step} was not reached: {}", outcome.stderr);
        for uuid in node.vmadm(&["lookup"]).ok().stdout.lines() {
            wait_for_rest(&node, uuid);
            let state = node.state(uuid);
            assert!(["failed", "stopped", "running"].contains(&state.as_str()), "{step}: {state}");
            node.vmadm(&["delete", uuid]).ok();
            let again = node.vmadm(&["delete", uuid]);
            assert!(again.code == Some(1) && again.stderr.contains("No such zone configured"), "{step}: {}", again.stderr);
        }
        assert_no_trace(&node, &before);
    }
}

/// instances case 72
#[test]
fn a_deletion_killed_at_any_step_can_be_finished() {
    let node = Node::with_image("crash-delete");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let steps = steps(&node, |environment| {
        node.run_with("vmadm", &["delete", &uuid], "", environment).ok();
    });
    assert!(steps.len() >= 6, "{steps:?}");
    for step in &steps {
        let uuid = node.create(&node.payload(5));
        assert_eq!(node.run_with("vmadm", &["delete", &uuid], "", &[("TRITON_STEP_KILL", step)]).code, None, "{step} was not reached");
        if node.vmadm(&["get", &uuid]).code == Some(0) {
            let state = node.state(&uuid);
            assert!(["running", "incomplete", "shutting_down", "down", "stopped"].contains(&state.as_str()), "{step}: {state}");
            node.vmadm(&["delete", &uuid]).ok();
        }
        assert_no_trace(&node, &before);
        // The uuid can be used again.
        let mut payload = node.payload(5);
        payload["uuid"] = Value::from(uuid.as_str());
        node.create(&payload);
        node.vmadm(&["delete", &uuid]).ok();
        assert_no_trace(&node, &before);
    }
}

#[test]
fn a_start_or_stop_killed_at_any_step_can_be_repeated() {
    let node = Node::with_image("crash-start");
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    for verb in ["start", "stop", "reboot"] {
        if verb == "reboot" {
            node.vmadm(&["start", &uuid]);
        }
        let steps = steps(&node, |environment| {
            node.run_with("vmadm", &[verb, &uuid], "", environment).ok();
        });
        assert!(!steps.is_empty(), "{verb}");
        for step in &steps {
            match verb {
                "start" => drop(node.vmadm(&["stop", "-F", &uuid]).ok()),
                _ => drop(node.vmadm(&["start", &uuid]).ok()),
            }
            assert_eq!(
                node.run_with("vmadm", &[verb, &uuid], "", &[("TRITON_STEP_KILL", step)]).code,
                None,
                "{verb} {step} was not reached"
            );
            wait_for_rest(&node, &uuid);
            let state = node.state(&uuid);
            assert!(["running", "stopped"].contains(&state.as_str()), "{verb} {step}: {state}");
            let (goal, again) = if verb == "stop" { ("stopped", "stop") } else { ("running", "start") };
            node.vmadm(&[again, &uuid]).ok();
            assert_eq!(node.state(&uuid), goal, "{verb} {step}");
        }
    }
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// The monitor at every step of a start, of a reboot and of an end: whatever is left can be stopped, started and deleted.
#[test]
fn a_monitor_killed_at_any_step_leaves_an_instance_that_can_be_used() {
    let node = Node::with_image("crash-monitor");
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    let steps = steps_told_by(&node, "TRITON_CHILD_STEP_TRACE", |environment| {
        node.run_with("vmadm", &["start", &uuid], "", environment).ok();
        node.vmadm(&["reboot", &uuid]).ok();
        node.vmadm(&["stop", "-F", &uuid]).ok();
    });
    assert!(steps.iter().filter(|step| step.starts_with("monitor.")).count() >= 5, "{steps:?}");
    for step in &steps {
        // Steps of the start end it here; the others are reached by the reboot and the stop, which notice or outlive it.
        node.run_with("vmadm", &["start", &uuid], "", &[("TRITON_CHILD_STEP_KILL", step)]);
        node.vmadm(&["reboot", "-F", &uuid]);
        node.vmadm(&["stop", "-F", &uuid]);
        wait_for_rest(&node, &uuid);
        assert_eq!(node.state(&uuid), "stopped", "{step}");
        node.vmadm(&["start", &uuid]).ok();
        assert!(node.guest(&uuid, "ip addr").contains("10.64.0.5/24"), "{step}");
        node.vmadm(&["stop", "-F", &uuid]).ok();
        assert_eq!(node.get(&uuid)["exit_status"], -9, "{step}");
    }
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}
