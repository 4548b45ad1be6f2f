//! The agent's loop: compare at start, then report what changes (vm-agent.md sections 5 and 6).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::StatusCode;
use tokio::task::JoinSet;
use tracing::{info, warn};
use triton_agent::{Outcome, Queue, chain, ready};
use triton_headnode::{HttpError, HttpFailure, VmApi};
use triton_instance::{Changes, Inventory, Loaded, Look};
use triton_types::InstanceUuid;

use crate::{
    known::{Known, Step},
    metrics::Numbers,
    startup::{CompareError, pauses, synchronise},
};

/// The loop turns at least this often.
const BEAT: Duration = Duration::from_secs(10);

/// How the agent behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Reports under way at a time (ruling 5).
    pub workers: usize,
    /// Between two looks at everything on this node, for what no event tells of.
    pub look_around_every: Duration,
    /// Between two comparisons with VMAPI, for what was lost there.
    pub compare_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { workers: 4, look_around_every: Duration::from_secs(60), compare_every: Duration::from_secs(3600) }
    }
}

/// The agent.
pub struct Agent {
    vmapi: VmApi,
    inventory: Arc<dyn Inventory>,
    changes: Arc<Changes>,
    settings: Settings,
    numbers: Numbers,
    known: Known,
    queue: Queue<InstanceUuid>,
    tasks: JoinSet<Done>,
    beats: Arc<AtomicU64>,
}

/// What a task found or did.
enum Done {
    Loaded(InstanceUuid, Result<Loaded, String>),
    LookedAround(Result<Vec<(InstanceUuid, Look)>, String>),
    Told { uuid: InstanceUuid, gone: bool, result: Result<(), HttpError>, begun: Instant },
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(vmapi: VmApi, inventory: Arc<dyn Inventory>, changes: Arc<Changes>, settings: Settings, numbers: Numbers) -> Self {
        let queue = Queue::new(settings.workers, pauses());
        Self { vmapi, inventory, changes, settings, numbers, known: Known::default(), queue, tasks: JoinSet::new(), beats: Arc::default() }
    }

    /// Grows while the agent's loop turns, at least every few seconds once it has compared; for the watchdog.
    pub fn beats(&self) -> Arc<AtomicU64> {
        self.beats.clone()
    }

