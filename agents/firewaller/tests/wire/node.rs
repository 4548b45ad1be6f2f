//! A node for the agent: instances and rules in memory, a stand-in headnode, and what the oracle says of packets.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use firewaller::{Backend, Edit, Handle, Numbers, Services, Settings, Stored, Worker, api, follow};
use headnode_standin::{Entry, Standin, StandinConfig};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};
use triton_fwrule::{Direction, Flow, Packet, Rule, Verdict, VmFacts, Vms, decide};
use triton_headnode::{FwApi, VmApi};
use triton_types::{InstanceUuid, RuleUuid};

pub const SERVER: &str = "44454c4c-5700-1047-8051-b3c04f585131";
pub const ELSEWHERE: &str = "44454c4c-5700-1047-8051-b3c04f585132";
pub const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";
pub const OTHER: &str = "930896af-bf8c-48d4-885c-6573a94b1853";

/// What there is on the node.
#[derive(Default)]
pub struct Here {
    pub locals: Vec<VmFacts>,
    pub stored: Stored,
    /// Why the list of instances is not complete.
    pub lists_fail: Option<String>,
    pub changes: usize,
}

#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<Here>>);

impl Memory {
    pub fn here(&self) -> MutexGuard<'_, Here> {
        self.0.lock().unwrap()
    }
}

impl Backend for Memory {
    fn locals(&self) -> Result<Vec<VmFacts>, String> {
        let here = self.here();
        here.lists_fail.clone().map_or_else(|| Ok(here.locals.clone()), Err)
    }

    fn stored(&self) -> Result<Stored, String> {
        Ok(self.here().stored.clone())
    }

    fn change(&self, edit: &Edit) -> Result<(), String> {
        let mut here = self.here();
        here.changes += 1;
        for uuid in &edit.delete_rules {
            here.stored.rules.remove(uuid);
        }
        for uuid in &edit.delete_remotes {
            here.stored.remotes.remove(uuid);
        }
        let (rules, remotes) = (&edit.rules, &edit.remotes);
        here.stored.damaged_rules.retain(|uuid| !edit.delete_rules.contains(uuid) && rules.iter().all(|rule| rule.uuid != *uuid));
        here.stored.damaged_remotes.retain(|uuid| !edit.delete_remotes.contains(uuid) && remotes.iter().all(|vm| vm.uuid != *uuid));
        here.stored.rules.extend(edit.rules.iter().map(|rule| (rule.uuid, rule.clone())));
        here.stored.remotes.extend(edit.remotes.iter().map(|vm| (vm.uuid, vm.clone())));
        Ok(())
    }

    fn converge(&self) -> Result<(), String> {
        Ok(())
    }

    fn is_filtered(&self, uuid: InstanceUuid) -> Result<bool, String> {
        Ok(self.here().locals.iter().any(|vm| vm.uuid == uuid && vm.firewall_enabled))
    }
}

pub struct Node {
    pub memory: Memory,
    pub standin: Standin,
    pub numbers: Numbers,
    pub url: String,
    handle: Option<Handle>,
    stop: Option<DropGuard>,
    _images: tempfile::TempDir,
}

/// Waits until it holds.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("20 s went by, and never: {what}");
}

/// A VM object.
#[allow(clippy::needless_pass_by_value, reason = "so that cases can write json!() in place")]
pub fn vm(uuid: InstanceUuid, owner: &str, ip: &str, tags: Value) -> Value {
    json!({"uuid": uuid, "owner_uuid": owner, "server_uuid": ELSEWHERE, "state": "running", "tags": tags, "nics": [{"ip": ip}],
        "firewall_enabled": true})
}

impl Node {
    pub fn new() -> Self {
        let images = tempfile::tempdir().unwrap();
        let standin = Standin::start(StandinConfig::loopback(images.path()).unwrap()).unwrap();
        Self {
            memory: Memory::default(),
            standin,
            numbers: Numbers::default(),
            url: String::new(),
            handle: None,
            stop: None,
            _images: images,
        }
    }

    /// An instance of this node, with its firewall on.
    pub fn local(&self, ip: &str, tags: Value) -> InstanceUuid {
        let uuid = InstanceUuid::random();
        self.has(&vm(uuid, OWNER, ip, tags));
        uuid
    }

    /// The node has this instance, in the place of an older one.
    pub fn has(&self, object: &Value) {
        let facts = VmFacts::from_object(object.as_object().unwrap()).unwrap();
        let mut here = self.memory.here();
        here.locals.retain(|vm| vm.uuid != facts.uuid);
        here.locals.push(facts);
    }

    /// An instance of another node.
    pub fn remote(&self, owner: &str, ip: &str, tags: Value) -> InstanceUuid {
        let uuid = InstanceUuid::random();
        self.standin.have_vm(&vm(uuid, owner, ip, tags)).unwrap();
        uuid
    }

    /// A rule that is stored on the node.
    pub fn keep(&self, rule: &Value) -> RuleUuid {
        let rule = Rule::from_json(rule, &triton_fwrule::Options::default()).unwrap();
        self.memory.here().stored.rules.insert(rule.uuid, rule.clone());
        rule.uuid
    }

