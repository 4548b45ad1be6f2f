//! Snapshots, rollback and another image.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::{Value, json};
use triton_e2e::{IMAGE_UUID, Node, assert_no_trace, until};

fn names(vm: &Value) -> Vec<String> {
    vm["snapshots"].as_array().unwrap().iter().map(|snapshot| snapshot["name"].as_str().unwrap().to_owned()).collect()
}

/// instances cases 65, 66
#[test]
fn snapshots_have_names_times_and_sizes_that_do_not_change() {
    let node = Node::with_image("snapshots");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let long = "x".repeat(80);
    for bad in [long.as_str(), "a b", "!@#", "a,b", "a\nb", ""] {
        for verb in ["create-snapshot", "rollback-snapshot", "delete-snapshot"] {
            let outcome = node.vmadm(&[verb, &uuid, bad]);
            assert_eq!((outcome.code, outcome.last_error()), (Some(1), "Invalid snapshot name"), "{verb} {bad:?}");
        }
    }
    let first = node.get(&uuid);
    let outcome = node.vmadm(&["create-snapshot", &uuid, "20130131180505"]).ok();
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.trim()), ("", format!("Created snapshot 20130131180505 for VM {uuid}").as_str()));
    let with = node.get(&uuid);
    assert!(with["last_modified"].as_str() > first["last_modified"].as_str());
    assert_eq!(names(&with), ["20130131180505"]);
    let outcome = node.vmadm(&["create-snapshot", &uuid, "20130131180505"]);
    assert_eq!((outcome.code, outcome.last_error()), (Some(1), "snapshot with name \"20130131180505\" already exists."));
    let outcome = node.vmadm(&["delete-snapshot", &uuid, "other"]);
    assert_eq!((outcome.code, outcome.last_error()), (Some(1), format!("No snapshot named \"other\" for {uuid}").as_str()));
    assert_eq!(node.vmadm(&["rollback-snapshot", &uuid, "other"]).last_error(), format!("No snapshot named \"other\" for {uuid}"));
    assert_eq!(node.get(&uuid)["pid"], first["pid"], "a rollback that cannot be leaves the guest alone");
    assert_eq!(node.vmadm(&["create-snapshot", &uuid]).code, Some(2));

    node.guest(&uuid, "dd if=/dev/zero of=/root/more bs=1024 count=2048 2>/dev/null");
    assert_eq!(node.get(&uuid)["snapshots"], with["snapshots"], "sizes are frozen (ruling 3)");
    let outcome = node.vmadm(&["delete-snapshot", &uuid, "20130131180505"]).ok();
    assert_eq!(outcome.stderr.trim(), format!("Deleted snapshot 20130131180505 for VM {uuid}"));
    let without = node.get(&uuid);
    assert!(names(&without).is_empty() && without["last_modified"].as_str() > with["last_modified"].as_str());
    node.vmadm(&["update", &uuid, "zfs_snapshot_limit=1"]).ok();
    node.vmadm(&["create-snapshot", &uuid, "one"]).ok();
    assert_eq!(node.vmadm(&["create-snapshot", &uuid, "two"]).code, Some(1), "the limit holds");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// instances case 67; ruling 40