    /// Compares, then reports for ever. To be raced with the end of the agent: it may be dropped at any time.
    pub async fn run(mut self) {
        self.start().await;
        let mut look_around = interval(self.settings.look_around_every);
        let mut compare = interval(self.settings.compare_every);
        let mut beat = interval(BEAT);
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            self.hand_out();
            self.publish();
            let wake = self.queue.next_wake(Instant::now());
            tokio::select! {
                news = self.changes.next() => {
                    if news.gap {
                        self.look_around();
                    }
                    news.touched.into_iter().for_each(|uuid| self.queue.touch(uuid));
                }
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done),
                    Err(error) => warn!(%error, "a report ended by itself"),
                },
                () = sleep_until(wake) => {}
                _ = look_around.tick() => self.look_around(),
                _ = compare.tick() => self.compare_again().await,
                _ = beat.tick() => {}
            }
        }
    }

    /// Until VMAPI and this node agree, with growing pauses. Every attempt asks both anew.
    async fn start(&mut self) {
        let mut pauses = pauses();
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            // What changed before the lists are read is in them.
            self.changes.take();
            match synchronise(&self.vmapi, &self.inventory, &mut self.known).await {
                Ok(one_by_one) => {
                    one_by_one.into_iter().for_each(|uuid| self.queue.touch(uuid));
                    self.numbers.started();
                    ready::notify("reporting to VMAPI");
                    return;
                }
                Err(error) => {
                    let pause = pauses.next_delay();
                    self.numbers.start_failed();
                    warn!(error = %chain(&error), pause_ms = pause.as_millis(), "VMAPI and this node cannot be compared yet");
                    ready::notify(match error {
                        CompareError::Vmapi(_) => "waiting for VMAPI",
                        CompareError::Local(_) => "waiting for this node's instances",
                    });
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Begins as many reports as may be under way.
    fn hand_out(&mut self) {
        while let Some(uuid) = self.queue.take(Instant::now()) {
            let inventory = self.inventory.clone();
            self.tasks.spawn_blocking(move || Done::Loaded(uuid, inventory.load(uuid)));
        }
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Loaded(uuid, Ok(loaded)) => match self.known.look(uuid, loaded, now) {
                Step::Nothing(Outcome::Done) => self.queue.needless(&uuid),
                Step::Nothing(outcome) => self.queue.finished(uuid, outcome, now),
                Step::Report { body, gone } => {
                    let vmapi = self.vmapi.clone();
                    self.tasks.spawn(async move { tell(&vmapi, uuid, body, gone).await });
                }
            },
            Done::Loaded(uuid, Err(error)) => {
                warn!(vm_uuid = %uuid, error, "an instance cannot be looked at");
                self.queue.finished(uuid, Outcome::Failed, now);
            }
            // What differs from what was last seen is looked at once more: the list may be older than what is known by now.
            Done::LookedAround(Ok(local)) => {
                self.known.stale(&local.into_iter().collect()).into_iter().for_each(|uuid| self.queue.touch(uuid));
            }
            Done::LookedAround(Err(error)) => warn!(error, "the instances of this node are not known: nothing is reported"),
            Done::Told { uuid, gone, result: Ok(()), begun } => {
                info!(vm_uuid = %uuid, destroyed = gone, ms = begun.elapsed().as_millis(), "reported");
                self.known.told(uuid, gone, now);
                self.numbers.told(true);
                self.queue.finished(uuid, Outcome::Done, now);
            }
            Done::Told { uuid, result: Err(error), .. } => {
                let outcome = outcome_of(&error);
                warn!(vm_uuid = %uuid, error = %chain(&error), "VMAPI did not take an instance");
                self.numbers.told(false);
                self.queue.finished(uuid, outcome, now);
            }
        }
    }

    /// Looks at everything on this node, beside the reports: they are not to wait for it.
    fn look_around(&mut self) {
        let inventory = self.inventory.clone();
        self.tasks.spawn_blocking(move || Done::LookedAround(inventory.look_around()));
    }

    /// Compares with VMAPI again; what is wrong there is reported. A failure waits for the next time.
    async fn compare_again(&mut self) {
        if !self.queue.is_empty() {
            return;
        }
        match synchronise(&self.vmapi, &self.inventory, &mut self.known).await {
            Ok(one_by_one) => one_by_one.into_iter().for_each(|uuid| self.queue.touch(uuid)),
            Err(error) => {
                // What was found here came to nothing: the next look around has to find it again.
                self.inventory.forget();
                warn!(error = %chain(&error), "VMAPI and this node could not be compared");
            }
        }
    }

    fn publish(&self) {
        let (known, unreadable) = self.known.counts();
        self.numbers.set(known, unreadable, self.queue.len(), self.queue.is_gated());
    }
}

async fn tell(vmapi: &VmApi, uuid: InstanceUuid, body: Bytes, gone: bool) -> Done {
    let begun = Instant::now();
    let result = vmapi.put(uuid, body).await;
    Done::Told { uuid, gone, result, begun }
}

/// Whom a failure concerns: VMAPI as a whole when it cannot be reached or says that it is not ready, else this instance.
fn outcome_of(error: &HttpError) -> Outcome {
    match &*error.source {
        HttpFailure::Connect(_) | HttpFailure::Timeout(_) | HttpFailure::Broken(_) => Outcome::Unavailable,
        HttpFailure::Status { status, .. } if *status == StatusCode::SERVICE_UNAVAILABLE => Outcome::Unavailable,
        _ => Outcome::Failed,
    }
}

fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
