//! One mounted hierarchy: the operations on a directory in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::CgroupError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Unified,
    Legacy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub version: Version,
    pub mount: PathBuf,
    /// Names of v1 controllers; empty for the unified hierarchy and for named ones.
    pub controllers: Vec<String>,
}

impl Hierarchy {
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    /// Makes the group and those above it. In a v1 cpuset hierarchy each new group gets its parent's processors and memory
    /// nodes, without which no process may enter it, and passes them on to groups that others make below it.
    pub fn create(&self, path: &str) -> Result<(), CgroupError> {
        let mut directory = self.mount.clone();
        for name in path.split('/') {
            let parent = directory.clone();
            directory.push(name);
            match fs::create_dir(&directory) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(CgroupError::group("create control group", &directory)(e)),
            }
            if self.has("cpuset") {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    inherit(&parent.join(file), &directory.join(file))?;
                }
                let file = directory.join("cgroup.clone_children");
                fs::write(&file, "1").map_err(CgroupError::group("set", file))?;
            }
        }
        Ok(())
    }

    /// Moves a process. One that has ended meanwhile is an error of kind ESRCH.
    pub fn enter(&self, path: &str, pid: i32) -> Result<(), CgroupError> {
        let file = self.mount.join(path).join("cgroup.procs");
        fs::write(&file, pid.to_string()).map_err(CgroupError::group("move a process by", file))
    }

    /// True if the process is in the group itself.
    pub fn holds(&self, path: &str, pid: i32) -> bool {
        let text = fs::read_to_string(self.mount.join(path).join("cgroup.procs")).unwrap_or_default();
        text.lines().any(|line| line.parse() == Ok(pid))
    }

    /// The processes of the group and of all below it. What vanishes on the way is not there.
    pub fn pids(&self, path: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        walk(&self.mount.join(path), &mut |directory| {
            let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
        pids
    }

    /// v1 counts a killed process in its own group only, so those of all groups are summed. `None` without the group.
    pub fn oom_kills(&self, path: &str) -> Option<u64> {
        let mut sum = None;
        walk(&self.mount.join(path), &mut |directory| {
            if let Ok(text) = fs::read_to_string(directory.join("memory.oom_control")) {
                sum = Some(sum.unwrap_or(0) + crate::MemoryEvents::parse(&text).oom_kill);
            }
        });
        sum
    }

    /// One attempt at removing the group and all below it, deepest first. True when it is gone.
    pub fn try_remove(&self, path: &str) -> Result<bool, CgroupError> {
        let mut busy = false;
        let mut failed = None;
        walk(&self.mount.join(path), &mut |directory| match fs::remove_dir(directory) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) => busy = true,
            Err(e) => failed = Some(CgroupError::group("remove control group", directory)(e)),
        });
        match failed {
            Some(error) => Err(error),
            None => Ok(!busy),
        }
    }
}

/// Calls `visit` for every directory at and below `top`, deepest first, without following links. Deeper than any guest may nest
/// (`cgroup.max.depth` aside) the kernel's own path limit ends the descent.
fn walk(top: &Path, visit: &mut dyn FnMut(&Path)) {
    let mut pending = vec![(top.to_owned(), false)];
    while let Some((directory, children_done)) = pending.pop() {
        if children_done {
            visit(&directory);
            continue;
        }
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        pending.push((directory, true));
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push((entry.path(), false));
            }
        }
    }
}

fn inherit(from: &Path, to: &Path) -> Result<(), CgroupError> {
    let own = fs::read_to_string(to).map_err(CgroupError::group("read", to))?;
    if !own.trim().is_empty() {
        return Ok(());
    }
    let value = fs::read_to_string(from).map_err(CgroupError::group("read", from))?;
    fs::write(to, value.trim()).map_err(CgroupError::group("set", to))
}