#[test]
fn a_rollback_brings_back_data_tags_and_metadata_and_destroys_newer_snapshots() {
    let node = Node::with_image("rollback");
    let uuid = node.create(&node.payload(5));
    for number in 1..=3 {
        node.guest(&uuid, &format!("echo {number} > /root/data"));
        let tags = json!({"set_tags": {"number": number}, "set_customer_metadata": {"number": number}});
        node.run_with("vmadm", &["update", &uuid], &tags.to_string(), &[]).ok();
        node.vmadm(&["create-snapshot", &uuid, &format!("s{number}")]).ok();
    }
    node.vmadm(&["update", &uuid, "alias=later"]).ok();
    let before = node.get(&uuid);
    let outcome = node.vmadm(&["rollback-snapshot", &uuid, "s2"]).ok();
    assert_eq!(outcome.stderr.trim(), format!("Rolled back snapshot s2 for VM {uuid}"));
    let vm = node.get(&uuid);
    assert_eq!(names(&vm), ["s2", "s1"]);
    assert_eq!((&vm["tags"]["number"], &vm["customer_metadata"]["number"]), (&json!(2), &json!(2)));
    assert_eq!((vm["state"].as_str(), vm["autoboot"].as_bool()), (Some("running"), Some(true)));
    assert_ne!(vm["pid"], before["pid"]);
    assert_eq!(vm["alias"], "later", "what is in the machine file is not in the snapshot");
    assert!(vm["last_modified"].as_str() > before["last_modified"].as_str(), "the files went back in time, last_modified does not");
    assert_eq!(node.guest(&uuid, "cat /root/data"), "2\n");
    assert!(node.guest(&uuid, "ip addr").contains("10.64.0.5/24"));
    let mode = std::fs::metadata(node.layout().at(&format!("/zones/{uuid}"))).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o007, if mode_is_shifted(&mode) { 1 } else { 0 });

    // Stopped, with autoboot off: it runs afterwards and autoboot is what it was.
    node.vmadm(&["stop", "-F", &uuid]).ok();
    node.vmadm(&["rollback-snapshot", &uuid, "s1"]).ok();
    let vm = node.get(&uuid);
    assert_eq!((vm["state"].as_str(), vm["autoboot"].as_bool()), (Some("running"), Some(false)));
    assert_eq!(node.guest(&uuid, "cat /root/data"), "1\n");
}

/// With shifted ids on disk the directory may be passed by all.
fn mode_is_shifted(meta: &std::fs::Metadata) -> bool {
    std::os::unix::fs::MetadataExt::gid(meta) == 0
}

/// instances case 70
#[test]
fn a_reprovisioned_instance_keeps_what_it_is_and_loses_what_it_held() {
    let node = Node::with_image("reprovision");
    let image = node.second_image();
    let before = node.traces();
    let mut payload = node.payload(5);
    payload["tags"] = json!({"role": "db"});
    payload["customer_metadata"] = json!({"k": "v"});
    let uuid = node.create(&payload);
    node.guest(&uuid, "echo precious > /root/data");
    node.vmadm(&["create-snapshot", &uuid, "old"]).ok();
    let old = node.get(&uuid);
    let reprovision = |payload: Value| node.run_with("vmadm", &["reprovision", &uuid], &payload.to_string(), &[]);
    for (bad, text) in [
        (json!({}), "payload is missing image_uuid"),
        (json!({"image_uuid": "zonky"}), "Invalid value(s) for: image_uuid"),
        (json!({"image_uuid": "01234567-89ab-cdef-0123-456789abcdef"}), "Invalid value(s) for: image_uuid"),
    ] {
        let outcome = reprovision(bad);
        assert_eq!((outcome.code, outcome.last_error()), (Some(1), format!("Failed to reprovision VM {uuid}: {text}").as_str()));
        assert_eq!(node.get(&uuid), old);
    }
    let outcome = reprovision(json!({"image_uuid": image})).ok();
    assert_eq!(outcome.stderr.trim(), format!("Successfully reprovisioned VM {uuid}"));
    let new = node.get(&uuid);
    assert_eq!((new["image_uuid"].as_str(), new["state"].as_str()), (Some(image.as_str()), Some("running")));
    for key in ["nics", "tags", "customer_metadata", "max_physical_memory", "quota", "alias", "autoboot", "create_timestamp"] {
        assert_eq!(new[key], old[key], "{key}");
    }
    assert!(names(&new).is_empty());
    until("the new root has booted", || node.guest(&uuid, "cat /var/boots 2>/dev/null || true") == "boot\n");
    assert_eq!(node.try_guest(&uuid, "cat /root/data").code, Some(1));
    assert!(node.guest(&uuid, "ip addr; cat /etc/hostname").contains("10.64.0.5/24"));
    assert_eq!(node.guest(&uuid, "cat /etc/hostname").trim(), "web5");

    // A stopped one is started, and goes back to the first image.
    node.vmadm(&["stop", "-F", &uuid]).ok();
    reprovision(json!({"image_uuid": IMAGE_UUID})).ok();
    assert_eq!(node.get(&uuid)["autoboot"], false);
    assert_eq!(node.state(&uuid), "running");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}
