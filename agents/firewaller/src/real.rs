//! The agent on its node: configuration, identity, sockets, signals.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use serde_json::json;
use tokio::{net::TcpListener, sync::Notify};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use triton_agent::{
    Backoff, ConfigError, Environment, ProcessEnvironment, chain,
    http::{ServerLimits, serve as serve_http},
    logs, metrics, ready, shutdown_signal,
};
use triton_files::{FileError, Layout};
use triton_firewall::FirewallError;
use triton_headnode::{FwApi, UrlError, VmApi};
use triton_instance::{Changes, watch};
use triton_sysinfo::{FactsError, HostFacts, Sysinfo, SysinfoOptions};
use triton_types::ServerUuid;

use crate::{AgentConfig, NAME, Numbers, RealNode, Services, Task, Worker, api, config::Addresses, follow, keeping::Keeping};

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("the agent's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// FWAPI's or VMAPI's URL cannot be used.
    #[error("the URL of FWAPI or VMAPI cannot be used: node.config or firewaller.config.json")]
    Url(#[from] UrlError),
    /// The node's identity is not known.
    #[error("the compute node's identity is not known")]
    Facts(#[from] FactsError),
    /// A file or socket of the agent's own cannot be used.
    #[error("a file of the agent cannot be used")]
    File(#[from] FileError),
    /// This kernel or this process cannot filter.
    #[error("the firewall of this node cannot be opened")]
    Firewall(#[from] FirewallError),
    /// The machine refused something.
    #[error("could not {0}")]
    System(&'static str, #[source] io::Error),
}

/// How long the worker may be busy with one thing: a comparison asks FWAPI and VMAPI for one owner after the other.
const BUSY: Duration = Duration::from_secs(600);
/// Between two looks for what is not configured yet.
const CONFIG_EVERY: Duration = Duration::from_secs(10);
/// How long readiness waits for what is stored to be in force; instances with a firewall put it in force themselves before they start.
const FIRST_LOOK: Duration = Duration::from_secs(60);

/// `User-Agent` of everything that goes to FWAPI and VMAPI.
pub fn user_agent(server: ServerUuid) -> String {
    format!("{NAME}/{} (rust/{}) server/{server}", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"))
}

/// Keeps the firewall of the node below `layout` until SIGTERM or SIGINT.
///
/// # Errors
/// When the agent cannot begin. FWAPI, VMAPI, the admin address and the store of instances may be missing, and are waited for.
pub async fn serve(layout: &Layout) -> Result<(), StartError> {
    let signal = shutdown_signal().map_err(|error| StartError::System("take over signals", error))?;
    let config = AgentConfig::load(layout)?;
    let numbers = Numbers::default();
    let page = metrics::Metrics::new("firewaller");
    numbers.register(&page);
    let own = numbers.clone();
    let status = Arc::new(move || {
        let mut status = own.status();
        let more = json!({"version": env!("CARGO_PKG_VERSION"), "pid": std::process::id()});
        if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
            status.extend(more.clone());
        }
        status
    });
    let stop = CancellationToken::new();
    let page = metrics::spawn(layout, NAME, page, status, stop.clone().cancelled_owned())?;
    let node = Arc::new(RealNode::open(layout)?);
    let result = tokio::select! {
        result = work(layout, config, node, numbers) => result,
        cause = signal => {
            info!(%cause, "stopping; what is in force stays so");
            Ok(())
        }
    };
    ready::stopping();
    stop.cancel();
    let _ = page.await;
    result
}

async fn work(layout: &Layout, config: AgentConfig, node: Arc<RealNode>, numbers: Numbers) -> Result<(), StartError> {
    let _watchdog = AbortOnDrop(tokio::spawn(ready::watchdog(ready::progress(numbers.beats(), BUSY))));
    let mut keeping =
        Keeping::start(layout, node.clone(), numbers.clone()).map_err(|error| StartError::System("look after the table", error))?;
    let changes = Arc::new(Changes::default());
    watch(layout, changes.clone()).map_err(|error| StartError::System("start the watcher", error))?;
    // Before anything else, and whether or not there is an FWAPI: instances may start when this agent is ready.
    ready::notify_status("putting the stored rules in force");
    let compare = Notify::new();
    let keep = async {
        let mut pauses = Backoff::new(Duration::from_millis(100), 2.0, Duration::from_secs(2), 0.0);
        let first = async {
            while !keeping.look(true).await {
                tokio::time::sleep(pauses.next_delay()).await;
            }
        };
        if tokio::time::timeout(FIRST_LOOK, first).await.is_err() {
            warn!("what is stored is not in force yet: instances whose firewall cannot be put in force do not start");
        }
        ready::notify("what is stored is in force");
        keeping.run(&changes, &compare).await;
    };
    tokio::select! {
        () = keep => Ok(()),
        result = keep_in_step(layout, &config, node, numbers, &compare) => result,
    }
}

/// Compares and follows, for ever. `compare` asks for a comparison.
async fn keep_in_step(
    layout: &Layout,
    config: &AgentConfig,
    node: Arc<RealNode>,
    numbers: Numbers,
    compare: &Notify,
) -> Result<(), StartError> {
    let addresses = addresses(layout, config).await?;
    let at = layout.clone();
    let server = tokio::task::spawn_blocking(move || HostFacts::load(&at).map(|facts| facts.server_uuid))
        .await
        .map_err(|error| StartError::System("read the facts of the node", io::Error::other(error)))??;
    let (agent, names) = (user_agent(server), addresses.names());
    let services = Services {
        backend: node.clone(),
        fwapi: FwApi::with_names(&agent, addresses.fwapi.parse()?, names.clone()),
        vmapi: VmApi::with_names(&agent, addresses.vmapi.parse()?, server, names.clone()),
        server,
        numbers: numbers.clone(),
    };
    let settings = config.settings();
    let (worker, handle) = Worker::new(services, settings);
    let router = api::router(node, handle.clone(), &logs::hostname());
    let http = async {
        let listener = bind(layout, config.port()).await;
        info!(address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default(), "serving");
        serve_http(listener, router, ServerLimits::default(), std::future::pending()).await;
    };
    let asked = async {
        loop {
            compare.notified().await;
            handle.push(Task::Sync { req_id: uuid::Uuid::new_v4().to_string() });
        }
    };
    info!(server_uuid = %server, fwapi = addresses.fwapi, vmapi = addresses.vmapi, fast = addresses.fast, "keeping rules in step");
    ready::notify_status("keeping rules in step with FWAPI");
    tokio::select! {
        () = worker.run() => {}
        () = follow(addresses.fast, names, server, handle.clone(), settings, numbers) => {}
        () = asked => {}
        () = http => {}
    }
    Ok(())
}

/// Ends a task with what it belongs to.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where the services are; waits until that is known.
async fn addresses(layout: &Layout, config: &AgentConfig) -> Result<Addresses, StartError> {
    let mut said = false;
    loop {
        if let Some(addresses) = config.addresses(layout)? {
            return Ok(addresses);
        }
        if !std::mem::replace(&mut said, true) {
            warn!("node.config names neither FWAPI and VMAPI nor the data centre: they are waited for, and what is stored stays in force");
            ready::notify_status("waiting for node.config, which names FWAPI");
        }
        tokio::time::sleep(CONFIG_EVERY).await;
    }
}

/// Binds the admin address. It may be missing for some time after boot, and is waited for.
async fn bind(layout: &Layout, port: u16) -> TcpListener {
    let mut backoff = Backoff::new(Duration::from_millis(500), 1.6, Duration::from_secs(10), 0.2);
    loop {
        match try_bind(layout, port).await {
            Ok(listener) => return listener,
            Err(error) => warn!(error, port, "the admin address cannot be served on yet"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn try_bind(layout: &Layout, port: u16) -> Result<TcpListener, String> {
    // As cn-agent has it: a node of a test bed may be told its address.
    let ip = match ProcessEnvironment.get("ADMIN_IP").and_then(|ip| ip.parse().ok()) {
        Some(ip) => IpAddr::V4(ip),
        None => {
            let at = layout.clone();
            let collect = move || Sysinfo::collect(&at, &SysinfoOptions::default()).and_then(|sysinfo| sysinfo.admin_ip());
            let collected = tokio::task::spawn_blocking(collect).await.map_err(|error| error.to_string())?;
            collected.map_err(|error| chain(&error).to_string())?
        }
    };
    if ip.is_unspecified() {
        return Err("the admin address is 0.0.0.0: this agent never listens on all addresses".to_owned());
    }
    TcpListener::bind(SocketAddr::new(ip, port)).await.map_err(|error| format!("{ip}: {error}"))
}
