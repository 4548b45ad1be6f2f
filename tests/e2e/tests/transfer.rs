//! `vmadm send` and `vmadm receive`: an instance moves to another node with its data.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{fs, process::Stdio};

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

const MADE: &str = "mkdir /data; echo content > /data/file; ln /data/file /data/name; chown 33:44 /data/file; chmod 2755 /data/file; \
                    ln -s file /data/link; echo volume > /vol/file; chown 7:8 /vol/file";
const SEEN: &str = "cd /data; stat -c '%n %u:%g %a %h' file name; cat link /vol/file; stat -c '%u:%g' /vol/file /; cat /var/boots";
const VOLUME: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c0aa";

fn payload(node: &Node, uuid: &str) -> Value {
    let mut payload = node.payload(5);
    payload["uuid"] = json!(uuid);
    payload["customer_metadata"] = json!({"user-script": "echo hello"});
    payload["internal_metadata"] = json!({"secret": "x"});
    payload["tags"] = json!({"role": "db"});
    payload["routes"] = json!({"172.20.42.0/24": "10.64.0.9"});
    payload["filesystems"] = json!([{"source": format!("/zones/{uuid}/volumes/{VOLUME}"), "target": "/vol", "type": "lofs"}]);
    payload
}

/// What must be the same on both nodes.
fn described(node: &Node, uuid: &str) -> Value {
    let mut vm = node.get(uuid);
    for key in ["last_modified", "pid", "boot_timestamp", "state", "zone_state", "exit_status", "exit_timestamp", "server_uuid", "autoboot"]
    {
        vm.as_object_mut().unwrap().remove(key);
    }
    vm
}

/// Issue "everything an operator does", two compute nodes migrating an instance with its data.
#[test]
fn an_instance_is_on_the_other_node_what_it_was_on_the_first() {
    let first = Node::with_image("send");
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9101";
    let running = first.create(&payload(&first, uuid));
    first.guest(uuid, MADE);
    let seen = first.guest(uuid, SEEN);
    let refused = first.vmadm(&["send", uuid]);
    assert_eq!(refused.last_error(), "Cannot send vm from state \"running\", must be \"stopped\".");
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    first.vmadm(&["stop", &running, "-F"]).ok();
    let before = described(&first, uuid);
    let path = first.layout().at("/var/tmp/stream");
    let sent = first.command("vmadm", &["send", uuid]).stdout(fs::File::create(&path).unwrap()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&sent.stderr), format!("Successfully sent VM {uuid}\n"));

    // On a booted machine there is one node only: the instance leaves it and comes back.
    let other = if first.is_machine() { None } else { Some(Node::new("receive")) };
    let second = other.as_ref().unwrap_or(&first);
    if other.is_none() {
        first.vmadm(&["delete", uuid]).ok();
    }
    let traces = second.traces();
    let said = second.vmadm(&["receive", "-f", path.to_str().unwrap()]).ok();
    assert_eq!((said.stdout.as_str(), said.last_error()), ("", format!("Successfully received VM {uuid}").as_str()));
    assert_eq!(described(second, uuid), before);
    assert_eq!(second.state(uuid), "stopped");
    second.vmadm(&["start", uuid]).ok();
    assert_eq!(second.guest(uuid, SEEN), format!("{seen}boot\n"), "one boot more");
    let again = second.vmadm(&["receive", "-f", path.to_str().unwrap()]);
    assert_eq!((again.code, again.last_error()), (Some(1), format!("VM with UUID {uuid} already exists").as_str()));
    assert_eq!(second.state(uuid), "running", "what is there is not touched");
    second.vmadm(&["delete", uuid]).ok();
    assert_no_trace(second, &traces);
    if other.is_some() {
        first.vmadm(&["start", uuid]).ok();
        assert_eq!(first.guest(uuid, SEEN), format!("{seen}boot\n"), "the sender keeps its own");
        first.vmadm(&["delete", uuid]).ok();
    }
}

/// Bad input, and SIGKILL at every step.
#[test]
fn a_stream_that_is_not_whole_leaves_nothing_and_a_kill_leaves_what_can_be_deleted() {
    let node = Node::with_image("receive-broken");
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9102";
    let mut payload = payload(&node, uuid);
    payload["autoboot"] = json!(false);
    node.create(&payload);
    let path = node.layout().at("/var/tmp/stream");
    let file = fs::File::create(&path).unwrap();
    assert!(node.command("vmadm", &["send", uuid]).stdout(file).stderr(Stdio::null()).status().unwrap().success());
    node.vmadm(&["delete", uuid]).ok();
    let before = node.traces();
    let whole = fs::read(&path).unwrap();
    let broken = node.layout().at("/var/tmp/broken");
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 0x40;
    for (bytes, reason) in [
        (&b"PK\x03\x04 something else altogether, longer than the first line"[..], "its first line is another"),
        (&whole[..10], "ends early"),
        (&whole[..whole.len() / 3], "ends early"),
        (&whole[..whole.len() - 1], "ends early"),
        (&changed, "damaged"),
    ] {
        fs::write(&broken, bytes).unwrap();
        let said = node.vmadm(&["receive", "-f", broken.to_str().unwrap()]);
        assert!(said.code == Some(1) && said.stderr.contains(reason), "{reason}: {}", said.stderr);
        assert_no_trace(&node, &before);
    }
    let trace = node.layout().at("/var/tmp/steps");
    let _ = fs::remove_file(&trace);
    let words = ["receive", "-f", path.to_str().unwrap()];
    node.run_with("vmadm", &words, "", &[("TRITON_STEP_TRACE", trace.to_str().unwrap())]).ok();
    node.vmadm(&["delete", uuid]).ok();
    let mut steps: Vec<String> = fs::read_to_string(&trace).unwrap().lines().map(str::to_owned).collect();
    fs::remove_file(&trace).unwrap();
    steps.sort();
    steps.dedup();
    assert!(steps.len() > 10, "{steps:?}");
    for step in &steps {
        assert_eq!(node.run_with("vmadm", &words, "", &[("TRITON_STEP_KILL", step)]).code, None, "{step} was not reached");
        let said = node.vmadm(&["get", uuid]);
        if said.code == Some(0) {
            assert!(["failed", "stopped"].contains(&said.json()["state"].as_str().unwrap()), "{step}: {}", said.stdout);
            node.vmadm(&["delete", uuid]).ok();
        }
        node.vmadm(&words).ok();
        assert_eq!(node.state(uuid), "stopped", "{step}");
        node.vmadm(&["delete", uuid]).ok();
    }
    assert_no_trace(&node, &before);
}

/// instances section 4.2
#[test]
fn sysrq_is_for_other_brands() {
    let node = Node::with_image("sysrq");
    let mut payload = node.payload(5);
    payload["autoboot"] = json!(false);
    let uuid = node.create(&payload);
    let said = node.vmadm(&["sysrq", &uuid, "nmi"]);
    assert_eq!((said.code, said.last_error()), (Some(1), "The sysrq command is only supported for VMs  with brand \"bhyve\" or \"kvm\"."));
    node.vmadm(&["delete", &uuid]).ok();
}
