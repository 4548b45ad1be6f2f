//! From a bound listener to the end: the order of startup and shutdown (cn-agent.md section 6).

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use triton_agent::{http::serve, metrics, ready};
use triton_files::FileError;
use triton_headnode::{BaseUrl, CnApi, HttpClient, HttpOptions};
use triton_types::ServerUuid;

use crate::{
    ANNOUNCED_VERSION, Limits, NAME, Numbers, Registry, Runner, TWIN, TaskLog, http, remove_stale_guards,
    report::{Intervals, Outbox, StatusSource, Wire, heartbeats, sample, watch_sysinfo},
    tasks::Model,
};

/// What an agent is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node.
    pub server: ServerUuid,
    /// Name of the machine, for headers.
    pub hostname: String,
    /// CNAPI.
    pub cnapi: BaseUrl,
    /// Limits of tasks.
    pub limits: Limits,
    /// Times of the reporters.
    pub intervals: Intervals,
    /// How long running tasks may go on after the agent was asked to stop.
    pub grace: Duration,
    /// Where the logs of tasks go.
    pub task_log: TaskLog,
    /// True for the twin that installs a new version of this agent (section 6): it runs tasks and tells CNAPI nothing.
    pub twin: bool,
}

/// What an agent works with.
pub struct Facilities {
    /// What tasks work on.
    pub model: Model,
    /// The handlers.
    pub registry: Registry,
    /// The list of installed agents, blocking.
    pub agents: Arc<dyn Fn() -> Vec<Value> + Send + Sync>,
    /// The status sample.
    pub status: StatusSource,
    /// Set by whoever sees an instance change.
    pub dirty: Arc<AtomicBool>,
    /// The agent's numbers.
    pub numbers: Numbers,
}

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("the configuration of cn-agent cannot be used")]
    Config(#[from] triton_agent::ConfigError),
    /// CNAPI's URL is not known, or not one.
    #[error("CNAPI's URL is not known: {0}")]
    Cnapi(String),
    /// The node's identity is not known.
    #[error("the compute node's identity is not known")]
    Facts(#[from] triton_sysinfo::FactsError),
    /// A file or socket of the agent's own cannot be used.
    #[error("a file of the agent cannot be used")]
    File(#[from] FileError),
    /// The machine refused something.
    #[error("could not {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// Longest pause between two heartbeats of an agent that lives: each attempt has a deadline of seconds.
const BEATS: Duration = Duration::from_secs(60);

/// `User-Agent` of everything that goes to CNAPI.
fn user_agent(server: ServerUuid) -> String {
    format!("{NAME}/{ANNOUNCED_VERSION} (rust/{}) server/{server}", env!("CARGO_PKG_RUST_VERSION"))
}

/// Serves on `listener` until `shutdown` ends, then drains: new tasks are refused, running ones have [`Settings::grace`], the server
/// ends, and heartbeats end last. Running guests are not affected.
///
/// # Errors
/// When the agent's own socket for `status` cannot be bound.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    facilities: Facilities,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), StartError> {
    let Facilities { model, registry, agents, status, dirty, numbers } = facilities;
    let address = listener.local_addr().map_err(|error| StartError::System("learn the bound address", error))?;
    // The guards that a twin finds are those of the agent's running tasks.
    let removed = if settings.twin { 0 } else { remove_stale_guards(&model.layout) };
    if removed > 0 {
        warn!(removed, "guard files of creations that did not end were removed");
    }
    let runner = Runner::new(registry, settings.limits, settings.task_log.clone(), numbers.clone());
    let outbox = Arc::new(Outbox::default());
    let beats = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();

    let numbers_page = metrics::Metrics::new("cn_agent");
    numbers.register(&numbers_page);
    let own = status_source(&settings, address, runner.clone(), outbox.clone(), beats.clone());
    let name = if settings.twin { TWIN } else { NAME };
    let page = metrics::spawn(&model.layout, name, numbers_page, own, stop.clone().cancelled_owned())?;

    let router = http::router(runner.clone(), settings.server, &settings.hostname);
    let server = tokio::spawn(serve(listener, router, http::limits(settings.limits.task_timeout), stop.clone().cancelled_owned()));
    info!(%address, server_uuid = %settings.server, cnapi = %settings.cnapi, "serving");
    ready::notify(if settings.twin { "installing a new cn-agent" } else { "registering with CNAPI" });

    let mut loops = JoinSet::new();
    loops.spawn(ready::watchdog(ready::progress(beats.clone(), BEATS)));
    if settings.twin {
        runner.open();
        shutdown.await;
        return end(&settings, &runner, stop, loops, server, page).await;
    }
    loops.spawn(repeat_agents(outbox.clone(), model.refresh_agents.clone()));
    let options = HttpOptions::new(user_agent(settings.server));
    let cnapi = CnApi::new(HttpClient::new(options), settings.cnapi.clone(), settings.server);
    let wire = Arc::new(Wire::new(cnapi, numbers.clone()));
    let intervals = settings.intervals;
    loops.spawn(outbox.clone().run(wire.clone(), model.sysinfo.clone(), agents, intervals));
    let started = async {
        let mut progress = outbox.progress();
        outbox.sysinfo();
        // The sender lives in `outbox`: waiting cannot fail.
        let _ = progress.wait_for(|progress| progress.registered).await;
        outbox.agents();
        let _ = progress.wait_for(|progress| progress.agents_sent).await;
        loops.spawn(heartbeats(wire, intervals.heartbeat, intervals.heartbeat_patience, beats));
        loops.spawn(sample(outbox.clone(), status, dirty, intervals, numbers));
        loops.spawn(watch_sysinfo(outbox.clone(), model.sysinfo.clone(), intervals.sysinfo_compare, runner.altered()));
        runner.open();
        info!("accepting tasks");
        ready::notify("accepting tasks");
    };
    let mut shutdown = std::pin::pin!(shutdown);
    let stopped = tokio::select! {
        () = started => false,
        () = &mut shutdown => true,
    };
    if !stopped {
        shutdown.await;
    }

    end(&settings, &runner, stop, loops, server, page).await
}

async fn end<A, B>(
    settings: &Settings,
    runner: &Runner,
    stop: CancellationToken,
    mut loops: JoinSet<()>,
    server: tokio::task::JoinHandle<A>,
    page: tokio::task::JoinHandle<B>,
) -> Result<(), StartError> {
    ready::stopping();
    let left = runner.drain(settings.grace).await;
    if left > 0 {
        warn!(left, "tasks are left unfinished");
    }
    stop.cancel();
    let _ = server.await;
    let _ = page.await;
    loops.shutdown().await;
    info!("stopped");
    Ok(())
}

/// Posts the list of agents whenever it is asked for.
async fn repeat_agents(outbox: Arc<Outbox>, asked: Arc<tokio::sync::Notify>) {
    loop {
        asked.notified().await;
        outbox.agents();
    }
}

fn status_source(
    settings: &Settings,
    address: SocketAddr,
    runner: Arc<Runner>,
    outbox: Arc<Outbox>,
    beats: Arc<AtomicU64>,
) -> metrics::StatusSource {
    let (server, cnapi, log) = (settings.server, settings.cnapi.to_string(), settings.task_log.clone());
    Arc::new(move || {
        let progress = *outbox.progress().borrow();
        json!({
            "version": ANNOUNCED_VERSION,
            "pid": std::process::id(),
            "server_uuid": server,
            "address": address.to_string(),
            "cnapi": cnapi,
            "tasks": format!("{:?}", runner.admission()).to_lowercase(),
            "registered": progress.registered,
            "heartbeats": beats.load(Ordering::Relaxed),
            "tasks_working": runner.working(),
            "task_log_dropped": log.dropped(),
        })
    })
}
