//! What VMAPI is told of an instance by vm-agent: every kind of change, and the same object as the node has.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::{Value, json};
use triton_e2e::{Headnode, MetadataService, Node, Reporters, assert_no_trace, http, mdata, until};

/// What vm-agent compares at its start (vm-agent.md section 4.3).
const COMPARED: [&str; 14] = [
    "boot_timestamp",
    "brand",
    "datasets",
    "disks",
    "indestructible_delegated",
    "indestructible_zoneroot",
    "last_modified",
    "quota",
    "snapshots",
    "state",
    "uuid",
    "zfs_data_compression",
    "zfs_snapshot_limit",
    "zone_state",
];

fn vm(node: &Node, uuid: &str) -> Value {
    http(node, Headnode::VMAPI, "GET", &format!("/vms/{uuid}"), None).json()
}

/// Requests of vm-agent that tell something.
fn reports(node: &Node) -> Vec<Value> {
    let record = http(node, Headnode::CONTROL, "GET", "/record", None).json();
    let ours = |entry: &Value| entry["headers"]["user-agent"].as_str().is_some_and(|who| who.starts_with("vm-agent/"));
    record.as_array().unwrap().iter().filter(|entry| ours(entry) && entry["method"] == "PUT").cloned().collect()
}

/// vm-agent case 37
#[test]
fn every_kind_of_change_is_seen_and_told() {
    let node = Node::with_image("reports");
    let before = node.traces();
    {
        let _headnode = Headnode::start(&node);
        let _metadata = MetadataService::start(&node);
        let _agents = Reporters::start(&node);
        let uuid = node.create(&node.payload(5));
        let told = |what: &str, is: &dyn Fn(&Value) -> bool| until(&format!("VMAPI knows that it was {what}"), || is(&vm(&node, &uuid)));
        told("created", &|vm| vm["state"] == "running" && vm["zone_state"] == "running");
        node.vmadm(&["stop", &uuid, "-F"]).ok();
        told("stopped", &|vm| vm["state"] == "stopped" && vm["zone_state"] == "installed" && vm["pid"].is_null());
        node.vmadm(&["start", &uuid]).ok();
        told("started", &|vm| vm["state"] == "running" && vm["pid"] == node.get(&uuid)["pid"]);
        node.run_with("vmadm", &["update", &uuid], r#"{"quota": 3}"#, &[]).ok();
        told("given another quota", &|vm| vm["quota"] == 3);
        mdata(&node, &uuid, "put greeting hello").ok();
        told("written to by its guest", &|vm| vm["customer_metadata"]["greeting"] == "hello");
        node.vmadm(&["create-snapshot", &uuid, "one"]).ok();
        told("snapshotted", &|vm| vm["snapshots"][0]["name"] == "one");
        node.vmadm(&["delete-snapshot", &uuid, "one"]).ok();
        told("freed of its snapshot", &|vm| vm["snapshots"] == json!([]));
        let boot = vm(&node, &uuid)["boot_timestamp"].clone();
        node.vmadm(&["reboot", &uuid, "-F"]).ok();
        told("rebooted", &|vm| vm["boot_timestamp"] != boot && vm["state"] == "running" && vm["pid"] == node.get(&uuid)["pid"]);
        // While it is hidden nothing is told; then everything.
        node.run_with("vmadm", &["update", &uuid], r#"{"do_not_inventory": true}"#, &[]).ok();
        node.vmadm(&["update", &uuid, "alias=unseen"]).ok();
        let witness = node.create(&node.payload(6));
        until("the witness is known", || vm(&node, &witness)["state"] == "running");
        assert_ne!(vm(&node, &uuid)["alias"], "unseen");
        node.run_with("vmadm", &["update", &uuid], r#"{"do_not_inventory": false}"#, &[]).ok();
        told("shown again", &|vm| vm["alias"] == "unseen");
        for uuid in [&uuid, &witness] {
            node.vmadm(&["delete", uuid]).ok();
        }
        told("deleted", &|vm| vm["state"] == "destroyed");
    }
    assert_no_trace(&node, &before);
}

/// vm-agent cases 5, 47: what VMAPI gives back of a running, a stopped and a freshly created instance is what the node has, so a restart
/// with nothing changed tells nothing.
#[test]
fn what_vmapi_gives_back_is_what_the_node_has() {
    let node = Node::with_image("fidelity");
    let before = node.traces();
    {
        let _headnode = Headnode::start(&node);
        let mut agents = Reporters::start(&node);
        let (running, stopped) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
        node.vmadm(&["create-snapshot", &running, "kept"]).ok();
        node.vmadm(&["stop", &stopped, "-F"]).ok();
        let mut payload = node.payload(7);
        payload["autoboot"] = false.into();
        payload["tags"] = json!({"role": "web", "count": 3, "on": true});
        payload["customer_metadata"] = json!({"a": "b"});
        payload["routes"] = json!({"10.5.0.0/16": "10.64.0.9"});
        let fresh = node.create(&payload);
        let all = [&running, &stopped, &fresh];
        let same = |uuid: &str| {
            let (here, there) = (node.get(uuid), vm(&node, uuid));
            // Whatever is empty, null or missing is the same to VMAPI, but for the list of snapshots.
            let plain = |value: &Value| if value.is_null() || *value == json!([]) { Value::Null } else { value.clone() };
            let differ: Vec<&str> = COMPARED.into_iter().filter(|key| plain(&here[*key]) != plain(&there[*key])).collect();
            differ.is_empty()
        };
        all.iter().for_each(|uuid| until("VMAPI has the same", || same(uuid)));
        // Whatever net-agent still had to change is told.
        until("nothing more is told", || {
            http(&node, Headnode::CONTROL, "DELETE", "/record", None);
            std::thread::sleep(std::time::Duration::from_secs(2));
            reports(&node).is_empty()
        });
        for _ in 0..2 {
            agents.kill("vm-agent");
            agents.run("vm-agent");
            until("the agent is ready", || agents.status("vm-agent")["ready"] == true);
            std::thread::sleep(std::time::Duration::from_secs(1));
            assert_eq!(reports(&node), [Value::Null; 0], "a restart told something");
        }
        assert!(all.iter().all(|uuid| same(uuid)));
        for uuid in all {
            node.vmadm(&["delete", uuid]).ok();
        }
    }
    assert_no_trace(&node, &before);
}
