//! What is known of each instance: what VMAPI was told last, and what it has to be told when the instance is gone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use bytes::Bytes;
use triton_agent::Outcome;
use triton_instance::{Loaded, Look, is_hidden};
use triton_types::{InstanceUuid, JsonMap};

use crate::compare::{body, destroyed, only_documents_changed};

/// Between two reports of an instance of which only documents changed (ruling 5).
const DOCUMENTS_EVERY: Duration = Duration::from_secs(1);
/// How long an instance that was hidden is remembered after its end: several events may tell of it (vm-agent.md section 6.1).
const HIDDEN_AFTER_END: Duration = Duration::from_secs(300);

/// One instance.
#[derive(Clone, Debug)]
struct Seen {
    /// The last object that was read, as text: small, and what is sent.
    body: Bytes,
    /// When VMAPI took exactly that; `None` until it did. The time is missing where VMAPI was found to have it.
    told: Option<Option<Instant>>,
}

/// What to do about an instance that was just looked at.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing, or not yet.
    Nothing(Outcome),
    /// Tell VMAPI this.
    Report {
        /// The object.
        body: Bytes,
        /// It says that the instance is gone.
        gone: bool,
    },
}

/// All instances.
#[derive(Debug, Default)]
pub struct Known {
    seen: BTreeMap<InstanceUuid, Seen>,
    hidden: HashMap<InstanceUuid, Option<Instant>>,
    unreadable: BTreeSet<InstanceUuid>,
}

fn parsed(body: &[u8]) -> JsonMap {
    serde_json::from_slice(body).unwrap_or_default()
}

impl Known {
    /// Decides about one instance.
    pub fn look(&mut self, uuid: InstanceUuid, loaded: Loaded, now: Instant) -> Step {
        self.hidden.retain(|_, until| until.is_none_or(|until| until > now));
        if !matches!(loaded, Loaded::Unreadable(_)) {
            self.unreadable.remove(&uuid);
        }
        match loaded {
            Loaded::Unreadable(reason) => {
                if self.unreadable.insert(uuid) {
                    tracing::warn!(vm_uuid = %uuid, reason, "an instance cannot be read: it exists, and nothing is said about it");
                }
                Step::Nothing(Outcome::Done)
            }
            Loaded::Object(vm) if is_hidden(&vm) => {
                self.hidden.insert(uuid, None);
                // VMAPI's last report is no longer what it should be told at the end.
                self.seen.remove(&uuid);
                Step::Nothing(Outcome::Done)
            }
            Loaded::Object(vm) => {
                self.hidden.remove(&uuid);
                self.changed(uuid, &vm, now)
            }
            Loaded::Absent => self.gone(uuid, now),
        }
    }

    fn changed(&mut self, uuid: InstanceUuid, vm: &JsonMap, now: Instant) -> Step {
        let body = body(vm);
        if let Some(seen) = self.seen.get(&uuid) {
            match seen.told {
                Some(_) if seen.body == body => return Step::Nothing(Outcome::Done),
                Some(Some(at)) if now < at + DOCUMENTS_EVERY && only_documents_changed(&parsed(&seen.body), vm) => {
                    return Step::Nothing(Outcome::Later(at + DOCUMENTS_EVERY));
                }
                _ => {}
            }
        }
        self.seen.insert(uuid, Seen { body: body.clone(), told: None });
        Step::Report { body, gone: false }
    }

    fn gone(&mut self, uuid: InstanceUuid, now: Instant) -> Step {
        if let Some(until) = self.hidden.get_mut(&uuid) {
            until.get_or_insert(now + HIDDEN_AFTER_END);
            return Step::Nothing(Outcome::Done);
        }
        match self.seen.get(&uuid) {
            Some(seen) => Step::Report { body: body(&destroyed(parsed(&seen.body))), gone: true },
            None => {
                tracing::info!(vm_uuid = %uuid, "an instance came and went unseen: nothing is reported");
                Step::Nothing(Outcome::Done)
            }
        }
    }

    /// VMAPI took what [`Known::look`] said.
    pub fn told(&mut self, uuid: InstanceUuid, gone: bool, now: Instant) {
        if gone {
            self.seen.remove(&uuid);
        } else if let Some(seen) = self.seen.get_mut(&uuid) {
            seen.told = Some(Some(now));
        }
    }

    /// VMAPI has this already, or took it in bulk.
    pub fn agreed(&mut self, uuid: InstanceUuid, body: Bytes) {
        self.seen.insert(uuid, Seen { body, told: Some(None) });
    }

    /// Those that are no longer among `present` and were, and those of `present` whose object is another than the last one read.
    pub fn stale(&self, present: &BTreeMap<InstanceUuid, Look>) -> BTreeSet<InstanceUuid> {
        let gone = self.seen.keys().chain(self.hidden.keys()).filter(|uuid| !present.contains_key(uuid)).copied();
        let changed = present.iter().filter(|(uuid, look)| match look {
            Look::Same => !self.seen.contains_key(uuid) && !self.hidden.contains_key(uuid),
            Look::Now(Loaded::Object(vm)) if is_hidden(vm) => !self.hidden.contains_key(uuid),
            Look::Now(Loaded::Object(vm)) => self.unreadable.contains(uuid) || self.seen.get(uuid).is_none_or(|seen| seen.body != body(vm)),
            Look::Now(Loaded::Unreadable(_)) => !self.unreadable.contains(uuid),
            Look::Now(Loaded::Absent) => false,
        });
        gone.chain(changed.map(|(uuid, _)| *uuid)).collect()
    }

    /// Number of instances that VMAPI is told about, and of those that cannot be read.
    pub fn counts(&self) -> (usize, usize) {
        (self.seen.len(), self.unreadable.len())
    }
}

#[cfg(test)]
mod outage;
#[cfg(test)]
mod tests;
