//! Two compute nodes and an instance that moves from one to the other, by the steps of VMAPI (cn-agent.md section 3.12, ruling 61).
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use triton_e2e::{Headnode, HttpReply, Node, assert_no_trace, http, until};
use triton_link::NetNs;

/// A node with its agent at an address that the other node reaches.
struct End<'a> {
    node: &'a Node,
    address: &'static str,
    _headnode: Headnode<'a>,
}

impl<'a> End<'a> {
    fn start(node: &'a Node, address: &'static str) -> Self {
        let mut headnode = Headnode::start(node);
        headnode.kill_agent();
        headnode.start_agent(&[("ADMIN_IP", address)]);
        let end = Self { node, address, _headnode: headnode };
        until("cn-agent takes tasks", || end.connect(5309).is_some() && end.task("nop", &json!({})).status == 200);
        end
    }

    fn connect(&self, port: u16) -> Option<TcpStream> {
        let namespace = NetNs::open(&self.node.layout().namespaces().join("net")).unwrap();
        let stream = namespace.run(|| TcpStream::connect((self.address, port))).unwrap().ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Some(stream)
    }

    fn task(&self, task: &str, params: &Value) -> HttpReply {
        http(self.node, &format!("{}:5309", self.address), "POST", "/tasks", Some(&json!({"task": task, "params": params})))
    }

    fn migrate(&self, uuid: &str, action: &str) -> HttpReply {
        self.task("machine_migrate", &json!({"action": action, "vm_uuid": uuid}))
    }

    fn set(&self, uuid: &str, action: &str, value: &str) {
        let reply = self.task("machine_migrate", &json!({"action": action, "vm_uuid": uuid, "value": value}));
        assert_eq!((reply.status, reply.body.as_str()), (200, "{}"), "{action}");
    }

    /// The port at which an end was opened.
    fn open(&self, uuid: &str, action: &str) -> u16 {
        let reply = self.migrate(uuid, action);
        assert_eq!(reply.status, 200, "{}", reply.body);
        let reply = reply.json();
        assert_eq!((&reply["event"], &reply["host"]), (&json!("setup completed"), &json!(self.address)));
        assert!(reply["pid"].is_u64());
        u16::try_from(reply["port"].as_u64().unwrap()).unwrap()
    }

    fn state(&self, uuid: &str) -> Value {
        self.task("machine_load", &json!({"uuid": uuid, "include_dni": true})).json()
    }
}

/// Gives one command and reads until it is answered; gives the answer and the number of events before it.
fn command(stream: &mut BufReader<TcpStream>, command: &Value) -> (Value, usize) {
    stream.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
    let mut progress = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        if event["type"] != "progress" {
            return (event, progress);
        }
        progress += 1;
    }
}

