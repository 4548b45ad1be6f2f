//! Typed, coalesced changes of instances, without polling (design section 4).
//!
//! inotify on the two flat directories says "look now"; what changed is found by comparing generations and times with
//! what was seen before. A full look every minute, and after an overflow, finds what events did not tell; it goes in portions, and changes
//! that come meanwhile do not wait for it. Who reports instances follows their inits as well: the kernel tells of a death before the
//! supervisor does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use inotify::{EventMask, Inotify, WatchMask};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use triton_files::{FileError, Layout};
use triton_types::InstanceUuid;

use crate::{Machines, RunStates, inits::Inits};

/// What happened to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was not there before.
    Created,
    /// Something of it changed.
    Modified,
    /// It is gone.
    Deleted,
}

/// One change; several in quick succession are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The instance.
    pub uuid: InstanceUuid,
    /// What happened.
    pub kind: ChangeKind,
}

/// How often everything is looked at, whatever events say.
const FULL_LOOK: Duration = Duration::from_secs(60);
/// Events that come this close together are one change.
const COALESCE: Duration = Duration::from_millis(1);
/// So many instances are looked at between two looks for events.
const PORTION: usize = 32;

/// What is remembered of an instance to see that it changed: generation, time of the machine file, its inode.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    generation: u64,
    modified: i64,
    inode: u64,
}

/// Watches the instances of one node.
pub struct Watcher {
    layout: Layout,
    machines: Machines,
    runs: RunStates,
    inotify: Inotify,
    seen: BTreeMap<InstanceUuid, Seen>,
    /// When the last full look began.
    looked: Instant,
    /// Whom it has not come to yet.
    rest: Vec<InstanceUuid>,
    inits: Option<Inits>,
}

impl Watcher {
    /// Begins to watch, and to follow the inits of the instances that run: their ends are changes too.
    ///
    /// # Errors
    /// As [`Watcher::new`].
    pub fn with_inits(layout: &Layout) -> Result<Self, FileError> {
        let inits = Inits::new().map_err(|e| FileError::new("follow the inits of", layout.machines(), e))?;
        Self::begin(layout, Some(inits))
    }

    /// Begins to watch. What exists now is known to the caller by [`Watcher::known`]; no change after it is lost.
    ///
    /// # Errors
    /// When the directories cannot be watched or listed.
    pub fn new(layout: &Layout) -> Result<Self, FileError> {
        Self::begin(layout, None)
    }

    fn begin(layout: &Layout, inits: Option<Inits>) -> Result<Self, FileError> {
        let error = |path: std::path::PathBuf| move |e: io::Error| FileError::new("watch", path, e);
        let inotify = Inotify::init().map_err(error(layout.machines()))?;
        let mask = WatchMask::MOVED_TO | WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::CLOSE_WRITE | WatchMask::DELETE_SELF;
        for directory in [layout.machines(), layout.run_states()] {
            inotify.watches().add(&directory, mask).map_err(error(directory))?;
        }
        let mut watcher = Self {
            layout: layout.clone(),
            machines: Machines::new(layout),
            runs: RunStates::new(layout),
            inotify,
            seen: BTreeMap::new(),
            looked: Instant::now(),
            rest: Vec::new(),
            inits,
        };
        watcher.begin_full_look()?;
        let all = watcher.rest.drain(..).collect();
        watcher.look_at(&all)?;
        Ok(watcher)
    }

    /// The instances known now, in the order of uuids.
    pub fn known(&self) -> Vec<InstanceUuid> {
        self.seen.keys().copied().collect()
    }

