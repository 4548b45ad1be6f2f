//! Many instances at one time: created, updated, snapshotted, rolled back, rebooted and deleted without an error, and nothing
//! is left. All of them are there together. `TRITON_MIX_INSTANCES` says how many (8; 50 on a booted node).
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;
use triton_e2e::{Node, assert_no_trace};

/// How many are changed at one time: more only wait for the processors.
const WORKERS: usize = 8;

#[test]
fn many_instances_live_through_every_change_at_one_time() {
    let node = Node::with_image("mix");
    let before = node.traces();
    let default = if node.is_machine() { 50 } else { 8 };
    let count: u8 = std::env::var("TRITON_MIX_INSTANCES").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let create = |number: u8| {
        let mut payload = node.payload(number);
        payload["tmpfs"] = 0.into();
        payload["uuid"] = uuid(number).into();
        node.create(&payload);
    };
    for_all(count, create);
    assert_eq!(node.vmadm(&["lookup", "state=running"]).ok().stdout.lines().count(), usize::from(count));
    for_all(count, |number| change(&node, number));
    for_all(count, |number| drop(node.vmadm(&["delete", &uuid(number)]).ok()));
    assert_no_trace(&node, &before);
}

fn uuid(number: u8) -> String {
    format!("6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9{number:03x}")
}

/// Does `work` for the numbers from 1 to `count`, several at one time.
fn for_all(count: u8, work: impl Fn(u8) + Sync) {
    let next = AtomicU8::new(1);
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let number @ 1.. = next.fetch_add(1, Ordering::Relaxed)
                    && number <= count
                {
                    work(number);
                }
            });
        }
    });
}

fn change(node: &Node, number: u8) {
    let uuid = uuid(number);
    let update = json!({"set_tags": {"n": number}, "cpu_cap": 100 + u32::from(number), "set_customer_metadata": {"n": number}});
    node.run_with("vmadm", &["update", &uuid], &update.to_string(), &[]).ok();
    node.guest(&uuid, "echo kept > /root/data");
    node.vmadm(&["create-snapshot", &uuid, "s"]).ok();
    node.guest(&uuid, "echo lost > /root/data");
    node.vmadm(&["update", &uuid, &format!("alias=mix{number}")]).ok();
    node.vmadm(&["rollback-snapshot", &uuid, "s"]).ok();
    assert_eq!(node.guest(&uuid, "cat /root/data"), "kept\n");
    node.vmadm(&["reboot", &uuid]).ok();
    let vm = node.get(&uuid);
    assert_eq!((vm["state"].as_str(), vm["tags"]["n"].as_u64()), (Some("running"), Some(number.into())), "{uuid}");
    assert_eq!((vm["alias"].as_str(), vm["snapshots"].as_array().unwrap().len()), (Some(format!("mix{number}").as_str()), 1));
    node.vmadm(&["delete-snapshot", &uuid, "s"]).ok();
}
