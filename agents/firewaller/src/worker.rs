//! One task after the other (firewaller.md section 2.2): events, requests and comparisons.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tracing::{Instrument, info_span, warn};
use triton_agent::{Backoff, chain};
use triton_fwrule::Rule;
use triton_headnode::{FwApi, VmApi};
use triton_types::ServerUuid;

use crate::{Backend, Numbers, TaskError, sync::Memory};

/// Tasks that wait at most. More events than that are not worth keeping: the comparison that follows has what they say.
const WAITING: usize = 1024;
/// The worker turns at least this often.
const BEAT: Duration = Duration::from_secs(10);
/// Request ids of finished tasks that are kept (section 2.1).
const RECENT: usize = 50;

/// How the agent behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Between two comparisons.
    pub sync_every: Duration,
    /// A comparison after a subscription, and each of the timer, comes up to so much later: not all nodes at once (ruling 7).
    pub jitter: Duration,
    /// First pause after a comparison at start that failed; it doubles, at most to 6 s.
    pub first_pause: Duration,
    /// Attempts at start.
    pub attempts: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sync_every: Duration::from_secs(1800),
            jitter: Duration::from_secs(30),
            first_pause: Duration::from_millis(100),
            attempts: 6,
        }
    }
}

/// Whom the agent talks to.
#[derive(Clone)]
pub struct Services {
    /// The node.
    pub backend: Arc<dyn Backend>,
    /// Rules.
    pub fwapi: FwApi,
    /// Instances of other nodes.
    pub vmapi: VmApi,
    /// This node.
    pub server: ServerUuid,
    /// What is counted.
    pub numbers: Numbers,
}

/// Something to do.
#[derive(Debug)]
pub enum Task {
    /// An event of FWAPI's.
    Event {
        /// Its kind.
        name: String,
        /// What it says.
        value: Map<String, Value>,
        /// Its id.
        req_id: String,
    },
    /// A rule that is stored even if it is about no instance here.
    Put {
        /// The rule.
        rule: Map<String, Value>,
        /// The request's id.
        req_id: String,
        /// Where the stored rule goes.
        reply: oneshot::Sender<Result<Option<Rule>, TaskError>>,
    },
    /// A comparison.
    Sync {
        /// Its id.
        req_id: String,
    },
}

/// Hands tasks to the worker. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle {
    tasks: mpsc::Sender<Task>,
    shared: Arc<Shared>,
    numbers: Numbers,
}

#[derive(Debug, Default)]
struct Shared {
    queued: AtomicUsize,
    /// A comparison waits, or events were lost and one is owed.
    sync_waits: AtomicBool,
    owed: AtomicBool,
    recent: Mutex<VecDeque<String>>,
}

impl Handle {
    /// Queues a task; false when too many wait. A lost event is made up for by a comparison.
    pub fn push(&self, task: Task) -> bool {
        if matches!(task, Task::Sync { .. }) && self.shared.sync_waits.swap(true, Ordering::AcqRel) {
            return true;
        }
        let lost = !matches!(task, Task::Put { .. });
        self.shared.queued.fetch_add(1, Ordering::AcqRel);
        let taken = self.tasks.try_send(task).is_ok();
        if !taken {
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            if lost {
                self.numbers.lost();
                self.shared.owed.store(true, Ordering::Release);
            }
        }
        taken
    }

    /// Tasks that wait, and the ids of those that ended, newest first.
    pub fn progress(&self) -> (usize, Vec<String>) {
        let recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        (self.shared.queued.load(Ordering::Acquire), recent.iter().cloned().collect())
    }
}

/// Works on tasks.
pub struct Worker {
    services: Services,
    settings: Settings,
    tasks: mpsc::Receiver<Task>,
    shared: Arc<Shared>,
    memory: Memory,
}

impl Worker {
    /// A worker and the handle that gives it work.
    pub fn new(services: Services, settings: Settings) -> (Self, Handle) {
        let (sender, tasks) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared::default());
        let handle = Handle { tasks: sender, shared: Arc::clone(&shared), numbers: services.numbers.clone() };
        (Self { services, settings, tasks, shared, memory: Memory::default() }, handle)
    }

    /// Compares at once, then works for ever. May be dropped at any time.
    pub async fn run(mut self) {
        self.start().await;
        loop {
            self.services.numbers.beat();
            let task = match tokio::time::timeout(BEAT, self.tasks.recv()).await {
                Err(_) => continue,
                Ok(None) => return,
                Ok(Some(task)) => task,
            };
            self.shared.queued.fetch_sub(1, Ordering::AcqRel);
            self.work(task).await;
            if self.shared.queued.load(Ordering::Acquire) == 0 && self.shared.owed.swap(false, Ordering::AcqRel) {
                self.compare("events-lost").await;
            }
        }
    }

    async fn start(&mut self) {
        let mut pauses = Backoff::new(self.settings.first_pause, 2.0, Duration::from_secs(6), 0.0);
        for attempt in 1..=self.settings.attempts {
            if self.compare(&uuid::Uuid::new_v4().to_string()).await || attempt == self.settings.attempts {
                return;
            }
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    async fn compare(&mut self, req_id: &str) -> bool {
        let span = info_span!("sync", %req_id);
        let result = self.services.sync(&mut self.memory, req_id).instrument(span).await;
        self.services.numbers.sync(result.is_ok());
        if let Err(error) = &result {
            warn!(req_id, error = %chain(error), "not compared with FWAPI: nothing is deleted");
        }
        result.is_ok()
    }

    async fn work(&mut self, task: Task) {
        let req_id = match task {
            Task::Sync { req_id } => {
                self.shared.sync_waits.store(false, Ordering::Release);
                self.compare(&req_id).await;
                req_id
            }
            Task::Event { name, value, req_id } => {
                let span = info_span!("task", %req_id, name);
                let result = self.services.event(&name, &value, &req_id).instrument(span).await;
                self.services.numbers.task(result.is_ok());
                if let Err(error) = result {
                    warn!(req_id, name, error = %chain(&error), "a task failed; the next comparison makes up for it");
                }
                req_id
            }
            Task::Put { rule, req_id, reply } => {
                let result = self.services.add_rule(&rule, true, &req_id).await;
                self.services.numbers.task(result.is_ok());
                // Whoever asked may be gone.
                let _ = reply.send(result);
                req_id
            }
        };
        let mut recent = self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_front(req_id);
        recent.truncate(RECENT);
    }
}
