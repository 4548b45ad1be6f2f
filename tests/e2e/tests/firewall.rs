//! The Cloud Firewall from a rule at FWAPI to packets between guests, with the agent killed and the table edited on the way.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    process::{Child, Command},
};

use serde_json::{Value, json};
use triton_e2e::{Headnode, Node, assert_no_trace, http, until, until_some};

const FWAPI: &str = "127.0.0.1:8085";
const FIREWALLER: &str = "127.0.0.1:2021";
const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";

/// The agent, killed and started as a test likes.
struct Agent<'a> {
    node: &'a Node,
    child: Option<Child>,
}

impl<'a> Agent<'a> {
    fn start(node: &'a Node) -> Self {
        let config = json!({"fwapi": {"url": format!("http://{FWAPI}")}, "vmapi": {"url": format!("http://{}", Headnode::VMAPI)},
            "syncJitter": 0});
        fs::write(node.layout().at("/opt/smartdc/agents/etc/firewaller.config.json"), config.to_string()).unwrap();
        let mut this = Self { node, child: None };
        this.run(&[]);
        this.ready();
        this
    }

    fn run(&mut self, more: &[(&str, &str)]) {
        let environment: Vec<_> = [("ADMIN_IP", "127.0.0.1")].into_iter().chain(more.iter().copied()).collect();
        self.child = Some(self.node.spawn("firewaller", &[], &environment));
    }

    fn status(&self) -> Value {
        serde_json::from_str(&self.node.run("firewaller", &["status", "-j"]).stdout).unwrap_or_default()
    }

    /// In step with FWAPI, subscribed and in step again: no comparison is due that would undo what a test edits by hand.
    fn ready(&self) {
        until("firewaller is ready, subscribed and has compared since", || {
            let status = self.status();
            status["ready"] == true && status["subscribed"] == true && status["syncs"].as_u64() >= Some(2)
        });
    }

    /// SIGKILL.
    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and its end.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    /// Waits until a step has killed it.
    fn killed(&mut self) {
        let child = self.child.as_mut().unwrap();
        let status = until_some("the step kills it", || child.try_wait().unwrap());
        assert_eq!(status.signal(), Some(9), "{status}");
        self.child = None;
    }
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking()
            && let Ok(text) = fs::read_to_string(self.node.layout().at("/var/log/firewaller.log"))
        {
            let tail: Vec<&str> = text.lines().rev().take(30).collect();
            eprintln!("--- firewaller.log (newest first)\n{}", tail.join("\n"));
        }
    }
}

/// A guest with its firewall on.
fn guest(node: &Node, host: u8, tags: &Value) -> String {
    let mut payload = node.payload(host);
    payload["owner_uuid"] = OWNER.into();
    payload["firewall_enabled"] = true.into();
    payload["tags"] = tags.clone();
    node.create(&payload)
}

/// What VMAPI's workflows say of an instance.
fn tell(node: &Node, kind: &str, uuid: &str, server: &str) {
    let update = json!({"type": kind, "uuid": uuid, "owner_uuid": OWNER, "server_uuid": server});
    assert_eq!(http(node, FWAPI, "POST", "/updates", Some(&update)).status, 202);
}

/// A rule in FWAPI; its uuid.
fn rule(node: &Node, text: &str) -> String {
    let reply = http(node, FWAPI, "POST", "/rules", Some(&json!({"rule": text, "owner_uuid": OWNER, "enabled": true})));
    assert_eq!(reply.status, 202, "{}", reply.body);
    reply.json()["uuid"].as_str().unwrap().to_owned()
}

fn change(node: &Node, uuid: &str, fields: &Value) {
    assert_eq!(http(node, FWAPI, "PUT", &format!("/rules/{uuid}"), Some(fields)).status, 202);
}

/// Whether a connection gets so far that the guest at the other end refuses it: nobody listens there.
fn connects(node: &Node, from: &str, address: &str, port: u16) -> bool {
    node.guest(from, &format!("nc -w 1 {address} {port} </dev/null 2>&1 || true")).contains("refused")
}

