//! Heartbeats: nothing that is collected, counted or locked by tasks can delay them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use triton_agent::chain;

use super::Wire;

/// Sends a heartbeat, then one `pause` after the end of each, for ever. Failures are logged, the first of a row as a warning.
/// `beats` counts attempts: the watchdog looks at it.
pub async fn heartbeats(wire: Arc<Wire>, pause: Duration, patience: Duration, beats: Arc<AtomicU64>) {
    let mut failures = 0_u64;
    loop {
        match wire.heartbeat(patience).await {
            Ok(()) if failures > 0 => {
                tracing::info!(failures, "CNAPI takes heartbeats again");
                failures = 0;
            }
            Ok(()) => {}
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    tracing::warn!(error = %chain(&error), "CNAPI did not take a heartbeat");
                } else {
                    tracing::debug!(error = %chain(&error), failures, "CNAPI did not take a heartbeat");
                }
            }
        }
        beats.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}
