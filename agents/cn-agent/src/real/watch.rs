//! Threads that look after the instances: one notices changes, and every minute repairs what dead monitors or agents left.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{info, warn};
use triton_files::Layout;
use triton_instance::Watcher;

use super::{Node, stale::Stale};

/// Pause after the watcher failed: the store of instances is not there.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often what is left over is looked for, besides at start.
const RECOVER_EVERY: Duration = Duration::from_secs(60);

/// Starts the threads; they end with the process. `dirty` is set after each change of an instance.
///
/// # Errors
/// When a thread cannot be started.
pub(super) fn spawn(layout: &Layout, node: Arc<Node>, dirty: Arc<AtomicBool>, stale: Arc<Stale>) -> io::Result<()> {
    let layout = layout.clone();
    thread::Builder::new().name("watcher".to_owned()).stack_size(256 << 10).spawn(move || watch(&layout, &dirty, &stale))?;
    thread::Builder::new().name("recovery".to_owned()).spawn(move || recover(&node))?;
    Ok(())
}

fn watch(layout: &Layout, dirty: &AtomicBool, stale: &Stale) {
    let mut failing = false;
    loop {
        let result = Watcher::new(layout).and_then(|mut watcher| {
            failing = false;
            // What changed before the watcher was there is in the next sample.
            stale.all();
            dirty.store(true, Ordering::Release);
            loop {
                let changes = watcher.wait(Duration::from_secs(3600))?;
                if !changes.is_empty() {
                    stale.add(changes.iter().map(|change| change.uuid));
                    dirty.store(true, Ordering::Release);
                }
            }
        });
        let result: Result<std::convert::Infallible, _> = result;
        if let Err(error) = result
            && !std::mem::replace(&mut failing, true)
        {
            warn!(error = %triton_agent::chain(&error), "instances cannot be watched");
        }
        thread::sleep(AFTER_FAILURE);
    }
}

fn recover(node: &Node) {
    loop {
        let begin = Instant::now();
        match node.instances().map(|instances| instances.recover()) {
            Ok(Ok(recovery)) => {
                for (uuid, error) in &recovery.failed {
                    warn!(vm_uuid = %uuid, error, "an instance could not be repaired");
                }
                if !(recovery.adopted.is_empty() && recovery.cleared.is_empty() && recovery.deleted.is_empty()) {
                    info!(adopted = ?recovery.adopted, cleared = ?recovery.cleared, deleted = ?recovery.deleted, "instances were repaired");
                }
            }
            Ok(Err(error)) => warn!(error = %triton_agent::chain(&error), "instances could not be looked at"),
            // A node that is not set up has none; the sampler says so.
            Err(_) => {}
        }
        thread::sleep(RECOVER_EVERY.saturating_sub(begin.elapsed()).max(Duration::from_secs(1)));
    }
}