    /// Waits at most `patience` for changes; an empty list means that the time is over.
    ///
    /// # Errors
    /// When the store of instances is no longer there: nothing is then reported as deleted.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Change>, FileError> {
        let deadline = Instant::now() + patience;
        loop {
            let now = Instant::now();
            let due = self.looked + FULL_LOOK;
            if now >= due {
                self.begin_full_look()?;
            }
            let until = if self.rest.is_empty() { deadline.min(due.max(now)) } else { now };
            let events = self.readable(until.saturating_duration_since(now))?;
            let mut uuids = BTreeSet::new();
            if events {
                std::thread::sleep(COALESCE);
                match self.drain()? {
                    Some(touched) => uuids = touched,
                    None => self.begin_full_look()?,
                }
            }
            // Also beside events: a storm of them does not put the full look off for ever.
            uuids.extend(self.rest.drain(self.rest.len().saturating_sub(PORTION)..));
            let mut changes = self.look_at(&uuids)?;
            if events {
                self.add_ends(&mut changes);
            }
            if !changes.is_empty() || Instant::now() >= deadline {
                return Ok(changes);
            }
        }
    }

    /// The death of an init changes no file.
    fn add_ends(&mut self, changes: &mut Vec<Change>) {
        for uuid in self.inits.as_mut().map(Inits::ended).unwrap_or_default() {
            if self.seen.contains_key(&uuid) && changes.iter().all(|change| change.uuid != uuid) {
                changes.push(Change { uuid, kind: ChangeKind::Modified });
            }
        }
    }

    fn readable(&self, timeout: Duration) -> Result<bool, FileError> {
        let inits = self.inits.iter().map(AsFd::as_fd);
        let mut fds: Vec<PollFd<'_>> =
            std::iter::once(self.inotify.as_fd()).chain(inits).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX)) {
            Ok(count) => Ok(count > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(e) => Err(FileError::new("wait for changes of", self.layout.machines(), e.into())),
        }
    }

    /// Takes all events; `None` when some were lost or a directory vanished.
    fn drain(&mut self) -> Result<Option<BTreeSet<InstanceUuid>>, FileError> {
        let mut touched = BTreeSet::new();
        let mut complete = true;
        let mut buffer = [0; 16 << 10];
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(FileError::new("read changes of", self.layout.machines(), e)),
            };
            let mut any = false;
            for event in events {
                any = true;
                if event.mask.intersects(EventMask::Q_OVERFLOW | EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::UNMOUNT) {
                    complete = false;
                }
                let name = event.name.and_then(|name| name.to_str());
                if let Some(uuid) = name.and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok()) {
                    touched.insert(uuid);
                }
            }
            if !any {
                break;
            }
        }
        Ok(complete.then_some(touched))
    }

    fn look(&mut self, uuid: InstanceUuid) -> Option<Seen> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::symlink_metadata(self.layout.machine(uuid)).ok();
        let run = self.runs.read(uuid).ok();
        if let Some(inits) = &mut self.inits {
            // A run-state that cannot be read says nothing of the init.
            match (&metadata, &run) {
                (Some(_), Some(run)) => inits.follow(uuid, run.init),
                (Some(_), None) => {}
                (None, _) => inits.follow(uuid, None),
            }
        }
        let metadata = metadata?;
        let generation = run.map_or(0, |run| run.generation);
        Some(Seen { generation, modified: metadata.mtime() * 1_000_000_000 + metadata.mtime_nsec(), inode: metadata.ino() })
    }

    fn look_at(&mut self, uuids: &BTreeSet<InstanceUuid>) -> Result<Vec<Change>, FileError> {
        let mut changes = Vec::new();
        for &uuid in uuids {
            let now = self.look(uuid);
            if now.is_none() && self.seen.contains_key(&uuid) {
                self.layout.check_store()?;
            }
            let kind = match (self.seen.get(&uuid), now) {
                (None, Some(_)) => ChangeKind::Created,
                (Some(before), Some(now)) if *before != now => ChangeKind::Modified,
                (Some(_), None) => ChangeKind::Deleted,
                (Some(_), Some(_)) | (None, None) => continue,
            };
            match now {
                Some(now) => self.seen.insert(uuid, now),
                None => self.seen.remove(&uuid),
            };
            changes.push(Change { uuid, kind });
        }
        Ok(changes)
    }

    /// From now on all instances are looked at, a portion at a time: those that are there, and those that were.
    fn begin_full_look(&mut self) -> Result<(), FileError> {
        self.looked = Instant::now();
        let mut uuids: BTreeSet<InstanceUuid> = self.machines.uuids()?.into_iter().collect();
        uuids.extend(self.seen.keys().copied());
        self.rest = uuids.into_iter().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
