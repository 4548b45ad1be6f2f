//! SIGKILL at every step of the verbs that change what an instance is. After each the instance is as before or as after, the
//! next change or the recovery completes the rest, and nothing is left behind.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::collections::BTreeSet;

use serde_json::{Value, json};
use triton_e2e::{IMAGE_UUID, Node, assert_no_trace, until};

/// The steps that `run` reaches, each once.
fn steps(node: &Node, run: impl FnOnce(&[(&str, &str)])) -> Vec<String> {
    let trace = node.layout().at("/var/tmp/steps");
    let _ = std::fs::remove_file(&trace);
    let path = trace.to_string_lossy().into_owned();
    run(&[("TRITON_STEP_TRACE", path.as_str())]);
    let mut seen = BTreeSet::new();
    let text = std::fs::read_to_string(&trace).expect("steps were traced: this needs a debug build");
    text.lines().filter(|step| seen.insert(step.to_string())).map(str::to_owned).collect()
}

/// The object without what every change makes different.
fn content(node: &Node, uuid: &str) -> Value {
    let mut vm = node.get(uuid);
    for key in ["last_modified", "pid", "boot_timestamp", "state", "zone_state", "create_timestamp", "exit_status", "exit_timestamp"] {
        vm.as_object_mut().unwrap().remove(key);
    }
    vm
}

fn settle(node: &Node, uuid: &str) {
    until("nothing is under way", || !matches!(node.state(uuid).as_str(), "ready" | "shutting_down" | "down" | "provisioning"));
}

/// What is beside machine files: nothing, once all is settled.
fn records(node: &Node) -> Vec<String> {
    let names = std::fs::read_dir(node.layout().machines()).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.ends_with(".json")).collect()
}

/// Every second value of each property, so that one update undoes the other.
fn change(second: bool) -> Value {
    let value = if second { 2 } else { 1 };
    json!({"alias": format!("a{value}"), "quota": value, "cpu_cap": 100 * value, "set_tags": {"t": value}, "set_customer_metadata": {"c": value},
        "set_internal_metadata": {"i": value}, "set_routes": {"172.20.42.0/24": format!("172.19.1.{value}")}, "hostname": format!("h{value}"),
        "indestructible_zoneroot": second, "add_nics": [], "maintain_resolvers": true, "resolvers": [format!("9.9.9.{value}")]})
}

#[test]
fn an_update_killed_at_any_step_leaves_the_old_or_the_new_instance() {
    let node = Node::with_image("crash-update");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let update =
        |second: bool, environment: &[(&str, &str)]| node.run_with("vmadm", &["update", &uuid], &change(second).to_string(), environment);
    update(false, &[]).ok();
    let old = content(&node, &uuid);
    let steps = steps(&node, |environment| drop(update(true, environment).ok()));
    let new = content(&node, &uuid);
    assert_ne!(old, new);
    assert!(steps.len() >= 9, "{steps:?}");
    for step in &steps {
        update(false, &[]).ok();
        assert_eq!(content(&node, &uuid), old, "{step}");
        assert_eq!(update(true, &[("TRITON_STEP_KILL", step)]).code, None, "{step} was not reached");
        let seen = content(&node, &uuid);
        assert!(seen == old || seen == new, "{step}: neither old nor new: {seen:#}");
        assert_eq!(node.state(&uuid), "running", "{step}");
        // Any other change settles it; what was seen stays seen.
        node.vmadm(&["update", &uuid, "package_name=x"]).ok();
        assert!(records(&node).is_empty(), "{step}: {:?}", records(&node));
        node.vmadm(&["update", &uuid, "package_name="]).ok();
        assert_eq!(content(&node, &uuid), seen, "{step}");
        let protected = node.vmadm(&["delete", &uuid]).code == Some(1);
        assert_eq!(protected, seen["indestructible_zoneroot"] == true, "{step}: the dataset agrees with the object");
        if !protected {
            let mut payload = node.payload(5);
            payload["uuid"] = uuid.as_str().into();
            node.create(&payload);
        }
    }
    update(false, &[]).ok();
    node.vmadm(&["delete", &uuid]).ok();
    node.recover();
    assert_no_trace(&node, &before);
}

