//! Operations on a group in all mounted hierarchies at once.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    CgroupError, CgroupLayout, MemoryEvents, PopulationWatch,
    hierarchy::{Hierarchy, Version},
    mounts,
    watch::is_populated,
};

/// How long a group may stay busy after its last process ended (the kernel lets go of it a moment later).
const RELEASE: Duration = Duration::from_secs(5);
/// How long killed processes may take to end: one in an uninterruptible wait on storage cannot be helped.
const KILL: Duration = Duration::from_secs(10);
/// Pauses between looks grow from the first to the second.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The mounted hierarchies. Paths of groups are relative to their roots: `triton/<uuid>/payload`.
#[derive(Clone, Debug)]
pub struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Looks at the mounts of this process.
    ///
    /// # Errors
    /// When there is no cgroup file system, or the mount table cannot be read.
    pub fn probe() -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(|source| CgroupError::Mounts { path: path.to_owned(), source })?;
        Self::from_mountinfo(&text)
    }

    pub(crate) fn from_mountinfo(text: &str) -> Result<Self, CgroupError> {
        let hierarchies = mounts::hierarchies(text);
        if hierarchies.is_empty() {
            return Err(CgroupError::None);
        }
        Ok(Self { hierarchies })
    }

    #[cfg(test)]
    pub(crate) fn from_hierarchies(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }

    /// How groups are mounted. A v1 hierarchy without controllers (systemd's named one) does not make it hybrid.
    pub fn layout(&self) -> CgroupLayout {
        let legacy = self.hierarchies.iter().any(|h| h.version == Version::Legacy && !h.controllers.is_empty());
        if legacy { CgroupLayout::Hybrid } else { CgroupLayout::V2 }
    }

    fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|h| h.version == Version::Unified)
    }

    /// Makes the group, and those above it, in all hierarchies. That it is there is success.
    ///
    /// # Errors
    /// Names the directory that could not be made.
    pub fn create(&self, path: &str) -> Result<(), CgroupError> {
        check(path)?;
        self.hierarchies.iter().try_for_each(|h| h.create(path))
    }

    /// Moves the process `pid` (0: the caller) into the group, in all hierarchies.
    ///
    /// # Errors
    /// Names the file that refused.
    pub fn enter(&self, path: &str, pid: i32) -> Result<(), CgroupError> {
        check(path)?;
        self.hierarchies.iter().try_for_each(|h| h.enter(path, pid))
    }

    /// True if the process is in this group, not in one below it, in all hierarchies.
    pub fn holds(&self, path: &str, pid: i32) -> bool {
        check(path).is_ok() && self.hierarchies.iter().all(|h| h.holds(path, pid))
    }

    /// True if the group is there in any hierarchy.
    pub fn exists(&self, path: &str) -> bool {
        check(path).is_ok() && self.hierarchies.iter().any(|h| h.mount.join(path).is_dir())
    }

    /// The group's directory in each hierarchy that has it: for callers that open its files beforehand.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        if check(path).is_err() {
            return Vec::new();
        }
        self.hierarchies.iter().map(|h| h.mount.join(path)).filter(|directory| directory.is_dir()).collect()
    }

    /// True if the group or one below it has processes. `cgroup.events` of the unified hierarchy says so, and a process that
    /// was moved out of it alone is found in the v1 hierarchies.
    pub fn populated(&self, path: &str) -> bool {
        if check(path).is_err() {
            return false;
        }
        self.hierarchies.iter().any(|h| match h.version {
            Version::Unified => fs::read_to_string(h.mount.join(path).join("cgroup.events")).is_ok_and(|text| is_populated(&text)),
            Version::Legacy => !h.pids(path).is_empty(),
        })
    }

    /// Watches for the group's last process in the unified hierarchy; `None` without that hierarchy or group.
    pub fn watch(&self, path: &str) -> Option<PopulationWatch> {
        check(path).ok()?;
        File::open(self.unified()?.mount.join(path).join("cgroup.events")).ok().map(PopulationWatch::new)
    }

    /// The processes of the group and of all below it, each once, ascending. A group that is not there has none.
    ///
    /// # Errors
    /// When the path names no group.
    pub fn pids(&self, path: &str) -> Result<Vec<i32>, CgroupError> {
        check(path)?;
        let pids: BTreeSet<i32> = self.hierarchies.iter().flat_map(|h| h.pids(path)).collect();
        Ok(pids.into_iter().collect())
    }

    /// Moves the process `pid` (0: the caller) to the root of every hierarchy, so that its group can be removed.
    ///
    /// # Errors
    /// Names the file that refused.
    pub fn leave(&self, pid: i32) -> Result<(), CgroupError> {
        self.hierarchies.iter().try_for_each(|h| h.enter("", pid))
    }

    /// Kills every process of the group and of those below it, and waits until they are gone. A group that is not there is empty.
    ///
    /// # Errors
    /// [`CgroupError::Survivors`] when some are left after ten seconds.
    pub fn kill(&self, path: &str) -> Result<(), CgroupError> {
        check(path)?;
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let deadline = Instant::now() + KILL;
        let mut pause = PAUSES.0;
        loop {
            if let Some(unified) = self.unified() {
                let file = unified.mount.join(path).join("cgroup.kill");
                match fs::write(&file, "1") {
                    Ok(()) => {}
                    // Absent with the group, and before Linux 5.14: the signals below do it then.
                    Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
                    Err(e) if e.raw_os_error() == Some(libc::ENODEV) => {}
                    Err(e) => return Err(CgroupError::group("kill the group by", file)(e)),
                }
            }
            let pids = self.pids(path)?;
            if pids.is_empty() && !self.populated(path) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(CgroupError::Survivors { path: path.to_owned(), pids: pids.into_iter().take(8).collect() });
            }
            for pid in pids.into_iter().filter(|pid| *pid > 1 && *pid != own) {
                match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => return Err(CgroupError::group("kill a process of", PathBuf::from(path))(errno.into())),
                }
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// Removes the group and all below it, deepest first, in all hierarchies. That it is not there is success. Processes are
    /// not touched: a group that has some stays.
    ///
    /// # Errors
    /// EBUSY when a process is still in it after a moment; otherwise what the kernel says.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        check(path)?;
        let deadline = Instant::now() + RELEASE;
        let mut pause = PAUSES.0;
        loop {
            let mut busy = None;
            for hierarchy in &self.hierarchies {
                if !hierarchy.try_remove(path)? {
                    busy = Some(hierarchy.mount.join(path));
                }
            }
            let Some(busy) = busy else { return Ok(()) };
            if Instant::now() >= deadline || self.populated(path) {
                return Err(CgroupError::group("remove control group", busy)(Errno::EBUSY.into()));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// What happened for lack of memory in the group and below it: `memory.events` where the unified hierarchy has the memory
    /// controller, else the v1 kill counts of the group and all below it, summed. `None` when neither can be read.
    pub fn memory_events(&self, path: &str) -> Option<MemoryEvents> {
        check(path).ok()?;
        let unified = self.unified().map(|h| h.mount.join(path).join("memory.events"));
        if let Some(text) = unified.and_then(|file| fs::read_to_string(file).ok()) {
            return Some(MemoryEvents::parse(&text));
        }
        let legacy = self.hierarchies.iter().find(|h| h.has("memory"))?;
        legacy.oom_kills(path).map(|oom_kill| MemoryEvents { oom_kill, ..MemoryEvents::default() })
    }

    /// The content of `file` of the group, from the hierarchy that has it (unified first), without its final newline.
    ///
    /// # Errors
    /// When no hierarchy has it, or it cannot be read.
    pub fn get(&self, path: &str, file: &str) -> Result<String, CgroupError> {
        let file = self.find(path, file)?;
        fs::read_to_string(&file).map(|text| text.trim_end().to_owned()).map_err(CgroupError::group("read", file))
    }

    /// Writes `value` to `file` of the group, in the hierarchy that has it (unified first).
    ///
    /// # Errors
    /// When no hierarchy has it, or the kernel refuses the value.
    pub fn set(&self, path: &str, file: &str, value: &str) -> Result<(), CgroupError> {
        let file = self.find(path, file)?;
        fs::write(&file, value).map_err(CgroupError::group("set", file))
    }

    fn find(&self, path: &str, file: &str) -> Result<PathBuf, CgroupError> {
        check(path)?;
        if file.contains('/') {
            return Err(CgroupError::Path { path: file.to_owned() });
        }
        let mut candidates = self.hierarchies.iter().map(|h| h.mount.join(path).join(file));
        candidates
            .find(|candidate| candidate.exists())
            .ok_or_else(|| CgroupError::group("find", Path::new(path).join(file))(io::ErrorKind::NotFound.into()))
    }
}

fn check(path: &str) -> Result<(), CgroupError> {
    let good = |name: &str| !name.is_empty() && name != "." && name != ".." && !name.contains(['\0', '\n']);
    if path.split('/').all(good) { Ok(()) } else { Err(CgroupError::Path { path: path.chars().take(256).collect() }) }
}
