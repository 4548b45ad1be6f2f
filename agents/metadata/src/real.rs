//! The agent on its node: configuration, watcher, signals.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::info;
use triton_agent::{kept, metrics, ready, shutdown_signal};
use triton_files::{FileError, Layout};
use triton_instance::{Changes, watch};

use crate::{AgentConfig, Fleet, NAME, Numbers, RealStore};

/// How often every instance is looked at, whatever was told of it (metadata.md section 5.2).
const LOOK_AROUND: Duration = Duration::from_secs(60);
/// How long one look at all may take.
const BUSY: Duration = Duration::from_secs(300);

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or socket of the agent's own cannot be used.
    #[error("a file of the agent cannot be used")]
    File(#[from] FileError),
    /// The machine refused something.
    #[error("could not {0}")]
    System(&'static str, #[source] std::io::Error),
}

/// Serves the instances of the node below `layout` until SIGTERM or SIGINT.
///
/// # Errors
/// When the agent cannot begin. That the node has no store of instances yet is none: it is waited for.
pub async fn serve(layout: &Layout) -> Result<(), StartError> {
    let signal = shutdown_signal().map_err(|error| StartError::System("take over signals", error))?;
    let limits = AgentConfig::load(layout).limits;
    let numbers = Numbers::default();
    let page = metrics::Metrics::new("metadata_agent");
    numbers.register(&page);
    let own = numbers.clone();
    let status = Arc::new(move || {
        let mut status = own.status();
        status["version"] = json!(env!("CARGO_PKG_VERSION"));
        status["pid"] = json!(std::process::id());
        status
    });
    let stop = CancellationToken::new();
    let page = metrics::spawn(layout, NAME, page, status, stop.clone().cancelled_owned())?;
    let changes = Arc::new(Changes::default());
    watch(layout, changes.clone()).map_err(|error| StartError::System("start the watcher", error))?;

    let mut fleet = Fleet::new(layout, Arc::new(RealStore::new(layout)), limits, numbers);
    fleet.take_lines(kept::take());
    fleet.look_at_all().await;
    let beats = Arc::new(AtomicU64::new(0));
    let watchdog = tokio::spawn(ready::watchdog(ready::progress(beats.clone(), BUSY)));
    info!(sockets = fleet.len(), "serving");
    ready::notify("serving");
    tokio::select! {
        () = follow(&mut fleet, &changes, &beats) => {}
        cause = signal => info!(%cause, "stopping; guests find the next one's sockets in the same place"),
    }
    ready::stopping();
    watchdog.abort();
    stop.cancel();
    let _ = page.await;
    Ok(())
}

/// Follows the instances, for ever.
async fn follow(fleet: &mut Fleet, changes: &Changes, beats: &AtomicU64) {
    let mut around = tokio::time::interval(LOOK_AROUND);
    around.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    around.tick().await;
    loop {
        beats.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            news = changes.next() => {
                if news.gap {
                    fleet.look_at_all().await;
                }
                for uuid in news.touched {
                    fleet.look_at(uuid).await;
                }
            }
            _ = around.tick() => fleet.look_at_all().await,
        }
    }
}
