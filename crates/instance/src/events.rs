//! What happens to the instances, as a stream that begins with all there is: `vmadm events` (instances.md section 4.5).
//!
//! Watching begins before the first look, so nothing is lost between the two: what changed in between is seen again, differs
//! from nothing that was told, and is not told twice.

use std::{collections::BTreeMap, time::Duration};

use triton_types::{InstanceUuid, JsonMap};
use triton_vmspec::{Difference, differences};

use crate::{ChangeKind, InstanceError, Instances, Watcher, to_json};

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The instance.
    pub uuid: InstanceUuid,
    /// What happened.
    pub kind: EventKind,
}

/// What an event tells.
#[derive(Clone, Debug, PartialEq)]
pub enum EventKind {
    /// It is new; the object as it is now.
    Create(JsonMap),
    /// It changed: the object now, and what differs from what was told last.
    Modify(JsonMap, Vec<Difference>),
    /// It is gone.
    Delete,
}

/// The instances of a node, and what happens to them from then on.
pub struct Events<'a> {
    instances: &'a Instances,
    watcher: Watcher,
    only: Option<InstanceUuid>,
    told: BTreeMap<InstanceUuid, JsonMap>,
}

impl<'a> Events<'a> {
    /// Begins a stream, of one instance or of all.
    ///
    /// # Errors
    /// When `only` is not there, or instances cannot be watched or read.
    pub fn open(instances: &'a Instances, only: Option<InstanceUuid>) -> Result<Self, InstanceError> {
        let watcher = Watcher::new(&instances.layout)?;
        let mut events = Self { instances, watcher, only, told: BTreeMap::new() };
        if let Some(uuid) = only {
            events.told.insert(uuid, to_json(&instances.load(uuid)?));
            return Ok(events);
        }
        for uuid in events.watcher.known() {
            if let Some(object) = events.look(uuid) {
                events.told.insert(uuid, object);
            }
        }
        Ok(events)
    }

    /// What has been told so far: right after [`Events::open`], the instances that the stream begins with.
    pub fn told(&self) -> &BTreeMap<InstanceUuid, JsonMap> {
        &self.told
    }

    /// Waits at most `patience` for events; an empty list means that nothing was there to tell.
    ///
    /// # Errors
    /// When the store of instances is no longer there: nothing is then told as deleted (invariant 1).
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Event>, InstanceError> {
        let changes = self.watcher.wait(patience)?;
        let wanted = changes.into_iter().filter(|change| self.only.is_none_or(|only| only == change.uuid));
        Ok(wanted.collect::<Vec<_>>().into_iter().filter_map(|change| self.tell(change.uuid, change.kind)).collect())
    }

    fn tell(&mut self, uuid: InstanceUuid, kind: ChangeKind) -> Option<Event> {
        if kind == ChangeKind::Deleted {
            self.told.remove(&uuid)?;
            return Some(Event { uuid, kind: EventKind::Delete });
        }
        let now = self.look(uuid)?;
        let kind = match self.told.insert(uuid, now.clone()) {
            None => EventKind::Create(now),
            Some(before) => match differences(&before, &now) {
                same if same.is_empty() => return None,
                changes => EventKind::Modify(now, changes),
            },
        };
        Some(Event { uuid, kind })
    }

    /// An instance as it is now. One that cannot be read is as it was when it last could be: `vmadm list` shows that it is broken. A guest
    /// whose monitor died gets a new one, or its end would not be seen (ruling 37).
    fn look(&self, uuid: InstanceUuid) -> Option<JsonMap> {
        self.instances.adopt_if_orphaned(uuid);
        self.instances.load(uuid).ok().map(|object| to_json(&object))
    }
}
