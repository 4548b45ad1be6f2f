//! The instances of a made-up node, and the agent that reports them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use triton_headnode::VmApi;
use triton_instance::{Changes, Inventory, Loaded};
use triton_types::{InstanceUuid, ServerUuid};
use vm_agent::{Agent, Numbers, Settings, user_agent};

use crate::vmapi::Vmapi;

pub const SERVER: &str = "44454c4c-0000-1000-8000-000000000001";

#[derive(Default)]
pub struct Instances {
    vms: Mutex<BTreeMap<InstanceUuid, Loaded>>,
    /// Lookups and loads fail with this.
    pub failure: Mutex<Option<String>>,
    pub calls: Mutex<Vec<(String, Instant)>>,
}

impl Inventory for Instances {
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String> {
        self.calls.lock().unwrap().push((format!("load {uuid}"), Instant::now()));
        match &*self.failure.lock().unwrap() {
            Some(failure) => Err(failure.clone()),
            None => Ok(self.vms.lock().unwrap().get(&uuid).cloned().unwrap_or(Loaded::Absent)),
        }
    }

    fn each(&self, take: &mut dyn FnMut(InstanceUuid, Loaded)) -> Result<(), String> {
        let failure = self.failure.lock().unwrap().clone();
        let vms = self.vms.lock().unwrap().clone();
        // Recorded afterwards: what is put there once a test has seen the call is not in its answer.
        self.calls.lock().unwrap().push(("each".to_owned(), Instant::now()));
        match failure {
            Some(failure) => Err(failure),
            None => {
                vms.into_iter().for_each(|(uuid, loaded)| take(uuid, loaded));
                Ok(())
            }
        }
    }
}

/// A node with its agent and its VMAPI. The agent ends with it.
pub struct Node {
    pub vmapi: Vmapi,
    pub instances: Arc<Instances>,
    pub changes: Arc<Changes>,
    agent: Option<tokio::task::JoinHandle<()>>,
}

impl Node {
    pub fn new() -> Self {
        Self { vmapi: Vmapi::default(), instances: Arc::default(), changes: Arc::default(), agent: None }
    }

    /// Starts the agent.
    pub async fn start(&mut self) {
        let url = self.vmapi.serve().await;
        let server: ServerUuid = SERVER.parse().unwrap();
        let vmapi = VmApi::new(&user_agent(server), url.parse().unwrap(), server);
        let agent = Agent::new(vmapi, self.instances.clone(), self.changes.clone(), Settings::default(), Numbers::default());
        self.agent = Some(tokio::spawn(agent.run()));
    }

    /// Starts the agent and waits until it has compared.
    pub async fn started() -> Self {
        let mut node = Self::new();
        node.start().await;
        node.compared().await;
        node
    }

    /// Waits until the agent has read the instances for its comparison.
    pub async fn compared(&self) {
        eventually("the comparison", || self.instances.calls.lock().unwrap().iter().any(|(call, _)| call == "each").then_some(())).await;
    }

    /// Puts an instance there without telling anybody.
    pub fn put(&self, uuid: InstanceUuid, extra: Value) -> Map<String, Value> {
        let vm = object(uuid, extra);
        self.instances.vms.lock().unwrap().insert(uuid, Loaded::Object(vm.clone()));
        vm
    }

    /// An instance is created or changed.
    pub fn change(&self, uuid: InstanceUuid, extra: Value) -> Map<String, Value> {
        let vm = self.put(uuid, extra);
        self.changes.touch([uuid]);
        vm
    }

    /// Its description cannot be read from now on.
    pub fn spoil(&self, uuid: InstanceUuid) {
        self.instances.vms.lock().unwrap().insert(uuid, Loaded::Unreadable("garbage".to_owned()));
        self.changes.touch([uuid]);
    }

    /// It is deleted.
    pub fn delete(&self, uuid: InstanceUuid) {
        self.instances.vms.lock().unwrap().remove(&uuid);
        self.changes.touch([uuid]);
    }

    /// Waits until VMAPI has exactly this.
    pub async fn stored(&self, vm: &Map<String, Value>) {
        let uuid = vm["uuid"].as_str().unwrap().to_owned();
        eventually("the report", || (self.vmapi.get(&uuid).as_ref() == Some(vm)).then_some(())).await;
    }

    /// Waits until VMAPI has the instance as destroyed.
    pub async fn destroyed(&self, uuid: InstanceUuid) -> Map<String, Value> {
        eventually("the end", || {
            self.vmapi.get(&uuid.to_string()).filter(|vm| vm["state"] == "destroyed" && vm["zone_state"] == "destroyed")
        })
        .await
    }

    /// Bodies of the single reports of an instance.
    pub fn reports(&self, uuid: InstanceUuid) -> Vec<(Instant, Value)> {
        let line = format!("PUT /vms/{uuid}");
        let store = self.vmapi.0.lock().unwrap();
        store.requests.iter().filter(|request| request.line == line).map(|request| (request.at, request.body.clone())).collect()
    }

    /// Waits until everything that was asked for before now has been dealt with, by an instance that is reported after it.
    pub async fn settled(&self) {
        let probe = InstanceUuid::random();
        let vm = self.change(probe, json!({}));
        self.stored(&vm).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(agent) = self.agent.take() {
            agent.abort();
        }
    }
}

/// A VM object.
pub fn object(uuid: InstanceUuid, extra: Value) -> Map<String, Value> {
    let vm = json!({"uuid": uuid, "brand": "lx", "state": "stopped", "zone_state": "installed", "snapshots": []});
    let (Value::Object(mut vm), Value::Object(extra)) = (vm, extra) else { panic!("no objects") };
    vm.extend(extra);
    vm
}

/// Waits until `look` sees something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