fn nft(node: &Node, words: &[&str]) -> String {
    let pin = node.layout().namespaces().join("net");
    let output = Command::new("nsenter").arg(format!("--net={}", pin.display())).arg("nft").args(words).output().unwrap();
    assert!(output.status.success(), "nft {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Issue 7; ruling 9; firewaller cases T11, T13, E-ST8
#[test]
fn a_rule_at_fwapi_is_what_guests_feel_whoever_edits_or_stops_what() {
    let node = Node::with_image("fw");
    let before = node.traces();
    {
        let headnode = Headnode::start(&node);
        let server = headnode.server();
        let mut agent = Agent::start(&node);
        let client = guest(&node, 5, &json!({}));
        let web = guest(&node, 6, &json!({"role": "web"}));
        let to = |port| connects(&node, &client, "10.64.0.6", port);
        assert!(!to(22), "nothing comes in by default");

        // A rule comes, changes, is switched off and goes.
        let first = rule(&node, "FROM any TO tag \"role\" = \"web\" ALLOW tcp PORT 22");
        until("the rule is in force", || to(22));
        assert!(!to(23));
        let shown = http(&node, FIREWALLER, "GET", &format!("/rules/{first}"), None).json();
        assert_eq!(
            (&shown["rule"], &shown["created_by"]),
            (&json!("FROM any TO tag \"role\" = \"web\" ALLOW tcp PORT 22"), &json!("fwapi"))
        );
        assert_eq!(http(&node, FIREWALLER, "GET", &format!("/vms/{web}/status"), None).json()["running"], true);
        change(&node, &first, &json!({"rule": "FROM any TO tag \"role\" = \"web\" ALLOW tcp PORT 23"}));
        until("the change is in force", || to(23) && !to(22));
        change(&node, &first, &json!({"enabled": false}));
        until("the rule is off", || !to(23));
        assert_eq!(http(&node, FWAPI, "DELETE", &format!("/rules/{first}"), None).status, 204);
        until("the rule is gone", || http(&node, FIREWALLER, "GET", &format!("/rules/{first}"), None).status == 404);

        // Who is meant changes: by a peer's uuid, by the guest's own tag.
        let tasks = || agent.status()["tasks"].as_u64().unwrap();
        let done = tasks();
        rule(&node, &format!("FROM vm {client} TO vm {web} ALLOW tcp PORT 24"));
        rule(&node, "FROM all vms TO tag \"role\" = \"db\" ALLOW tcp PORT 25");
        until("the client is let in", || to(24));
        assert!(!to(25));
        node.run_with("vmadm", &["update", &web], &json!({"set_tags": {"role": "db"}}).to_string(), &[]).ok();
        tell(&node, "vm.update", &web, &server);
        until("the new tag counts", || to(25));
        // Two rules and the tag: what is still to be done would make the table anew before anybody counts that as a repair.
        until("what was told is done", || tasks() >= done + 3);

        // Two edits by hand: the table, and a file.
        let repairs = || agent.status()["table_repairs"].as_u64().unwrap();
        let counted = repairs();
        nft(&node, &["flush", "ruleset"]);
        until("the table is back after a flush", || repairs() > counted && to(24) && !to(26));
        let chains = nft(&node, &["-a", "list", "table", "bridge", "triton_fw"]);
        let chain =
            chains.split_whitespace().find(|word| word.starts_with(&format!("in_{web}_"))).unwrap().trim_end_matches(',').to_owned();
        let listed = nft(&node, &["-a", "list", "chain", "bridge", "triton_fw", &chain]);
        let last = listed.lines().filter_map(|line| line.rsplit_once("# handle ")).next_back().unwrap().1;
        let counted = repairs();
        nft(&node, &["delete", "rule", "bridge", "triton_fw", &chain, "handle", last]);
        until("the line that drops what nobody allows is back", || repairs() > counted && !to(26) && to(24));
        let files = node.layout().at("/var/fw/rules");
        let file = until_some("the file of the rule", || {
            fs::read_dir(&files)
                .unwrap()
                .flatten()
                .map(|entry| entry.path())
                .find(|path| fs::read_to_string(path).unwrap().contains("PORT 25"))
        });
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace("PORT 25", "PORT 26")).unwrap();
        until("the file's new text is in force", || to(26) && !to(25));
        fs::write(&file, "{ half").unwrap();
        until("FWAPI's rule is back in the place of the damaged file", || {
            fs::read_to_string(&file).is_ok_and(|text| text.contains("PORT 25")) && to(25) && !to(26)
        });
        until("no file is damaged any more", || agent.status()["damaged_files"] == 0);

        // The guest's own filter is its own: the firewall's switch does not touch it.
        let pid = node.get(&web)["pid"].to_string();
        let inside = |words: &str| {
            let words = words.split(' ');
            let output = Command::new("nsenter").args(["-t", &pid, "-n", "nft"]).args(words).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        inside("add table inet own");
        let own = inside("list ruleset");
        node.run("fwadm", &["stop", &web]).ok();
        assert!(to(26), "nothing is filtered");
        node.run("fwadm", &["start", &web]).ok();
        assert!(!to(26) && to(24));
        assert_eq!(inside("list ruleset"), own);
        inside("delete table inet own");

        // Nothing that becomes of the agent is felt; what changed meanwhile is made up for.
        agent.stop();
        assert!(to(24) && !to(26), "stopped");
        rule(&node, "FROM any TO all vms ALLOW tcp PORT 27");
        node.vmadm(&["reboot", &web, "-F"]).ok();
        until("it is up again, filtered", || node.state(&web) == "running" && to(24) && !to(27));
        agent.run(&[]);
        until("the rule of the meantime", || to(27));
        agent.ready();
        agent.kill();
        assert!(to(24) && !to(26), "killed");

        for uuid in [&client, &web] {
            node.vmadm(&["delete", uuid]).ok();
        }
        assert_eq!(nft(&node, &["list", "tables"]).matches("triton_fw ").count(), 0, "nobody is filtered any more");
        let violations = http(&node, Headnode::CONTROL, "GET", "/violations", None).json();
        assert!(violations.as_array().is_some_and(Vec::is_empty), "{violations:#}");
    }
    assert_no_trace(&node, &before);
}

/// Issue 7: kill -9 at every step of a change, and a change that the kernel refuses, leave what was in force; the next start ends it.
#[test]
fn an_agent_that_is_killed_at_any_step_of_a_change_leaves_the_old_rules_or_the_new_ones() {
    let node = Node::with_image("fwkill");
    let before = node.traces();
    {
        let _headnode = Headnode::start(&node);
        let mut agent = Agent::start(&node);
        let client = guest(&node, 5, &json!({}));
        let web = guest(&node, 6, &json!({}));
        let to = |port| connects(&node, &client, "10.64.0.6", port);
        let (one, other) = (rule(&node, "FROM any TO all vms ALLOW tcp PORT 100"), rule(&node, "FROM any TO all vms ALLOW tcp PORT 101"));
        until("the rules are in force", || to(100) && to(101));
        agent.kill();
        let mut port = 100;
        let steps = ["journal", "file", "file:2", "stored", "before-commit", "before-commit:2", "committed", "committed:2"];
        for step in steps {
            // Both rules change while the agent is away, so that its first comparison changes two files.
            for uuid in [&one, &other] {
                let new = if *uuid == one { port + 2 } else { port + 3 };
                change(&node, uuid, &json!({"rule": format!("FROM any TO all vms ALLOW tcp PORT {new}")}));
            }
            agent.run(&[("TRITON_STEP_KILL", &format!("firewall.{step}"))]);
            agent.killed();
            let feel = [to(port), to(port + 1), to(port + 2), to(port + 3)];
            assert!([[true, true, false, false], [false, false, true, true]].contains(&feel), "killed at {step}: {feel:?}");
            // An operator's tool finds the files whole, whoever was killed.
            let listed = node.run("fwadm", &["list", "-p", "-o", "rule"]).ok().stdout;
            let mut files: Vec<bool> = (port..port + 4).map(|port| listed.contains(&format!("PORT {port}\n"))).collect();
            files.dedup();
            assert_eq!(files.len(), 2, "killed at {step}: half of a change is stored:\n{listed}");
            port += 2;
            agent.run(&[]);
            agent.ready();
            until("the new rules are in force", || to(port) && to(port + 1));
            assert!(!to(port - 1) && !to(port - 2), "killed at {step}");
            agent.kill();
        }

        // What the kernel refuses: the chain that must go is named by a rule of somebody else.
        let chains = nft(&node, &["list", "table", "bridge", "triton_fw"]);
        let chain =
            chains.split_whitespace().find(|word| word.starts_with(&format!("in_{web}_"))).unwrap().trim_end_matches(',').to_owned();
        nft(&node, &["add", "rule", "bridge", "triton_fw", "answers", "ip", "saddr", "192.0.2.1", "jump", &chain]);
        let outcome = node.run("fwadm", &["add", "-g", "-e", "FROM any TO all vms ALLOW tcp PORT 999"]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains(&chain), "{}", outcome.stderr);
        assert!(to(port) && to(port + 1) && !to(999), "what was in force still is");
        agent.run(&[]);
        until("the agent puts it right", || to(999) && to(port));
        agent.ready();
        agent.stop();
        for uuid in [&client, &web] {
            node.vmadm(&["delete", uuid]).ok();
        }
    }
    assert_no_trace(&node, &before);
}
