//! vm-agent and net-agent on a node, against the stand-in headnode.

use std::{collections::BTreeMap, fs, process::Child};

use serde_json::{Value, json};

use crate::{Headnode, Node, http, until};

/// The account that owns the node's own NICs.
const ADMIN: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

/// Both agents, killed and started as a test likes.
#[derive(Debug)]
pub struct Reporters<'a> {
    node: &'a Node,
    running: BTreeMap<&'static str, Child>,
}

impl<'a> Reporters<'a> {
    /// Writes their configurations, makes a network at NAPI, starts both, and waits
    /// until they are ready.
    ///
    /// # Panics
    /// When one does not become ready.
    pub fn start(node: &'a Node) -> Self {
        let mut this = Self::idle(node, "10.64.0.0/24");
        for name in ["net-agent", "vm-agent"] {
            this.run(name);
            until("the agent is ready", || this.status(name)["ready"] == true);
        }
        this
    }

    /// As [`Reporters::start`] with the network `subnet`, and starts none.
    ///
    /// # Panics
    /// When NAPI does not take the network.
    pub fn idle(node: &'a Node, subnet: &str) -> Self {
        let etc = node.layout().at("/opt/smartdc/agents/etc");
        let net = json!({"napi": {"url": format!("http://{}", Headnode::NAPI)}, "no_rabbit": true, "admin_uuid": ADMIN});
        fs::write(etc.join("net-agent.config.json"), net.to_string()).expect("disk");
        let vm = json!({"vmapi_url": format!("http://{}", Headnode::VMAPI), "no_rabbit": true});
        fs::write(etc.join("vm-agent.config.json"), vm.to_string()).expect("disk");
        for tag in ["external", "admin"] {
            http(node, Headnode::NAPI, "POST", "/nic_tags", Some(&json!({"name": tag})));
        }
        let network = json!({"name": "external", "nic_tag": "external", "vlan_id": 0, "subnet": subnet, "provision_start_ip": "10.64.0.5",
            "provision_end_ip": "10.64.0.200", "gateway": "10.64.0.1", "resolvers": ["192.0.2.53"]});
        let reply = http(node, Headnode::NAPI, "POST", "/networks", Some(&network));
        assert_eq!(reply.status, 200, "{}", reply.body);
        Self { node, running: BTreeMap::new() }
    }

    /// Starts one.
    pub fn run(&mut self, name: &'static str) {
        let environment = [("ADMIN_IP", "127.0.0.1")];
        let child =
            if self.node.is_machine() { self.node.spawn_as_unit(name, &environment) } else { self.node.spawn(name, &[], &environment) };
        self.running.insert(name, child);
    }

    /// Kills one with SIGKILL and collects it.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self, name: &str) {
        let mut child = self.running.remove(name).expect("it runs");
        let _ = child.kill();
        let _ = child.wait();
    }

    /// The process of one that runs.
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.running.get(name).map(Child::id)
    }

    /// What it says of itself; null while it does not answer.
    pub fn status(&self, name: &str) -> Value {
        let outcome = self.node.run(name, &["status", "-j"]);
        serde_json::from_str(&outcome.stdout).unwrap_or_default()
    }
}

impl Drop for Reporters<'_> {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
