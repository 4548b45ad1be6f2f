//! Typed, coalesced changes of instances, without polling (design section 4).
//!
//! inotify on the two flat directories says "look now"; what changed is found by comparing generations and times with
//! what was seen before. A full look every minute, and after an overflow, finds what events did not tell. Who reports instances follows
//! their inits as well: the kernel tells of a death before the supervisor does.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd, BorrowedFd},
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
    looked: Instant,
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
            inits,
        };
        watcher.look_at_all()?;
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
                let changes = self.look_at_all()?;
                if !changes.is_empty() {
                    return Ok(changes);
                }
            }
            if !self.readable(deadline.min(due.max(now)).saturating_duration_since(now))? {
                if Instant::now() >= deadline {
                    return Ok(Vec::new());
                }
                continue;
            }
            std::thread::sleep(COALESCE);
            let mut changes = match self.drain()? {
                Some(touched) => self.look_at(&touched)?,
                None => self.look_at_all()?,
            };
            self.add_ends(&mut changes);
            if !changes.is_empty() {
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

    fn look_at_all(&mut self) -> Result<Vec<Change>, FileError> {
        self.looked = Instant::now();
        let mut uuids: BTreeSet<InstanceUuid> = self.machines.uuids()?.into_iter().collect();
        uuids.extend(self.seen.keys().copied());
        self.look_at(&uuids)
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use triton_types::{Lifecycle, MachineFile, VmConfig};

    use super::*;

    struct Node(Layout);
    impl Node {
        fn new(name: &str) -> Self {
            let layout = Layout::new(std::env::temp_dir().join(format!("triton-watch-{}-{name}", std::process::id())));
            layout.prepare().unwrap();
            Self(layout)
        }
        fn write(&self, uuid: InstanceUuid) {
            let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config: VmConfig::bare(uuid) };
            Machines::new(&self.0).write(&file).unwrap();
        }
    }
    impl Drop for Node {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.root());
        }
    }
    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn creation_change_and_deletion_are_told_apart_and_coalesced() {
        let node = Node::new("kinds");
        let (old, new) = (InstanceUuid::random(), InstanceUuid::random());
        node.write(old);
        let mut watcher = Watcher::new(&node.0).unwrap();
        assert_eq!(watcher.known(), [old]);
        node.write(new);
        assert_eq!(watcher.wait(PATIENCE).unwrap(), [Change { uuid: new, kind: ChangeKind::Created }]);
        for _ in 0..50 {
            RunStates::new(&node.0).bump(old).unwrap();
        }
        let changes = watcher.wait(PATIENCE).unwrap();
        assert_eq!(changes, [Change { uuid: old, kind: ChangeKind::Modified }]);
        Machines::new(&node.0).remove(new).unwrap();
        loop {
            let changes = watcher.wait(PATIENCE).unwrap();
            assert!(!changes.is_empty(), "the deletion was not seen");
            if changes.contains(&Change { uuid: new, kind: ChangeKind::Deleted }) {
                break;
            }
        }
    }

    /// vm-agent case 38
    #[test]
    fn thousands_of_changes_at_a_time_lose_no_last_one() {
        let node = Node::new("storm");
        let uuids: Vec<InstanceUuid> = (0..10).map(|_| InstanceUuid::random()).collect();
        uuids.iter().for_each(|uuid| node.write(*uuid));
        let mut watcher = Watcher::new(&node.0).unwrap();
        std::thread::scope(|scope| {
            for uuid in &uuids {
                let runs = RunStates::new(&node.0);
                scope.spawn(move || (0..240).for_each(|_| runs.bump(*uuid).unwrap()));
            }
        });
        let last: BTreeMap<InstanceUuid, u64> =
            uuids.iter().map(|uuid| (*uuid, RunStates::new(&node.0).read(*uuid).unwrap().generation)).collect();
        assert!(last.values().all(|generation| *generation >= 240));
        let mut told = BTreeSet::new();
        while told.len() < 10 {
            let changes = watcher.wait(PATIENCE).unwrap();
            assert!(!changes.is_empty(), "some were not told");
            told.extend(changes.into_iter().map(|change| change.uuid));
        }
        assert!(last.iter().all(|(uuid, generation)| watcher.seen[uuid].generation == *generation), "the last of each was seen");
    }

    #[test]
    fn a_store_that_vanishes_is_an_error_and_nothing_is_deleted() {
        let node = Node::new("vanish");
        let uuid = InstanceUuid::random();
        node.write(uuid);
        let mut watcher = Watcher::new(&node.0).unwrap();
        std::fs::remove_file(node.0.marker()).unwrap();
        std::fs::remove_file(node.0.machine(uuid)).unwrap();
        assert!(watcher.wait(PATIENCE).is_err());
        assert_eq!(watcher.known(), [uuid]);
    }

    /// Nobody writes a file here: as if the supervisor were dead, or slow.
    #[test]
    fn the_death_of_an_init_is_a_change_for_who_follows_it() {
        let node = Node::new("inits");
        let (uuid, other) = (InstanceUuid::random(), InstanceUuid::random());
        node.write(uuid);
        node.write(other);
        let sleeper = || std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let runs = |uuid: InstanceUuid, child: &std::process::Child| {
            let init = triton_process::reference(i32::try_from(child.id()).unwrap());
            RunStates::new(&node.0).update(uuid, |run| (run.phase, run.init) = (triton_types::RunPhase::Running, init)).unwrap();
        };
        let end = |mut child: std::process::Child| {
            child.kill().unwrap();
            child.wait().unwrap();
        };
        let (early, late) = (sleeper(), sleeper());
        runs(uuid, &early);
        let (mut follows, mut does_not) = (Watcher::with_inits(&node.0).unwrap(), Watcher::new(&node.0).unwrap());
        let changed = |uuid| [Change { uuid, kind: ChangeKind::Modified }];
        end(early);
        assert_eq!(follows.wait(PATIENCE).unwrap(), changed(uuid), "one that ran before");
        runs(other, &late);
        assert_eq!(follows.wait(PATIENCE).unwrap(), changed(other), "it runs");
        end(late);
        assert_eq!(follows.wait(PATIENCE).unwrap(), changed(other), "one that began to run later");
        assert_eq!(follows.wait(Duration::from_millis(30)).unwrap(), []);
        assert_eq!(does_not.wait(PATIENCE).unwrap(), changed(other), "files alone");
        assert_eq!(does_not.wait(Duration::from_millis(30)).unwrap(), []);
    }

    #[test]
    fn nothing_is_reported_when_nothing_happens() {
        let node = Node::new("rest");
        let mut watcher = Watcher::new(&node.0).unwrap();
        assert_eq!(watcher.wait(Duration::from_millis(30)).unwrap(), []);
    }
}
