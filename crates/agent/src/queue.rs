//! What is dealt with next, and when (vm-agent.md section 6, ruling 5). Pure: time is given, nothing is sent.
//!
//! One thing (an instance, a NIC) is dealt with by one worker at a time, at most a given number of them together. A failure concerns
//! either one thing, which then waits by itself, or the service, which makes all of them wait behind one gate.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::Backoff;

/// How long changes of something that came too soon are gathered at least.
const GATHER: Duration = Duration::from_millis(50);

/// How one attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Dealt with, or nothing to do.
    Done,
    /// Too soon; to be looked at again at this time, changes before it included.
    Later(Instant),
    /// This one could not be dealt with.
    Failed,
    /// The service did not answer, or said that it is not ready: nothing can be dealt with now.
    Unavailable,
}

#[derive(Debug)]
enum Place {
    /// In the line.
    Ready,
    /// Being dealt with; `again` if it changed meanwhile.
    Working { again: bool },
    /// Waiting until a time.
    Waiting { until: Instant, sleep: Sleep },
}

/// Why something waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sleep {
    /// After a failure: a change ends the wait.
    Retry,
    /// After an attempt that came too soon: changes are gathered until then. The first of them may be one that is not to be gathered, so it
    /// is looked at by this time.
    Gather { soonest: Instant },
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
pub struct Queue<K> {
    entries: BTreeMap<K, Entry>,
    line: VecDeque<K>,
    /// Those with [`Place::Waiting`], by time.
    waiting: BTreeSet<(Instant, K)>,
    working: usize,
    workers: usize,
    pauses: Backoff,
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

impl<K: Clone + Ord> Queue<K> {
    /// An empty line for at most `workers` attempts at a time; `pauses` are those after failures, of each thing and of the service.
    pub fn new(workers: usize, pauses: Backoff) -> Self {
        let gate = Gate { pauses: pauses.clone(), closed: None, probing: false };
        Self {
            entries: BTreeMap::new(),
            line: VecDeque::new(),
            waiting: BTreeSet::new(),
            working: 0,
            workers: workers.max(1),
            pauses,
            gate,
        }
    }

    /// Things that wait or are being dealt with.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when everything was dealt with.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True while the service is not available.
    pub fn is_gated(&self) -> bool {
        self.gate.closed.is_some()
    }

    /// It changed.
    pub fn touch(&mut self, key: K) {
        let Some(entry) = self.entries.get_mut(&key) else {
            self.entries.insert(key.clone(), Entry { place: Place::Ready, pauses: self.pauses.clone(), timer: None });
            self.line.push_back(key);
            return;
        };
        match &mut entry.place {
            Place::Ready => {}
            Place::Waiting { sleep: Sleep::Gather { soonest }, until } => {
                if *soonest < *until {
                    self.waiting.remove(&(*until, key.clone()));
                    *until = *soonest;
                    self.waiting.insert((*until, key));
                }
            }
            Place::Working { again } => *again = true,
            Place::Waiting { sleep: Sleep::Retry, until } => {
                self.waiting.remove(&(*until, key.clone()));
                entry.place = Place::Ready;
                self.line.push_back(key);
            }
        }
    }

    /// The next one, if one may be dealt with now.
    pub fn take(&mut self, now: Instant) -> Option<K> {
        self.wake(now);
        match self.gate.closed {
            Some(until) if now < until || self.gate.probing => return None,
            _ if self.working >= self.workers => return None,
            _ => {}
        }
        let key = self.line.pop_front()?;
        let entry = self.entries.get_mut(&key)?;
        entry.place = Place::Working { again: false };
        if entry.timer.is_some_and(|at| at <= now) {
            entry.timer = None;
        }
        self.working += 1;
        self.gate.probing = self.gate.closed.is_some();
        Some(key)
    }

    /// The attempt for `key` ended.
    pub fn finished(&mut self, key: K, outcome: Outcome, now: Instant) {
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
        let Some(entry) = self.entries.get_mut(&key) else { return };
        let again = matches!(entry.place, Place::Working { again: true });
        match outcome {
            Outcome::Done if !again => {
                self.entries.remove(&key);
            }
            Outcome::Done => {
                *entry = Entry { place: Place::Ready, pauses: self.pauses.clone(), timer: None };
                self.line.push_back(key);
            }
            Outcome::Later(until) => {
                entry.place = Place::Waiting { until, sleep: Sleep::Gather { soonest: until.min(now + GATHER) } };
                self.waiting.insert((until, key));
            }
            Outcome::Unavailable => {
                entry.place = Place::Ready;
                self.line.push_front(key);
            }
            Outcome::Failed => {
                let until = *entry.timer.get_or_insert_with(|| now + entry.pauses.next_delay());
                if again {
                    entry.place = Place::Ready;
                    self.line.push_back(key);
                } else {
                    entry.place = Place::Waiting { until, sleep: Sleep::Retry };
                    self.waiting.insert((until, key));
                }
            }
        }
    }

    /// There was nothing to do for `key`: the service was not asked, so nothing is known of it that was not before.
    pub fn needless(&mut self, key: &K) {
        self.working = self.working.saturating_sub(1);
        self.gate.probing = false;
        match self.entries.get(key).map(|entry| &entry.place) {
            Some(Place::Working { again: true }) => {
                self.entries.insert(key.clone(), Entry { place: Place::Ready, pauses: self.pauses.clone(), timer: None });
                self.line.push_back(key.clone());
            }
            _ => drop(self.entries.remove(key)),
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
        while let Some((until, key)) = self.waiting.first().cloned().filter(|(until, _)| *until <= now) {
            self.waiting.remove(&(until, key.clone()));
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.place = Place::Ready;
                self.line.push_back(key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