    /// Starts the agent; returns when it has compared at start and is subscribed.
    pub async fn start(&mut self) {
        self.launch().await;
        eventually("the agent is ready", || {
            let status = self.numbers.status();
            status["subscribed"] == true && status["syncs"].as_u64() >= Some(2)
        })
        .await;
    }

    /// Starts the agent.
    pub async fn launch(&mut self) {
        let standin = &self.standin;
        let (fwapi, vmapi, fast) = (standin.fwapi_url().to_owned(), standin.vmapi_url().to_owned(), standin.fast_address().to_owned());
        self.launch_at(&fwapi, &vmapi, fast).await;
    }

    /// Starts the agent with the services elsewhere.
    pub async fn launch_at(&mut self, fwapi: &str, vmapi: &str, fast: String) {
        let server = SERVER.parse().unwrap();
        let services = Services {
            backend: Arc::new(self.memory.clone()),
            fwapi: FwApi::new("firewaller/test", fwapi.parse().unwrap()),
            vmapi: VmApi::new("firewaller/test", vmapi.parse().unwrap(), server),
            server,
            numbers: self.numbers.clone(),
        };
        let settings = Settings { jitter: Duration::ZERO, ..Settings::default() };
        let (worker, handle) = Worker::new(services, settings);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.url = format!("http://{}", listener.local_addr().unwrap());
        let router = api::router(Arc::new(self.memory.clone()), handle.clone(), "cn0");
        let (follower, address, numbers) = (handle.clone(), fast, self.numbers.clone());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = worker.run() => {}
                () = follow(address, triton_headnode::Names::system(), server, follower, settings, numbers) => {}
                _ = triton_agent::http::serve(listener, router, triton_agent::http::ServerLimits::default(), std::future::pending()) => {}
                () = stopped.cancelled() => {}
            }
        });
        self.handle = Some(handle);
        self.stop = Some(stop.drop_guard());
    }

    /// Sends an event and waits until the agent is done with it.
    pub async fn event(&self, name: &str, value: &Value) {
        let req_id = self.standin.announce(name, value);
        eventually(&format!("{name} is worked on"), || self.recent().contains(&req_id)).await;
    }

    /// Tasks that wait.
    pub fn queued(&self) -> usize {
        self.handle.as_ref().unwrap().progress().0
    }

    pub fn recent(&self) -> Vec<String> {
        self.handle.as_ref().unwrap().progress().1
    }

    /// A comparison from its order to its end.
    pub async fn sync(&self) {
        self.event("sync", &json!({"type": "sync"})).await;
    }

    /// Requests to FWAPI and VMAPI whose path begins so.
    pub fn requests(&self, path: &str) -> Vec<Entry> {
        self.standin.record(0).into_iter().filter(|entry| entry.path.starts_with(path)).collect()
    }

    /// What is stored, and the changes of it so far.
    pub fn stored(&self) -> (Stored, usize) {
        let here = self.memory.here();
        (here.stored.clone(), here.changes)
    }

    pub fn rules(&self) -> Vec<RuleUuid> {
        self.memory.here().stored.rules.keys().copied().collect()
    }

    pub fn remotes(&self) -> Vec<InstanceUuid> {
        self.memory.here().stored.remotes.keys().copied().collect()
    }

    /// Whether what is stored lets a TCP connection from an address in.
    pub fn admits(&self, vm: InstanceUuid, from: &str, port: u16) -> bool {
        let here = self.memory.here();
        let rules: Vec<_> = here.stored.rules.values().cloned().collect();
        let remote: Vec<_> = here.stored.remotes.values().cloned().collect();
        let packet = Packet { vm, direction: Direction::In, remote: from.parse().unwrap(), flow: Flow::Tcp(port) };
        decide(&rules, &Vms { local: &here.locals, remote: &remote }, &packet) == Verdict::Allow
    }

    /// Asks FWAPI or the agent.
    pub async fn ask(&self, base: &str, method: http::Method, path: &str, body: Option<&Value>) -> Result<Value, (u16, String)> {
        let client = triton_headnode::HttpClient::new(triton_headnode::HttpOptions::new("test"));
        let mut call = triton_headnode::Call::new(method, path);
        call.body = body.map(|body| body.to_string().into_bytes().into());
        match client.call(&base.parse().unwrap(), call).await {
            Ok(reply) => Ok(serde_json::from_slice(&reply.body).unwrap_or_default()),
            Err(error) => Err((error.status().map_or(0, |status| status.as_u16()), triton_agent::chain(&error).to_string())),
        }
    }

    /// A rule in FWAPI.
    pub async fn fwapi_rule(&self, rule: &Value) -> Value {
        self.ask(self.standin.fwapi_url(), http::Method::POST, "/rules", Some(rule)).await.unwrap()
    }
}

/// A rule of [`OWNER`], enabled.
pub fn rule(text: &str) -> Value {
    json!({"uuid": RuleUuid::random(), "rule": text, "owner_uuid": OWNER, "enabled": true, "log": false, "version": "1.000001"})
}
