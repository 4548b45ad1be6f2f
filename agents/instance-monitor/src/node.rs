//! What a supervisor works with.

use std::path::Path;

use triton_cgroup::Cgroups;
use triton_files::Layout;
use triton_instance::RunStates;
use triton_process::reference;
use triton_types::{InstanceUuid, ProcessRef};

use crate::{note::chain, records::Records};

/// Leaves of the instance's control group that liblxc makes and refuses to find (ruling 39). `supervisor` is a fourth.
const LEAVES: [&str; 3] = ["payload", "monitor", "pivot"];

/// The supervisor's own leaf.
fn leaf(cgroup: &str) -> String {
    format!("{cgroup}/supervisor")
}

/// One instance on one node, as its supervisor sees it.
pub struct Node {
    /// Paths.
    pub layout: Layout,
    /// The instance.
    pub uuid: InstanceUuid,
    /// Control groups.
    pub cgroups: Cgroups,
    /// Run-states.
    pub runs: RunStates,
    /// Records of the monitor.
    pub records: Records,
    /// This process.
    pub own: ProcessRef,
    /// No unit of systemd holds this process: it removes its own control group at the end.
    pub detached: bool,
}

impl Node {
    /// The instance `uuid` below `root`.
    pub fn open(root: &Path, uuid: InstanceUuid, detached: bool) -> Result<Self, String> {
        let layout = Layout::new(root);
        Ok(Self {
            cgroups: Cgroups::probe().map_err(|e| chain(&e))?,
            runs: RunStates::new(&layout),
            records: Records::new(&layout, uuid),
            own: i32::try_from(std::process::id()).ok().and_then(reference).ok_or("this process cannot be found in /proc")?,
            layout,
            uuid,
            detached,
        })
    }

    /// Makes the leaf of this process.
    pub fn make_leaf(&self, cgroup: &str) -> Result<(), String> {
        self.cgroups.create(&leaf(cgroup)).map_err(|e| chain(&e))
    }

    /// Moves this process to its own leaf, which is there, unless it is in it. The kernel takes milliseconds to move a process.
    pub fn enter_leaf(&self, cgroup: &str) -> Result<(), String> {
        let leaf = leaf(cgroup);
        if self.cgroups.holds(&leaf, self.own.pid) {
            return Ok(());
        }
        self.cgroups.enter(&leaf, 0).map_err(|e| chain(&e))
    }

    /// Removes what earlier boots left, and refuses if processes are in it.
    pub fn clear_leaves(&self, cgroup: &str) -> Result<(), String> {
        for leaf in LEAVES {
            let path = format!("{cgroup}/{leaf}");
            if self.cgroups.populated(&path) {
                let pids = self.cgroups.pids(&path).unwrap_or_default();
                return Err(format!("processes of an earlier run are still there in control group {path}: {pids:?}"));
            }
            self.cgroups.remove(&path).map_err(|e| chain(&e))?;
        }
        Ok(())
    }

    /// Kills whatever is left in the guest's and liblxc's groups, and removes them.
    pub fn kill_leaves(&self, cgroup: &str) -> Result<(), String> {
        for leaf in LEAVES {
            let path = format!("{cgroup}/{leaf}");
            self.cgroups.kill(&path).and_then(|()| self.cgroups.remove(&path)).map_err(|e| chain(&e))?;
        }
        Ok(())
    }

    /// Removes the instance's group as far as it is this process's business.
    pub fn remove_group(&self, cgroup: &str) -> Result<(), String> {
        self.kill_leaves(cgroup)?;
        if self.detached {
            self.cgroups.leave(0).and_then(|()| self.cgroups.remove(cgroup)).map_err(|e| chain(&e))?;
        }
        Ok(())
    }

    /// Kills for lack of memory counted in the instance's group so far.
    pub fn oom_kills(&self, cgroup: &str) -> u64 {
        self.cgroups.memory_events(cgroup).map_or(0, |events| events.oom_kill)
    }
}