#[test]
fn snapshot_verbs_killed_at_any_step_can_be_repeated() {
    let node = Node::with_image("crash-snapshot");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let names =
        || node.get(&uuid)["snapshots"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    node.vmadm(&["create-snapshot", &uuid, "base"]).ok();
    for verb in ["create-snapshot", "rollback-snapshot", "delete-snapshot"] {
        let prepare = || {
            let _ = node.vmadm(&["delete-snapshot", &uuid, "s"]);
            node.vmadm(&["start", &uuid]).ok();
            if verb != "create-snapshot" {
                node.guest(&uuid, "echo old > /root/data");
                node.vmadm(&["create-snapshot", &uuid, "s"]).ok();
                node.guest(&uuid, "echo new > /root/data");
                node.vmadm(&["create-snapshot", &uuid, "newer"]).ok();
            }
        };
        let clean = || drop(node.vmadm(&["delete-snapshot", &uuid, "newer"]));
        prepare();
        let steps = steps(&node, |environment| drop(node.run_with("vmadm", &[verb, &uuid, "s"], "", environment).ok()));
        clean();
        assert!(steps.len() >= 3, "{verb}: {steps:?}");
        for step in &steps {
            prepare();
            assert_eq!(node.run_with("vmadm", &[verb, &uuid, "s"], "", &[("TRITON_STEP_KILL", step)]).code, None, "{verb} {step}");
            settle(&node, &uuid);
            assert!(["running", "stopped"].contains(&node.state(&uuid).as_str()), "{verb} {step}: {}", node.state(&uuid));
            assert!(names().contains(&"base".to_owned()), "{verb} {step}: {:?}", names());
            // Again, unless it was done: then the answer says so.
            let again = node.vmadm(&[verb, &uuid, "s"]);
            let done = again.stderr.contains("already exists") || again.stderr.contains("No snapshot named");
            assert!(again.code == Some(0) || done, "{verb} {step}: {}", again.stderr);
            assert_eq!(names().contains(&"s".to_owned()), verb != "delete-snapshot", "{verb} {step}");
            if verb == "rollback-snapshot" {
                assert_eq!(node.guest(&uuid, "cat /root/data"), "old\n", "{step}");
                assert!(!names().contains(&"newer".to_owned()), "{step}");
            }
            clean();
        }
    }
    node.vmadm(&["delete", &uuid]).ok();
    node.recover();
    assert_no_trace(&node, &before);
}

#[test]
fn a_reprovisioning_killed_at_any_step_is_completed_or_was_not_begun() {
    let node = Node::with_image("crash-reprovision");
    let second = node.second_image();
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["tags"] = json!({"role": "db"});
    let uuid = node.create(&payload);
    let reprovision = |image: &str, environment: &[(&str, &str)]| {
        node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": image}).to_string(), environment)
    };
    let steps = steps(&node, |environment| drop(reprovision(&second, environment).ok()));
    assert!(steps.len() >= 8, "{steps:?}");
    for (index, step) in steps.iter().enumerate() {
        node.vmadm(&["stop", "-F", &uuid]).ok();
        reprovision(IMAGE_UUID, &[]).ok();
        assert_eq!(reprovision(&second, &[("TRITON_STEP_KILL", step)]).code, None, "{step} was not reached");
        settle(&node, &uuid);
        let seen = node.get(&uuid);
        assert!([IMAGE_UUID, &second].contains(&seen["image_uuid"].as_str().unwrap()), "{step}");
        assert_eq!(seen["tags"], payload["tags"], "{step}");
        // By turns: the recovery of a daemon, and the next verb of an operator.
        if index % 2 == 0 {
            node.recover();
        } else {
            node.vmadm(&["start", &uuid]).ok();
        }
        assert!(records(&node).is_empty(), "{step}: {:?}", records(&node));
        node.vmadm(&["start", &uuid]).ok();
        assert_eq!(node.guest(&uuid, "cat /etc/hostname").trim(), "web5", "{step}");
    }
    // What was begun can be deleted as it is.
    reprovision(IMAGE_UUID, &[]).ok();
    reprovision(&second, &[("TRITON_STEP_KILL", "reprovision.replaced")]);
    node.vmadm(&["delete", &uuid]).ok();
    node.recover();
    assert_no_trace(&node, &before);
}
