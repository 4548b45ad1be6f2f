//! Which instance is reported next, and when (vm-agent.md section 6, ruling 5). Pure: time is given, nothing is sent.
//!
//! One instance is reported by one worker at a time, at most a given number of them together. A failure concerns either one
//! instance, which then waits by itself, or the service, which makes all of them wait behind one gate.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use triton_agent::Backoff;
use triton_types::InstanceUuid;

/// First pause after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// Longest pause; with its jitter it stays below the contract's 30 s.
const LONGEST: Duration = Duration::from_millis(28_500);

/// The pauses of the contract: 500 ms, doubling, at most 30 s. The jitter keeps a data centre of nodes apart and the pauses growing.
pub fn pauses() -> Backoff {
    Backoff::new(FIRST, 2.0, LONGEST, 0.05)
}

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Reported, or nothing to report.
    Done,
    /// Too soon after the last report; to be looked at again at this time.
    Later(Instant),
    /// This instance could not be reported.
    Failed,
    /// The service did not answer, or said that it is not ready: nobody can be reported now.
    Unavailable,
}

#[derive(Debug)]
enum Place {
    /// In the line.
    Ready,
    /// Being reported; `again` if it changed meanwhile.
    Working { again: bool },
    /// Waiting until a time.
    Waiting { until: Instant, sleep: Sleep },
}

/// Why an instance waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// After a failure: a change ends the wait.
    Retry,
    /// After a report: changes are gathered until then.
    Gather,
}

#[derive(Debug)]
struct Entry {
    place: Place,
    pauses: Backoff,
    /// A retry that is due at this time, whatever a change in between made happen.
    timer: Option<Instant>,
}

/// The line.
#[derive(Debug)]
pub struct Queue {
    entries: BTreeMap<InstanceUuid, Entry>,
    line: VecDeque<InstanceUuid>,
    /// Those with [`Place::Waiting`], by time.
    waiting: BTreeSet<(Instant, InstanceUuid)>,
    working: usize,
    workers: usize,
    gate: Gate,
}

/// Closed while the service is not available.
#[derive(Debug)]
struct Gate {
    pauses: Backoff,
    /// Closed until then; afterwards one attempt is let through.
    closed: Option<Instant>,
    /// An attempt is trying whether the service is back.
    probing: bool,
}

impl Queue {
    /// An empty line for at most `workers` attempts at a time.
    pub fn new(workers: usize) -> Self {
        let gate = Gate { pauses: pauses(), closed: None, probing: false };
        Self { entries: BTreeMap::new(), line: VecDeque::new(), waiting: BTreeSet::new(), working: 0, workers: workers.max(1), gate }
    }

    /// Instances that wait or are being reported.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when everything was reported.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True while the service is not available.
    pub fn is_gated(&self) -> bool {
        self.gate.closed.is_some()
    }

    /// The instance changed.
    pub fn touch(&mut self, uuid: InstanceUuid) {
        let Some(entry) = self.entries.get_mut(&uuid) else {
            self.entries.insert(uuid, Entry { place: Place::Ready, pauses: pauses(), timer: None });
            self.line.push_back(uuid);
            return;
        };
        match &mut entry.place {
            Place::Ready | Place::Waiting { sleep: Sleep::Gather, .. } => {}
            Place::Working { again } => *again = true,
            Place::Waiting { sleep: Sleep::Retry, until } => {
                self.waiting.remove(&(*until, uuid));
                entry.place = Place::Ready;
                self.line.push_back(uuid);
            }
        }
    }

    /// The next instance to report, if one may be reported now.
    pub fn take(&mut self, now: Instant) -> Option<InstanceUuid> {
        self.wake(now);
        match self.gate.closed {
            Some(until) if now < until || self.gate.probing => return None,
            _ if self.working >= self.workers => return None,
            _ => {}
        }
        let uuid = self.line.pop_front()?;
        let entry = self.entries.get_mut(&uuid)?;
        entry.place = Place::Working { again: false };
        if entry.timer.is_some_and(|at| at <= now) {
            entry.timer = None;
        }
        self.working += 1;
        self.gate.probing = self.gate.closed.is_some();
        Some(uuid)
    }

    /// The attempt for `uuid` ended.
    pub fn finished(&mut self, uuid: InstanceUuid, outcome: Outcome, now: Instant) {
        self.working = self.working.saturating_sub(1);
        let probed = std::mem::take(&mut self.gate.probing);
        if outcome == Outcome::Unavailable {
            // Attempts that were under way when the gate closed say nothing new.
            if self.gate.closed.is_none() || probed {
                self.gate.closed = Some(now + self.gate.pauses.next_delay());
            }
        } else if probed || self.gate.closed.is_none() {
            self.gate.closed = None;
            self.gate.pauses.reset();
        }
        let Some(entry) = self.entries.get_mut(&uuid) else { return };
        let again = matches!(entry.place, Place::Working { again: true });
        match outcome {
            Outcome::Done if !again => {
                self.entries.remove(&uuid);
            }
            Outcome::Done => {
                *entry = Entry { place: Place::Ready, pauses: pauses(), timer: None };
                self.line.push_back(uuid);
            }
            Outcome::Later(until) => {
                entry.place = Place::Waiting { until, sleep: Sleep::Gather };
                self.waiting.insert((until, uuid));
            }
            Outcome::Unavailable => {
                entry.place = Place::Ready;
                self.line.push_front(uuid);
            }
            Outcome::Failed => {
                let until = *entry.timer.get_or_insert_with(|| now + entry.pauses.next_delay());
                if again {
                    entry.place = Place::Ready;
                    self.line.push_back(uuid);
                } else {
                    entry.place = Place::Waiting { until, sleep: Sleep::Retry };
                    self.waiting.insert((until, uuid));
                }
            }
        }
    }

    /// When [`Queue::take`] has to be asked again, if nothing else happens; `None` when only a change or an end can help.
    pub fn next_wake(&self, now: Instant) -> Option<Instant> {
        if self.working >= self.workers || self.gate.probing {
            return None;
        }
        let first = if self.line.is_empty() { self.waiting.first()?.0 } else { now };
        Some(self.gate.closed.map_or(first, |gate| gate.max(first)))
    }

    /// Puts those whose time has come into the line.
    fn wake(&mut self, now: Instant) {
        while let Some((until, uuid)) = self.waiting.first().copied().filter(|(until, _)| *until <= now) {
            self.waiting.remove(&(until, uuid));
            if let Some(entry) = self.entries.get_mut(&uuid) {
                entry.place = Place::Ready;
                self.line.push_back(uuid);
            }
        }
    }
}

#[cfg(test)]
mod tests;
