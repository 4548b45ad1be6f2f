//! What the instances of a node have together, whoever of them asks: so that many hostile ones cannot take more than one may.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{Budget, Limits};

/// Shared by all instances. Clones are the same.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Bytes of lines and answers of all of them.
    pub memory: Arc<Budget>,
    /// Reads of documents that run at once. Who waits is served in the order of coming, and each instance has but a few that wait, so a
    /// guest with many connections keeps no other out. Writes have no such bound: one may wait long for its instance's lock.
    pub(crate) readers: Arc<Semaphore>,
}

impl Shared {
    /// As large as `limits` says.
    pub fn new(limits: &Limits) -> Self {
        Self { memory: Budget::new(limits.memory_of_all), readers: Arc::new(Semaphore::new(limits.readers_of_all.max(1))) }
    }
}
