//! The agent on its node: configuration, identity, threads, signals.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use triton_agent::{ConfigError, metrics::Metrics, ready, shutdown_signal};
use triton_files::{FileError, Layout};
use triton_headnode::{BaseUrl, Napi, UrlError};
use triton_instance::{Changes, watch_with_inits};
use triton_sysinfo::{FactsError, HostFacts};
use triton_types::ServerUuid;

use crate::{
    Agent, AgentConfig, FabricPace, Fabrics, NAME, Numbers, Settings,
    agent::Sources,
    feed,
    guarding::Guarding,
    local::{Me, Pace},
    machine::{watch_links, watch_tags},
    node::{RealNode, load_kept},
};

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot be used.
    #[error("the agent's configuration cannot be used")]
    Config(#[from] ConfigError),
    /// NAPI's URL cannot be used.
    #[error("napi.url of net-agent.config.json cannot be used")]
    Napi(#[from] UrlError),
    /// The node's identity is not known.
    #[error("the compute node's identity is not known")]
    Facts(#[from] FactsError),
    /// A file or socket of the agent's own cannot be used.
    #[error("a file of the agent cannot be used")]
    File(#[from] FileError),
    /// What an earlier agent kept cannot be read.
    #[error("what an earlier agent kept cannot be used: {0}")]
    Kept(String),
    /// The machine refused something.
    #[error("could not {0}")]
    System(&'static str, #[source] io::Error),
}

/// How long the agent's loop may be busy with one thing: a list of NAPI's in many pages.
const BUSY: Duration = Duration::from_secs(600);
/// Between two looks for a configuration that is not there (net-agent.md section 2).
const CONFIG_EVERY: Duration = Duration::from_secs(10);
/// First pause before a new subscription (section 5.6).
const FEED_PAUSE: Duration = Duration::from_secs(5);

/// `User-Agent` of everything that goes to NAPI (section 3).
pub fn user_agent(server: ServerUuid) -> String {
    format!("{NAME}/{} (rust/{}) server/{server}", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"))
}

/// Waits for a configuration that says that there is something to do.
///
/// # Errors
/// When there is one that cannot be used.
pub async fn configuration(layout: &Layout, every: Duration) -> Result<AgentConfig, ConfigError> {
    let mut said = false;
    loop {
        match AgentConfig::load(layout)? {
            Some(config) if config.no_rabbit => return Ok(config),
            Some(_) => {
                warn!("no_rabbit is not true in net-agent.config.json: nothing is done about NICs until the agent is started anew");
                ready::notify("no_rabbit is not true: idle");
                std::future::pending::<()>().await;
            }
            None => {
                if !std::mem::replace(&mut said, true) {
                    warn!(path = %AgentConfig::path(layout).display(), "there is no configuration yet: it is waited for");
                    ready::notify("waiting for net-agent.config.json");
                }
                tokio::time::sleep(every).await;
            }
        }
    }
}

/// Keeps NICs of the node below `layout` in step until SIGTERM or SIGINT.
///
/// # Errors
/// When the agent cannot begin; NAPI and the store of instances may be missing, and are waited for.
pub async fn serve(layout: &Layout) -> Result<(), StartError> {
    let signal = shutdown_signal().map_err(|error| StartError::System("take over signals", error))?;
    let numbers = Numbers::default();
    let page = Metrics::new("net_agent");
    numbers.register(&page);
    let changes = Arc::new(Changes::default());
    let (own, seen) = (numbers.clone(), changes.clone());
    let status = Arc::new(move || {
        let mut status = own.status();
        let more = json!({"version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "watching": seen.is_watching()});
        if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
            status.extend(more.clone());
        }
        status
    });
    // Before anything else, and whether or not there is a NAPI.
    let (at, own) = (layout.clone(), numbers.clone());
    let guarding = tokio::task::spawn_blocking(move || Guarding::start(&at, &own))
        .await
        .map_err(io::Error::other)
        .and_then(|started| started)
        .map_err(|error| StartError::System("look after the guard", error))?;
    let fabrics = Fabrics::start(layout, &numbers, FabricPace::default())
        .map_err(|error| StartError::System("look after overlay networks", error))?;
    let stop = CancellationToken::new();
    let page = triton_agent::metrics::spawn(layout, NAME, page, status, stop.clone().cancelled_owned())?;
    let result = tokio::select! {
        result = keep_in_step(layout, changes, numbers) => result,
        cause = signal => {
            info!(%cause, "stopping; guests and their guard stay as they are");
            Ok(())
        }
    };
    drop((guarding, fabrics));
    ready::stopping();
    stop.cancel();
    let _ = page.await;
    result
}

async fn keep_in_step(layout: &Layout, changes: Arc<Changes>, numbers: Numbers) -> Result<(), StartError> {
    let config = {
        // systemd was told that the agent is ready: it is to stay so, however long nobody writes a configuration.
        let _alive = AbortAll([tokio::spawn(ready::watchdog(|| true))]);
        configuration(layout, CONFIG_EVERY).await?
    };
    let (at, given) = (layout.clone(), config.cn_uuid);
    let facts = move || -> Result<_, StartError> {
        let server = match given {
            Some(server) => server,
            None => HostFacts::load(&at)?.server_uuid,
        };
        Ok((server, load_kept(&at).map_err(StartError::Kept)?))
    };
    let (server, kept) = tokio::task::spawn_blocking(facts)
        .await
        .map_err(|error| StartError::System("read the facts of the node", io::Error::other(error)))??;
    let url: BaseUrl = config.napi.url.parse()?;
    let napi = Napi::new(&user_agent(server), url.clone());
    watch_with_inits(layout, changes.clone()).map_err(|error| StartError::System("start the watcher", error))?;
    let machine = Arc::new(Notify::new());
    watch_tags(layout, machine.clone()).map_err(|error| StartError::System("start the watcher of tags", error))?;
    let links = tokio::spawn(watch_links(machine.clone()));
    let (to, events) = mpsc::channel(feed::WAITING);
    let instance = config.agent_uuid.unwrap_or_else(|| server.to_string());
    let subscription = tokio::spawn(feed::follow(user_agent(server), url, instance, FEED_PAUSE, to, numbers.clone()));
    let me = Me { server, admin: config.admin_uuid, pace: Pace::default() };
    let sources = Sources { changes, feed: events, machine };
    let agent = Agent::new(me, kept, napi, Arc::new(RealNode::new(layout)), sources, Settings::default(), numbers);
    let watchdog = tokio::spawn(ready::watchdog(ready::progress(agent.beats(), BUSY)));
    info!(server_uuid = %server, "keeping NICs in step");
    ready::notify("comparing with NAPI");
    let _end = AbortAll([links, subscription, watchdog]);
    agent.run().await;
    Ok(())
}

/// Ends tasks that belong to one another.
struct AbortAll<const N: usize>([tokio::task::JoinHandle<()>; N]);

impl<const N: usize> Drop for AbortAll<N> {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}
