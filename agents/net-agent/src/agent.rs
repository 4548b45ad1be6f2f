//! The agent's loop: what happens is told to the core, what the core wants is done, a bounded number of things at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
};
use tracing::{info, warn};
use triton_agent::{Backoff, Outcome, Queue, ready};
use triton_headnode::{FeedEvent, Napi};
use triton_instance::{Changes, Loaded, Look};
use triton_types::InstanceUuid;

use crate::{
    core::{Change, Core, Kept, Key, Request, Work},
    local::{Me, Seen},
    metrics::Numbers,
    node::Node,
    requests::{self, Outcoming},
    server::ServerView,
};

/// The loop turns at least this often.
const BEAT: Duration = Duration::from_secs(10);

/// How the agent behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests of NAPI's under way at a time (section 2: the pool's maximum).
    pub requests: usize,
    /// Instances that are read or changed at a time.
    pub instances: usize,
    /// First pause after a failure; later ones grow to twelve times that.
    pub pause: Duration,
    /// Between two looks at everything on this node, for what no event tells of.
    pub look_around_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { requests: 10, instances: 8, pause: Duration::from_millis(5_250), look_around_every: Duration::from_secs(60) }
    }
}

impl Settings {
    /// The pauses after failures of one thing: 5 s at first (section 5.6), then longer, never in step with other nodes.
    fn pauses(&self) -> Backoff {
        Backoff::new(self.pause, 1.5, self.pause * 12, 0.05)
    }
}

/// What is done on this node, one at a time for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Here {
    Server,
    Instance(InstanceUuid),
}

/// What a task found or did.
enum Done {
    Asked(Key, Outcoming),
    Loaded(InstanceUuid, Result<Loaded, String>),
    Changed(InstanceUuid, Change, Result<(), String>, Result<bool, String>),
    Machine(Result<ServerView, String>),
    LookedAround(Result<Vec<(InstanceUuid, Look)>, String>),
}

/// The agent.
pub struct Agent {
    me: Me,
    core: Core,
    napi: Arc<Napi>,
    node: Arc<dyn Node>,
    changes: Arc<Changes>,
    feed: mpsc::Receiver<FeedEvent>,
    machine: Arc<Notify>,
    settings: Settings,
    numbers: Numbers,
    asking: Queue<Key>,
    here: Queue<Here>,
    tasks: JoinSet<Done>,
    beats: Arc<AtomicU64>,
    /// Something happened since the standing was told last: to find out how things stand takes all NICs.
    moved: bool,
}

/// Where news come from.
pub struct Sources {
    /// Changes of instances.
    pub changes: Arc<Changes>,
    /// Changes at NAPI.
    pub feed: mpsc::Receiver<FeedEvent>,
    /// Rings when links or tags of the machine changed.
    pub machine: Arc<Notify>,
}

impl Agent {
    /// An agent that has not begun.
    pub fn new(me: Me, kept: Kept, napi: Napi, node: Arc<dyn Node>, sources: Sources, settings: Settings, numbers: Numbers) -> Self {
        Self {
            core: Core::new(me.clone(), kept),
            me,
            napi: Arc::new(napi),
            node,
            changes: sources.changes,
            feed: sources.feed,
            machine: sources.machine,
            asking: Queue::new(settings.requests, settings.pauses()),
            here: Queue::new(settings.instances, settings.pauses()),
            settings,
            numbers,
            tasks: JoinSet::new(),
            beats: Arc::default(),
            moved: true,
        }
    }

    /// Grows while the agent's loop turns; for the watchdog.
    pub fn beats(&self) -> Arc<AtomicU64> {
        self.beats.clone()
    }

