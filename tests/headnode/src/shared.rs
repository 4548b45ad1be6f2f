//! What all services of one stand-in share.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    Clock, agent::AgentClient, faults::Faults, fwapi::FastHub, napi::FeedHub, record::Record, store::Store, violations::Violations,
};

/// How long the headnode waits for an agent (cn-agent.md sections 2.5 and 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connecting, and tasks that have an id.
    pub task: Duration,
    /// `machine_load`.
    pub load: Duration,
    /// `machine_proc`.
    pub proc: Duration,
    /// `machine_info`.
    pub info: Duration,
    /// A heartbeat older than this makes the server's status `unknown`.
    pub stale: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            task: Duration::from_secs(3600),
            load: Duration::from_secs(60),
            proc: Duration::from_secs(20),
            info: Duration::from_secs(10),
            stale: Duration::from_secs(11),
        }
    }
}

/// Switches of the headnode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// CNAPI's `useCnAgentCommandExecute`; without it, scripts would go through ur-agent, which the stand-in does not speak to.
    pub command_execute: bool,
    /// IMGAPI honours `Range` (the real one does not say that it does).
    pub range: bool,
    /// NAPI has changefeeds (an old one has none).
    pub changefeed: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self { command_execute: true, range: true, changefeed: true }
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub datacenter: String,
    pub imgapi_url: String,
    pub images: PathBuf,
    pub limits: Limits,
    pub features: Features,
    pub clock: Clock,
    pub store: Store,
    pub record: Record,
    pub faults: Faults,
    pub violations: Violations,
    pub agents: AgentClient,
    pub tracker: TaskTracker,
    /// Changes whenever a task or job has ended.
    pub ended: watch::Sender<u64>,
    /// When each server was last heard of, milliseconds since 1970. In memory, as in CNAPI.
    pub heartbeats: Mutex<HashMap<Uuid, i64>>,
    /// Requests under way of each server's cn-agent.
    pub under_way: Mutex<HashMap<String, u32>>,
    /// FWAPI's events.
    pub fast: FastHub,
    /// NAPI's changefeed.
    pub feed: FeedHub,
    /// Signs of life of its subscribers.
    pub heartbeats_of_feeds: AtomicU64,
}

impl Shared {
    /// Heartbeats and counters are whole after every change, so a panic elsewhere does not spoil them.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn notify_ended(&self) {
        self.ended.send_modify(|count| *count += 1);
    }
}