/// A cable between the two nodes' namespaces.
fn cable(one: &Node, other: &Node) {
    let pin = |node: &Node| node.layout().namespaces().join("net").display().to_string();
    let run = |words: &[&str]| assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
    let enter = |node: &Node, words: &[&str]| {
        let net = format!("--net={}", pin(node));
        run(&[&["nsenter", net.as_str()], words].concat());
    };
    enter(one, &["ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1"]);
    // The other end goes to the other namespace by a process that is in it.
    let mut holder = Command::new("nsenter").arg(format!("--net={}", pin(other))).args(["sleep", "60"]).spawn().unwrap();
    let there = || std::fs::read_link(format!("/proc/{}/ns/net", holder.id())).ok() != std::fs::read_link("/proc/self/ns/net").ok();
    until("the holder is in the namespace", there);
    enter(one, &["ip", "link", "set", "cable1", "netns", &holder.id().to_string()]);
    for (node, link, address) in [(one, "cable0", "10.99.0.1/24"), (other, "cable1", "10.99.0.2/24")] {
        enter(node, &["ip", "address", "add", address, "dev", link]);
        enter(node, &["ip", "link", "set", link, "up"]);
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
}

/// A machine is one node: two booted ones are `cargo xtask vm test pair`.
mod two_nodes {
    use super::*;

    #[test]
    fn a_stopped_instance_moves_with_its_data_and_nothing_is_lost_when_that_breaks_off() {
        let (one, other) = (Node::with_image("migrate-source"), Node::new("migrate-target"));
        cable(&one, &other);
        let (source, target) = (End::start(&one, "10.99.0.1"), End::start(&other, "10.99.0.2"));
        let before = (one.traces(), other.traces());
        let uuid = one.create(&one.payload(5));
        one.guest(&uuid, "echo precious >/data; chown 33:33 /data; dd if=/dev/zero of=/big bs=1M count=3 2>/dev/null");

        // A live state does not move, and that is said by name.
        let reply = source.migrate(&uuid, "sync");
        assert!(reply.status == 500 && reply.body.contains("live migration is not available on Linux compute nodes"), "{}", reply.body);
        assert_eq!(source.migrate(&uuid, "dance").json()["error"], "Unexpected payload.action: dance");
        assert_eq!(source.task("machine_shutdown", &json!({"uuid": uuid, "force": true})).status, 200);

        // Begin.
        assert!(source.migrate(&uuid, "estimate").json()["size"].as_u64().unwrap() > 3 << 20);
        assert_eq!(source.migrate(&uuid, "get-filesystem-details").json(), json!({"quotaStr": "1G", "reservationStr": "none"}));
        // The target's end is ended before it has all of it: nothing is there, and the source is as it was.
        let port = target.open(&uuid, "receive");
        let mut early = BufReader::new(target.connect(port).unwrap());
        let request = json!({"command": "sync", "eventId": 1, "format": "triton-linux-instance"});
        assert_eq!(command(&mut early, &request).0["type"], "response");
        early.get_mut().write_all(b"triton-linux-instance 1\n\0\0").unwrap();
        assert_eq!(target.migrate(&uuid, "kill_migration_process").body, "{}");
        assert_eq!(early.read_line(&mut String::new()).unwrap_or(0), 0, "it was ended");
        assert_eq!(target.task("machine_load", &json!({"uuid": uuid, "include_dni": true})).json()["details"]["restCode"], "VmNotFound");

        // Sync, twice: the second copy takes the place of the first.
        for round in 1..=2 {
            let (to, from) = (target.open(&uuid, "receive"), source.open(&uuid, "sync"));
            let mut control = BufReader::new(source.connect(from).unwrap());
            assert_eq!(command(&mut control, &json!({"command": "ping", "eventId": 1})).0["type"], "response");
            let sync = json!({"command": "sync", "eventId": 2, "host": target.address, "port": to});
            let (answer, progress) = command(&mut control, &sync);
            assert_eq!(answer, json!({"type": "response", "command": "sync", "eventId": 2}), "round {round}");
            assert!(progress >= 1);
            // Nobody listens there any more.
            let (answer, _) = command(&mut control, &sync);
            assert_eq!((&answer["type"], &answer["eventId"]), (&json!("error"), &json!(2)), "{answer}");
            assert_eq!(command(&mut control, &json!({"command": "stop", "eventId": 3})).0["type"], "response");
            let copy = target.state(&uuid);
            assert_eq!((&copy["state"], &copy["do_not_inventory"], &copy["autoboot"]), (&json!("stopped"), &json!(true), &json!(false)));
            assert_eq!(target.task("machine_load", &json!({"uuid": uuid})).json()["details"]["restCode"], "VmNotFound", "hidden");
            assert_eq!(source.state(&uuid)["state"], "stopped");
        }
        // Switch.
        source.set(&uuid, "set-do-not-inventory", "true");
        source.set(&uuid, "set-autoboot", "false");
        target.set(&uuid, "set-do-not-inventory", "false");
        target.set(&uuid, "set-autoboot", "true");
        for action in ["setup-filesystem", "set-create-timestamp", "remove-zfs-quota", "restore-zfs-quota", "remove-sync-snapshots"] {
            assert_eq!(target.migrate(&uuid, action).body, "{}", "{action}");
        }
        // One that is in use is never replaced.
        let (to, from) = (target.open(&uuid, "receive"), source.open(&uuid, "sync"));
        let mut control = BufReader::new(source.connect(from).unwrap());
        let (answer, _) = command(&mut control, &json!({"command": "sync", "eventId": 1, "host": target.address, "port": to}));
        assert!(answer["message"].as_str().is_some_and(|text| text.contains("already exists")), "{answer}");
        assert_eq!(target.task("machine_boot", &json!({"uuid": uuid})).status, 200);
        assert_eq!(other.guest(&uuid, "cat /data; stat -c '%u:%g' /data; stat -c %s /big"), "precious\n33:33\n3145728\n");
        // Cleanup.
        assert_eq!(source.task("machine_destroy", &json!({"uuid": uuid, "include_dni": true})).body, "{}");
        assert_eq!(target.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
        assert_no_trace(&one, &before.0);
        assert_no_trace(&other, &before.1);
    }
}
