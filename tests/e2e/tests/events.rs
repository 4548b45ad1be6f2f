//! `vmadm events`: all that happens to instances, and nothing twice.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

/// A running `vmadm events`, and its lines.
struct Stream {
    child: Child,
    lines: Receiver<String>,
}

impl Stream {
    fn of(node: &Node, args: &[&str]) -> Self {
        let mut command = node.command("vmadm", &[&["events"], args].concat());
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }
    fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("an event")
    }
    fn event(&self) -> Value {
        serde_json::from_str(&self.line()).unwrap()
    }
    /// Reads events until one of `uuid` of `kind` that `wanted` accepts, and returns it.
    fn until(&self, uuid: &str, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.event();
            assert_eq!(event["uuid"], event["zonename"], "{event}");
            if event["uuid"] == uuid && event["type"] == kind && wanted(&event) {
                return event;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn change<'a>(event: &'a Value, path: &str) -> Option<&'a Value> {
    event["changes"].as_array()?.iter().find(|change| change["prettyPath"] == path)
}

/// instances case 64, vm-agent section 6
#[test]
fn the_stream_begins_with_all_there_is_and_tells_every_change_once_and_in_order() {
    let node = Node::with_image("events");
    let before = node.traces();
    let old = node.create(&node.payload(5));
    let stream = Stream::of(&node, &["-jr"]);
    let ready = stream.event();
    assert_eq!(ready["type"], "ready");
    assert_eq!(ready["vms"], json!({ old.as_str(): node.get(&old) }), "keyed by uuid, each as `get` shows it");

    let new = node.create(&node.payload(6));
    let created = stream.until(&new, "create", |_| true);
    assert_eq!(created["vm"]["uuid"], new.as_str());
    assert_eq!(created.get("changes"), None);
    stream.until(&new, "modify", |event| event["vm"]["state"] == "running");

    node.vmadm(&["update", &new, "alias=second"]).ok();
    let told = stream.until(&new, "modify", |event| change(event, "alias").is_some());
    assert_eq!(change(&told, "alias").unwrap()["newValue"], "second");
    assert_eq!(told["vm"]["alias"], "second");

    node.vmadm(&["stop", &new, "-F"]).ok();
    let told = stream.until(&new, "modify", |event| event["vm"]["state"] == "stopped");
    let state = change(&told, "state").unwrap();
    assert_eq!((&state["action"], &state["newValue"]), (&json!("changed"), &json!("stopped")));

    // What is written and says the same is no event: the next one is the deletion.
    node.vmadm(&["update", &new, "alias=second"]).ok();
    node.vmadm(&["delete", &new]).ok();
    let told = stream.until(&new, "delete", |_| true);
    assert_eq!((told.get("vm"), told.get("changes")), (None, None));
    node.vmadm(&["delete", &old]).ok();
    stream.until(&old, "delete", |_| true);
    drop(stream);
    assert_no_trace(&node, &before);
}

/// instances section 4.5
#[test]
fn text_lines_name_the_instance_and_what_became_of_a_value() {
    let node = Node::with_image("events-text");
    let mut payload = node.payload(5);
    payload["alias"] = json!("a name that is longer than thirty characters");
    let uuid = node.create(&payload);
    let other = node.create(&node.payload(6));
    let stream = Stream::of(&node, &["-r", &uuid]);
    assert!(stream.line().ends_with(" - ready"));
    node.vmadm(&["update", &other, "alias=unseen"]).ok();
    node.vmadm(&["update", &uuid, "package_name=small"]).ok();
    let first = uuid.split('-').next().unwrap();
    loop {
        let line = stream.line();
        assert!(line.contains(&format!("] {first} a name that is longer than ... modify ")), "{line}");
        if line.ends_with("package_name added :: undefined -> \"small\"") {
            break;
        }
    }
    let said = node.vmadm(&["events", "00000000-0000-4000-8000-000000000009"]);
    assert_eq!((said.code, said.last_error()), (Some(1), "VM 00000000-0000-4000-8000-000000000009 not found"));
    for uuid in [uuid, other] {
        node.vmadm(&["delete", &uuid]).ok();
    }
}

/// instances section 4.1: EPIPE is no error
#[test]
fn the_stream_ends_when_nobody_reads() {
    let node = Node::with_image("events-pipe");
    let mut child = node.command("vmadm", &["events", "-j"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    triton_e2e::until("the end of vmadm events", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