    /// Compares, then follows for ever. To be raced with the end of the agent: it may be dropped at any time.
    pub async fn run(mut self) {
        self.start().await;
        self.here.touch(Here::Server);
        let mut look_around = interval(self.settings.look_around_every);
        let mut beat = interval(BEAT);
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            self.hand_out().await;
            let now = Instant::now();
            let wake = [self.asking.next_wake(now), self.here.next_wake(now), self.core.next_timer()].into_iter().flatten().min();
            tokio::select! {
                news = self.changes.next() => {
                    if news.gap {
                        self.look_around();
                    }
                    news.touched.into_iter().for_each(|uuid| self.here.touch(Here::Instance(uuid)));
                }
                Some(event) = self.feed.recv() => self.core.feed(event, Instant::now()),
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    Err(error) => warn!(%error, "a task ended by itself"),
                },
                () = self.machine.notified() => self.here.touch(Here::Server),
                () = sleep_until(wake) => {}
                _ = look_around.tick() => self.look_around(),
                _ = beat.tick() => {
                    if std::mem::take(&mut self.moved) {
                        self.stand();
                    }
                    continue;
                }
            }
            self.moved = true;
        }
    }

    /// Until both sides could be read once. Every attempt asks both anew.
    async fn start(&mut self) {
        let mut pauses = self.settings.pauses();
        loop {
            self.beats.fetch_add(1, Ordering::Relaxed);
            // What changed before the list is read is in it.
            self.changes.take();
            let (node, me) = (self.node.clone(), self.me.clone());
            let look = move || {
                let mut all = Vec::new();
                node.each(&mut |uuid, loaded| all.push((uuid, Seen::of(&me, uuid, loaded))))?;
                Ok(all)
            };
            let local = tokio::task::spawn_blocking(look).await.unwrap_or_else(|error| Err(error.to_string()));
            let waits_for = match local {
                Ok(local) => {
                    let asked = requests::make(&self.napi, self.me.server, Request::List).await;
                    self.numbers.requested(asked.reply.is_some());
                    match asked.reply {
                        Some(reply) => {
                            let now = Instant::now();
                            local.into_iter().for_each(|(uuid, seen)| self.core.know(uuid, seen, now));
                            self.know_gone().await;
                            self.core.reply(reply, now);
                            self.numbers.listed();
                            self.numbers.started();
                            self.stand();
                            info!(instances = self.core.instances().len(), "compared with NAPI");
                            ready::notify("keeping NICs in step with NAPI");
                            return;
                        }
                        None => "waiting for NAPI",
                    }
                }
                Err(error) => {
                    warn!(error, "the instances of this node are not known: no NIC is touched");
                    "waiting for this node's instances"
                }
            };
            ready::notify(waits_for);
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    /// Begins as many things as may be under way.
    async fn hand_out(&mut self) {
        self.save().await;
        let now = Instant::now();
        for work in self.core.take_touched(now) {
            match work {
                Work::Napi(key) => self.asking.touch(key),
                Work::Instance(uuid) => self.here.touch(Here::Instance(uuid)),
                Work::Server => self.here.touch(Here::Server),
            }
        }
        while let Some(key) = self.asking.take(now) {
            match self.core.turn(key.clone(), now) {
                None => self.asking.needless(&key),
                Some(request) => {
                    let (napi, server) = (self.napi.clone(), self.me.server);
                    self.tasks.spawn(async move { Done::Asked(key, requests::make(&napi, server, request).await) });
                }
            }
        }
        while let Some(here) = self.here.take(now) {
            let (node, me) = (self.node.clone(), self.me.clone());
            self.tasks.spawn_blocking(move || match here {
                Here::Instance(uuid) => Done::Loaded(uuid, node.load(uuid)),
                Here::Server => Done::Machine(node.machine().map(|(sysinfo, tags)| ServerView::of(&me, &sysinfo, &tags))),
            });
        }
    }

    /// Writes what has to be kept, before anything else is done.
    async fn save(&mut self) {
        let mut pauses = self.settings.pauses();
        let Some(kept) = self.core.take_unsaved() else { return };
        loop {
            let (node, now) = (self.node.clone(), kept.clone());
            let result = tokio::task::spawn_blocking(move || node.keep(&now)).await.unwrap_or_else(|error| Err(error.to_string()));
            match result {
                Ok(()) => return,
                Err(error) => warn!(error, "what has to be kept cannot be written: nothing is done until it can"),
            }
            self.beats.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(pauses.next_delay()).await;
        }
    }

    /// For the list of NICs that has come.
    async fn know_gone(&mut self) {
        let node = self.node.clone();
        self.core.know_gone(tokio::task::spawn_blocking(move || node.gone()).await.unwrap_or_default());
    }

    async fn done(&mut self, done: Done) {
        let now = Instant::now();
        match done {
            Done::Asked(key, Outcoming { reply, outcome }) => {
                self.numbers.requested(outcome == Outcome::Done);
                let listed = key == Key::List && reply.is_some();
                if listed {
                    self.know_gone().await;
                }
                let again = reply.is_some_and(|reply| self.core.reply(reply, now));
                if listed {
                    self.numbers.listed();
                }
                let outcome = match outcome {
                    // What was asked about may be nobody's business any more.
                    Outcome::Failed if !again && matches!(key, Key::Nic(_)) => Outcome::Done,
                    outcome => outcome,
                };
                self.asking.finished(key, outcome, now);
            }
            Done::Loaded(uuid, Ok(loaded)) => {
                self.core.see(uuid, loaded, now);
                // What that asks for is done here and now.
                self.core.untouch(uuid);
                match self.core.change_of(uuid, now) {
                    None => self.here.finished(Here::Instance(uuid), Outcome::Done, now),
                    Some(change) => self.change(uuid, change).await,
                }
            }
            Done::Loaded(uuid, Err(error)) => {
                warn!(vm_uuid = %uuid, error, "an instance cannot be looked at");
                self.here.finished(Here::Instance(uuid), Outcome::Failed, now);
            }
            Done::Changed(uuid, change, updated, rebooted) => self.changed(uuid, &change, updated, rebooted, now),
            Done::Machine(Ok(view)) => {
                self.core.see_server(&view, now);
                self.here.finished(Here::Server, Outcome::Done, now);
            }
            Done::Machine(Err(error)) => {
                warn!(error, "what the machine has is not known");
                self.here.finished(Here::Server, Outcome::Failed, now);
            }
            // What differs from what was last seen is looked at once more: the list may be older than what is known by now.
            Done::LookedAround(Ok(local)) => {
                let here: BTreeMap<InstanceUuid, Look> = local.into_iter().collect();
                let gone = self.core.instances().into_iter().filter(|uuid| !here.contains_key(uuid));
                let stale = here.iter().filter(|(uuid, look)| self.core.is_stale(**uuid, look)).map(|(uuid, _)| *uuid);
                for uuid in gone.chain(stale).collect::<Vec<_>>() {
                    self.here.touch(Here::Instance(uuid));
                }
            }
            Done::LookedAround(Err(error)) => warn!(error, "the instances of this node are not known: no NIC is released"),
        }
    }

    /// Changes an instance, once what has to be kept is kept.
    async fn change(&mut self, uuid: InstanceUuid, change: Change) {
        self.save().await;
        let node = self.node.clone();
        info!(vm_uuid = %uuid, payload = ?change.payload, reboot = change.reboot, "an instance follows NAPI");
        self.tasks.spawn_blocking(move || {
            let updated = if change.payload.is_empty() { Ok(()) } else { node.update(uuid, change.payload.clone()) };
            let rebooted = if change.reboot && updated.is_ok() { node.reboot(uuid).map(|()| true) } else { Ok(false) };
            Done::Changed(uuid, change, updated, rebooted)
        });
    }

    fn changed(&mut self, uuid: InstanceUuid, change: &Change, updated: Result<(), String>, rebooted: Result<bool, String>, now: Instant) {
        self.numbers.changed(updated.is_ok());
        let outcome = match (updated, rebooted) {
            (Err(error), _) => {
                warn!(vm_uuid = %uuid, error, "an instance does not follow NAPI");
                Outcome::Failed
            }
            (Ok(()), Err(error)) => {
                warn!(vm_uuid = %uuid, error, "an instance lost a NIC and was not rebooted");
                self.core.given(uuid, change, false, now);
                Outcome::Failed
            }
            (Ok(()), Ok(rebooted)) => {
                if rebooted {
                    self.numbers.rebooted();
                }
                self.core.given(uuid, change, rebooted, now);
                Outcome::Done
            }
        };
        if outcome == Outcome::Failed {
            self.core.untouch(uuid);
        }
        self.here.finished(Here::Instance(uuid), outcome, now);
    }

    /// Looks at everything on this node, beside everything else.
    fn look_around(&mut self) {
        let node = self.node.clone();
        self.tasks.spawn_blocking(move || Done::LookedAround(node.look_around()));
    }

    fn stand(&self) {
        let waiting = self.asking.len() + self.here.len();
        self.numbers.stand(self.core.standing(Instant::now()), waiting, self.asking.is_gated());
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
