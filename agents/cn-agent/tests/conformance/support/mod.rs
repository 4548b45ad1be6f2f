//! A world of its own for each test: directory, agent, CNAPI, firewaller, instances and images.

mod agent;
mod cnapi;
mod fake;
mod raw;

pub use agent::{Bed, Builder};
pub use cnapi::{Answer, Recorder};
pub use fake::FakeNode;
pub use raw::{Reply, send};

use std::time::Duration;

/// Generous: only a broken agent reaches it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `look` gives a value; says what was missing if it never does.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, search).await {
        Ok(found) => found,
        Err(_) => panic!("never happened: {what}"),
    }
}
