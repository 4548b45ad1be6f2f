//! The agent on its node: configuration, identity, threads, signals.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;
use triton_agent::{metrics, ready, shutdown_signal};
use triton_files::{FileError, Layout};
use triton_headnode::{UrlError, VmApi};
use triton_instance::{Changes, RealInventory, watch_with_inits};
use triton_sysinfo::{FactsError, HostFacts, NodeConfig};
use triton_types::ServerUuid;

use crate::{Agent, AgentConfig, NAME, Numbers, Settings};

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// VMAPI's URL cannot be used.
    #[error("VMAPI's URL cannot be used: vmapi_url in vm-agent.config.json or vmapi_domain in node.config")]
    Vmapi(#[from] UrlError),
    /// The node's identity is not known.
    #[error("the compute node's identity is not known")]
    Facts(#[from] FactsError),
    /// A file or socket of the agent's own cannot be used.
    #[error("a file of the agent cannot be used")]
    File(#[from] FileError),
    /// The machine refused something.
    #[error("could not {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// How long the agent's loop may be busy with one thing: a list of VMAPI's in many pages, and the answer to a bulk report.
const BUSY: Duration = Duration::from_secs(600);

/// `User-Agent` of everything that goes to VMAPI (vm-agent.md section 3.2).
pub fn user_agent(server: ServerUuid) -> String {
    format!("{NAME}/{} (rust/{}) server/{server}", env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_RUST_VERSION"))
}

/// Reports the node below `layout` until SIGTERM or SIGINT.
///
/// # Errors
/// When the agent cannot begin; VMAPI and the store of instances may be missing, and are waited for.
pub async fn serve(layout: &Layout) -> Result<(), StartError> {
    let signal = shutdown_signal().map_err(|error| StartError::System("take over signals", error))?;
    let config = AgentConfig::load(layout);
    let at = layout.clone();
    let given = config.server_uuid;
    let facts = move || -> Result<_, StartError> {
        let domain = NodeConfig::load(&at)?.get("vmapi_domain").map(str::to_owned);
        let server = match given {
            Some(server) => server,
            None => HostFacts::load(&at)?.server_uuid,
        };
        Ok((server, domain))
    };
    let (server, domain) = tokio::task::spawn_blocking(facts)
        .await
        .map_err(|error| StartError::System("read the facts of the node", std::io::Error::other(error)))??;
    let vmapi = VmApi::new(&user_agent(server), config.vmapi(domain.as_deref())?, server);

    let numbers = Numbers::default();
    let page = metrics::Metrics::new("vm_agent");
    numbers.register(&page);
    let changes = Arc::new(Changes::default());
    let (own, seen, url) = (numbers.clone(), changes.clone(), vmapi.url().to_string());
    let status = Arc::new(move || {
        let mut status = own.status();
        let more = json!({"version": env!("CARGO_PKG_VERSION"), "pid": std::process::id(), "server_uuid": server, "vmapi": url, "watching": seen.is_watching()});
        if let (Some(status), Some(more)) = (status.as_object_mut(), more.as_object()) {
            status.extend(more.clone());
        }
        status
    });
    let stop = CancellationToken::new();
    let page = metrics::spawn(layout, NAME, page, status, stop.clone().cancelled_owned())?;
    watch_with_inits(layout, changes.clone()).map_err(|error| StartError::System("start the watcher", error))?;

    let settings = Settings { look_around_every: config.look_around_every(), ..Settings::default() };
    let inventory = Arc::new(RealInventory::new(layout));
    let agent = Agent::new(vmapi, inventory, changes, settings, numbers);
    let watchdog = tokio::spawn(ready::watchdog(ready::progress(agent.beats(), BUSY)));
    info!(server_uuid = %server, "reporting");
    ready::notify("comparing with VMAPI");
    tokio::select! {
        () = agent.run() => {}
        cause = signal => info!(%cause, "stopping; VMAPI is told of later changes after the next start"),
    }
    ready::stopping();
    watchdog.abort();
    stop.cancel();
    let _ = page.await;
    Ok(())
}
