//! Overlay networks (net-agent.md section 17): where addresses on other nodes are, from portolan to the kernel, and answers to guests that
//! ask for them.
//!
//! It has a thread and a runtime of its own, needs no configuration but `triton-networking.json`, and no NAPI: nothing else in the agent waits
//! for it, and it for nothing else. Guests' frames never pass through it, apart from those for addresses that are not known. Bridges and
//! devices are made where instances start (`triton-nictag`), and anew here if somebody takes one away; what was learned is in them and goes on
//! when the agent ends.

mod core;
mod frame;
mod networks;
mod portolan;
mod worker;

use std::{io, thread, time::Duration};

use tokio_util::sync::CancellationToken;
use triton_agent::chain;
use triton_files::Layout;
use triton_link::NetNs;
use triton_nictag::{NicTags, Overlay};

use self::core::Times;
use crate::metrics::Numbers;

/// Between two looks at the rules of overlays, which come with a boot of the node.
const RULES_EVERY: Duration = Duration::from_secs(10);
/// Pause after a failure.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// The upkeep of overlay networks. It ends soon after this is dropped.
#[derive(Debug)]
pub struct Fabrics(CancellationToken);

impl Drop for Fabrics {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// How often, and how long.
#[derive(Clone, Copy, Debug)]
pub struct FabricPace {
    pub(crate) times: Times,
    /// First pause before a new connection to portolan; later ones grow to sixty times that.
    pub(crate) pause: Duration,
}

impl Default for FabricPace {
    fn default() -> Self {
        Self { times: Times::default(), pause: Duration::from_secs(1) }
    }
}

impl FabricPace {
    /// With this time between two looks at portolan's log and before a new connection, for tests.
    pub fn every(pause: Duration) -> Self {
        Self { times: Times { log_every: pause, nobody_for: pause * 2, here_for: pause, ..Times::default() }, pause }
    }
}

impl Fabrics {
    /// Begins, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn start(layout: &Layout, numbers: &Numbers, pace: FabricPace) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let netns = NetNs::current().map_err(io::Error::other)?;
        let stop = CancellationToken::new();
        let (layout, numbers, stopped) = (layout.clone(), numbers.clone(), stop.clone());
        let run = move || runtime.block_on(stopped.run_until_cancelled(follow_rules(&layout, &netns, &numbers, pace)));
        thread::Builder::new().name("fabrics".to_owned()).stack_size(1 << 20).spawn(run)?;
        Ok(Self(stop))
    }
}

/// One worker for each overlay, for as long as its rule stays the same.
async fn follow_rules(layout: &Layout, netns: &NetNs, numbers: &Numbers, pace: FabricPace) {
    let mut known: Vec<Overlay> = Vec::new();
    let mut workers = tokio::task::JoinSet::new();
    let mut said = false;
    loop {
        match NicTags::load(layout).map(|tags| tags.overlays()) {
            Ok(overlays) if overlays != known => {
                workers.shutdown().await;
                for overlay in &overlays {
                    tracing::info!(overlay = %overlay.name, portolan = %overlay.portolan, underlay = %overlay.underlay, "this node takes part in overlay networks");
                    workers.spawn(worker::run(overlay.clone(), layout.clone(), netns.clone(), numbers.clone(), pace));
                }
                known = overlays;
            }
            Ok(_) => said = false,
            Err(error) if !std::mem::replace(&mut said, true) => {
                tracing::warn!(error = %chain(&error), "the rules of overlay networks cannot be read: those that were count on");
            }
            Err(_) => {}
        }
        tokio::time::sleep(RULES_EVERY).await;
    }
}
