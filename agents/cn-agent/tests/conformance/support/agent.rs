//! An agent with everything around it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use cn_agent::{
    Facilities, Limits, Numbers, Registry, Settings, TaskLog,
    report::Intervals,
    run,
    tasks::{Model, registry},
};
use serde_json::{Value, json};
use tokio::{sync::oneshot, task::JoinHandle};
use triton_files::Layout;
use triton_types::{InstanceUuid, JsonMap, Packed, ServerUuid};

use super::{FakeNode, PATIENCE, Recorder, Reply, eventually, raw};

/// What a test may choose.
pub struct Builder {
    pub limits: Limits,
    pub intervals: Intervals,
    pub grace: Duration,
    /// Fills the registry beyond the usual tasks.
    pub tasks: fn(&mut Registry),
    /// Takes a status sample.
    pub status: Arc<dyn Fn() -> Result<Packed, String> + Send + Sync>,
    pub root: Option<tempfile::TempDir>,
    /// Changes what tasks work on.
    pub model: Box<dyn FnOnce(&mut Model) + Send>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            intervals: Intervals { sample_check: Duration::from_millis(10), ..Intervals::default() },
            grace: Duration::from_secs(30),
            tasks: |_| {},
            status: Arc::new(|| Ok(Packed::of(&json!({"vms": {}})).unwrap())),
            root: None,
            model: Box::new(|_| {}),
        }
    }
}

/// A running agent.
pub struct Bed {
    pub address: SocketAddr,
    pub server: ServerUuid,
    pub layout: Layout,
    pub node: Arc<FakeNode>,
    pub cnapi: Recorder,
    pub firewaller: Recorder,
    /// Set by a test to say that an instance changed.
    pub dirty: Arc<AtomicBool>,
    /// Part of sysinfo; a test may alter it.
    pub fact: Arc<AtomicU32>,
    pub root: Option<tempfile::TempDir>,
    stop: Option<oneshot::Sender<()>>,
    agent: Option<JoinHandle<()>>,
}

impl Builder {
    /// Starts the agent and waits until it accepts tasks.
    pub async fn start(self) -> Bed {
        let bed = self.begin(Recorder::start().await).await;
        bed.wait_until_open().await;
        bed
    }

    /// Starts the agent, which talks to `cnapi`, and waits only until it is bound.
    pub async fn begin(self, cnapi: Recorder) -> Bed {
        let root = self.root.unwrap_or_else(|| tempfile::tempdir().unwrap());
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        std::fs::create_dir_all(layout.at("/tmp")).unwrap();
        let firewaller = Recorder::start().await;
        let node = Arc::new(FakeNode::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ServerUuid::random();
        let fact = Arc::new(AtomicU32::new(0));
        let current = fact.clone();
        let sysinfo = move || {
            let value = json!({"UUID": server, "CN Agent Port": address.port(), "Fact": current.load(Ordering::SeqCst)});
            Ok::<JsonMap, String>(value.as_object().unwrap().clone())
        };
        let url = format!("http://{}", firewaller.address).parse().unwrap();
        let mut model = Model::new(layout.clone(), node.clone(), node.clone(), Arc::new(sysinfo), url);
        model.guard_poll = Duration::from_millis(10);
        (self.model)(&mut model);
        let mut tasks = registry(&model);
        (self.tasks)(&mut tasks);
        let dirty = Arc::new(AtomicBool::new(false));
        let settings = Settings {
            server,
            hostname: "cn-under-test".to_owned(),
            cnapi: format!("http://{}", cnapi.address).parse().unwrap(),
            limits: self.limits,
            intervals: self.intervals,
            grace: self.grace,
            task_log: TaskLog::start(&layout.at("/var/log/cn-agent/logs"), "cn-under-test").unwrap(),
            twin: false,
        };
        let facilities = Facilities {
            model,
            registry: tasks,
            agents: Arc::new(|| vec![json!({"name": "cn-agent", "version": cn_agent::ANNOUNCED_VERSION})]),
            status: self.status,
            dirty: dirty.clone(),
            numbers: Numbers::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let agent = tokio::spawn(async move { run(listener, settings, facilities, shutdown).await.unwrap() });
        Bed { address, server, layout, node, cnapi, firewaller, dirty, fact, root: Some(root), stop: Some(stop), agent: Some(agent) }
    }
}

impl Drop for Bed {
    /// A test that fails with the gate closed must not wait for the calls that it stopped.
    fn drop(&mut self) {
        self.node.open_gate();
    }
}

impl Bed {
    /// An agent with the usual limits.
    pub async fn start() -> Self {
        Builder::default().start().await
    }

    /// Waits until the startup is done: only then a task without name is told from a task for nobody.
    pub async fn wait_until_open(&self) {
        let open = async {
            while self.send("POST /tasks", "{}").await.status == 404 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, open).await.expect("the agent never accepted tasks");
    }

    /// Sends a request with a JSON body.
    pub async fn send(&self, request: &str, body: &str) -> Reply {
        raw::send(self.address, request, &[("Content-Type", "application/json")], body).await
    }

    /// Sends a task as CNAPI does.
    pub async fn task(&self, task: &str, params: Value) -> Reply {
        let server = self.server.to_string();
        let headers = [("Content-Type", "application/json"), ("x-server-uuid", server.as_str()), ("x-request-id", "req-1")];
        raw::send(self.address, "POST /tasks", &headers, &json!({"task": task, "params": params}).to_string()).await
    }

    /// Sends a task without waiting for its reply.
    pub fn later(&self, task: &'static str, params: Value) -> JoinHandle<Reply> {
        let (address, server) = (self.address, self.server.to_string());
        tokio::spawn(async move {
            let headers = [("Content-Type", "application/json"), ("x-server-uuid", server.as_str())];
            raw::send(address, "POST /tasks", &headers, &json!({"task": task, "params": params}).to_string()).await
        })
    }

    pub async fn history(&self) -> Vec<Value> {
        self.send("GET /history", "").await.json().as_array().unwrap().clone()
    }

    /// Waits until the node was asked for `call`.
    pub async fn called(&self, call: &str) {
        eventually(call, || self.node.calls().iter().any(|made| made.starts_with(call)).then_some(())).await;
    }

    pub fn guard(&self, uuid: InstanceUuid) -> std::path::PathBuf {
        self.layout.provision_guard(uuid)
    }

    /// Asks the agent to stop.
    pub fn stop(&mut self) {
        let _ = self.stop.take().expect("stopped once").send(());
    }

    /// Waits for the end of the agent.
    pub async fn ended(&mut self) {
        tokio::time::timeout(PATIENCE, self.agent.take().expect("ended once")).await.expect("the agent did not end").unwrap();
    }
}
