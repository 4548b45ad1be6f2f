//! Bad input: a clear error with field and reason, and nothing changed.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

#[test]
fn bad_payloads_are_refused_by_name_and_change_nothing() {
    let node = Node::with_image("bad");
    let before = node.traces();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut payload = node.payload(5);
        change(&mut payload);
        payload.to_string()
    };
    let big = format!("{{\"brand\": \"lx\", \"alias\": \"{}\"}}", "x".repeat(8 << 20));
    let cases: Vec<(&str, String, &str)> = vec![
        ("a truncated document", "{\"brand\": \"lx\", ".into(), "Invalid JSON payload"),
        ("no document", String::new(), "Invalid JSON payload"),
        ("a list", "[]".into(), "Invalid JSON payload"),
        ("8 MiB", big, "image_uuid"),
        ("an unknown brand", with(&|p| p["brand"] = "zonky".into()), "zonky"),
        ("no image", with(&|p| drop(p.as_object_mut().unwrap().remove("image_uuid"))), "image_uuid"),
        ("an image that is not installed", with(&|p| p["image_uuid"] = "01234567-89ab-cdef-0123-456789abcdef".into()), "image_uuid"),
        ("an alias that is a number", with(&|p| p["alias"] = 42.into()), "alias"),
        ("a small max_swap", with(&|p| p["max_swap"] = 128.into()), "max_swap"),
        ("a cap that is a word", with(&|p| p["cpu_cap"] = "doogle".into()), "cpu_cap"),
        ("an unknown pool", with(&|p| p["zpool"] = "doogle".into()), "zpool"),
        ("nested metadata", with(&|p| p["customer_metadata"] = json!({"a": {"b": 1}})), "customer_metadata"),
        ("a bad MTU", with(&|p| p["nics"][0]["mtu"] = 500.into()), "mtu"),
        ("an unknown tag", with(&|p| p["nics"][0]["nic_tag"] = "new_tag1".into()), "Invalid nic tag \"new_tag1\""),
        (
            "three primaries",
            with(&|p| {
                let nic =
                    |n: u8| json!({"nic_tag": "external", "ips": ["dhcp"], "mac": format!("02:08:20:00:01:{n:02x}"), "primary": true});
                p["nics"] = json!([nic(1), nic(2), nic(3)]);
            }),
            "primary",
        ),
        ("a uuid in capitals", with(&|p| p["uuid"] = "6A3F0C4E-2F0B-4C55-9A3C-0D1B5A7E9C11".into()), "uuid"),
        ("a bad route", with(&|p| p["routes"] = json!({"x": "1.2.3.4"})), "Invalid route destination"),
    ];
    for (what, payload, reason) in cases {
        let outcome = node.run_with("vmadm", &["create"], &payload, &[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{what}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(reason), "{what}: {}", outcome.stderr);
        assert!(outcome.stderr.len() < 4096, "{what}: the message is bounded");
        assert_no_trace(&node, &before);
    }
}

/// instances case 21, cn-agent case 30
#[test]
fn of_two_creations_of_one_uuid_exactly_one_succeeds() {
    let node = Node::with_image("twice");
    let before = node.traces();
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
    let mut payload = node.payload(5);
    payload["uuid"] = uuid.into();
    payload["autoboot"] = false.into();
    let text = payload.to_string();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| node.run_with("vmadm", &["create"], &text, &[]))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(outcomes.iter().filter(|outcome| outcome.code == Some(0)).count(), 1, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.code != Some(0)) {
        assert_eq!(outcome.stderr.trim(), format!("VM with UUID {uuid} already exists"));
    }
    assert_eq!(node.state(uuid), "stopped");
    node.vmadm(&["delete", uuid]).ok();
    assert_no_trace(&node, &before);
}

/// instances case 73
#[test]
fn a_broken_machine_file_is_shown_and_hides_nobody() {
    let node = Node::with_image("broken");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let (good, bad) = (node.create(&payload), "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11");
    let path = node.layout().machine(bad.parse().unwrap());
    std::fs::write(&path, "{\"uuid\": \"6a3f").unwrap();
    let list = node.vmadm(&["list", "-p", "-o", "uuid,state"]).ok().stdout;
    assert!(list.contains(&format!("{good}:stopped")) && list.contains(&format!("{bad}:unreadable")), "{list}");
    let outcome = node.vmadm(&["delete", bad]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("cannot be used"), "{}", outcome.stderr);
    assert!(path.exists(), "it is reported, not deleted");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_store_that_is_not_there_is_an_error_and_not_an_empty_list() {
    let node = Node::new("nostore");
    std::fs::remove_file(node.layout().marker()).unwrap();
    let outcome = node.vmadm(&["list"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.contains("not there"), "{}", outcome.stderr);
    node.layout().prepare().unwrap();
    if node.is_machine() {
        // A mounted pool cannot be renamed: tests of storage export one.
        return;
    }
    std::fs::rename(node.layout().at("/zones"), node.layout().at("/zones-gone")).unwrap();
    let outcome = node.vmadm(&["list"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{}", outcome.stderr);
}
