//! Making the files agree with what is really there, after agents, monitors or the machine died.
//!
//! Called for one instance by whoever holds its lock, and for all by daemons at their start and from time to time.

use std::{fs, time::Duration};

use triton_files::Lock;
use triton_process::reference;
use triton_types::{InstanceUuid, Lifecycle, ProcessRef, RunPhase, RunState, Timestamp};

use crate::{InstanceError, Instances, launch::Mission, observe::Presence};

/// How long a monitor may take to adopt a running guest.
const ADOPT_PATIENCE: Duration = Duration::from_secs(20);

/// What [`Instances::recover`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Guests that got a new monitor.
    pub adopted: Vec<InstanceUuid>,
    /// Instances whose run had ended unrecorded.
    pub cleared: Vec<InstanceUuid>,
    /// Deletions that were finished.
    pub deleted: Vec<InstanceUuid>,
    /// Instances that could not be recovered, and why.
    pub failed: Vec<(InstanceUuid, String)>,
}

impl Instances {
    /// Recovers every instance that nobody is changing: adopts guests without a monitor (ruling 37), records ends that
    /// nobody recorded, finishes deletions (instances.md section 6.4). Running guests are never touched.
    ///
    /// # Errors
    /// When the store of instances is not there.
    pub fn recover(&self) -> Result<Recovery, InstanceError> {
        let mut recovery = Recovery::default();
        triton_files::sweep_temporaries(&self.layout.machines());
        triton_files::sweep_temporaries(&self.layout.run_states());
        if let Err(error) = self.storage.sweep() {
            tracing::warn!(error = %crate::error::chain_text(&error), "leftovers in the pool could not be removed");
        }
        self.sweep_locks();
        crate::gone::forget(&self.layout);
        for uuid in self.machines.uuids()? {
            let Ok(lock) = self.lock_as_it_is(uuid, "recover", Duration::ZERO) else { continue };
            let before = self.run_of(uuid);
            let deleting = self.machines.read(uuid).is_ok_and(|machine| machine.file.lifecycle == Lifecycle::Deleting);
            let result = if deleting { self.finish_deletion(uuid, lock) } else { self.settle_and_heal(uuid) };
            let after = self.run_of(uuid);
            match result {
                Err(error) => recovery.failed.push((uuid, crate::error::chain_text(&error))),
                Ok(()) if deleting => recovery.deleted.push(uuid),
                Ok(()) if after.0.adopted && after.0.supervisor != before.0.supervisor => recovery.adopted.push(uuid),
                Ok(()) if before.0.phase != RunPhase::Stopped && after.1 == Presence::Stopped => recovery.cleared.push(uuid),
                Ok(()) => {}
            }
        }
        Ok(recovery)
    }

    /// Completes a change that was interrupted, and makes the run-state true. A reprovisioning ends with a start.
    fn settle_and_heal(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let reprovisioning = self.is_reprovisioning(uuid);
        self.settle(uuid)?;
        self.heal(uuid)?;
        if reprovisioning && self.run_of(uuid).1 == Presence::Stopped {
            self.boot(&self.machines.read(uuid)?)?;
        }
        Ok(())
    }

    /// Removes locks whose instances are gone: of deletions that were killed after their last effect.
    fn sweep_locks(&self) {
        for entry in fs::read_dir(self.layout.locks()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let uuid = name.strip_suffix(".lock").and_then(|stem| stem.strip_prefix("vm.").or_else(|| stem.strip_prefix("run.")));
            let Some(uuid) = uuid.and_then(|text| text.parse::<InstanceUuid>().ok()) else { continue };
            // Whoever creates it now holds the lock, or has its machine file already.
            if !self.exists(uuid)
                && let Ok(lock) = Lock::take(&entry.path(), "sweep", Duration::ZERO)
                && !self.exists(uuid)
            {
                lock.remove();
            }
        }
    }

    /// Adopts this instance's guest if it runs without a monitor, or without a run-state, and nobody is changing it; for
    /// readers, which take no lock.
    pub fn adopt_if_orphaned(&self, uuid: InstanceUuid) {
        let lost = || !matches!(self.runs.find(uuid), Ok(Some(_)));
        let presence = self.run_of(uuid).1;
        if (presence == Presence::Orphaned || (presence.has_init() && lost()))
            && let Ok(_lock) = self.lock(uuid, "adopt", Duration::ZERO)
            && let Err(error) = self.heal(uuid)
        {
            tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "a running guest could not be adopted");
        }
    }

    /// The run-state of a guest as its processes show it; `None` when there is no guest.
    pub(crate) fn run_of_processes(&self, uuid: InstanceUuid) -> Option<RunState> {
        let cgroup = self.cgroup(uuid);
        let payload = format!("{cgroup}/payload");
        let init = if self.cgroups.populated(&payload) { self.find_init(&payload)? } else { return None };
        let supervisor = self.cgroups.pids(&format!("{cgroup}/supervisor")).ok().and_then(|pids| pids.into_iter().find_map(reference));
        Some(RunState {
            phase: RunPhase::Running,
            init: Some(init),
            supervisor,
            boot_timestamp: started_at(init),
            ..RunState::stopped(uuid)
        })
    }

    /// Writes the run-state anew if it was lost, or is wrong, while the guest runs.
    fn restore(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let known = matches!(self.runs.find(uuid), Ok(Some(run)) if Presence::of(&run) != Presence::Stopped);
        if known {
            return Ok(());
        }
        let Some(found) = self.run_of_processes(uuid) else { return Ok(()) };
        self.runs
            .update(uuid, |run| {
                (run.phase, run.init, run.supervisor, run.boot_timestamp) =
                    (found.phase, found.init, found.supervisor, found.boot_timestamp);
            })
            .map(drop)
            .map_err(InstanceError::step("record the running guest of", uuid))
    }

    /// Makes the run-state of one instance true. The caller holds the lock.
    pub(crate) fn heal(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        self.restore(uuid)?;
        let (run, presence) = self.run_of(uuid);
        match presence {
            Presence::Orphaned => self.adopt(uuid),
            Presence::Stopped => {
                if run.phase == RunPhase::Stopped {
                    return Ok(());
                }
                let rebooted = run.phase == RunPhase::Running && self.asked_for_reboot(uuid);
                self.clear(uuid);
                match self.machines.read(uuid) {
                    Ok(machine) if rebooted && machine.file.lifecycle == Lifecycle::Installed => self.boot(&machine),
                    _ => Ok(()),
                }
            }
            // Whoever asked it to stop was killed before it stopped: it goes on.
            Presence::Stopping => self
                .runs
                .update(uuid, |run| run.phase = RunPhase::Running)
                .map(drop)
                .map_err(InstanceError::step("take back the stop of", uuid)),
            Presence::Starting | Presence::Running | Presence::Down => Ok(()),
        }
    }

    /// Whether the guest that ended without a supervisor had asked for a reboot: its boot child, which outlived the
    /// supervisor, noted it (`end.json` of instance-monitor).
    fn asked_for_reboot(&self, uuid: InstanceUuid) -> bool {
        #[derive(serde::Deserialize)]
        struct End {
            reboot: bool,
        }
        let end = triton_files::read_json::<End>(&self.layout.runtime(uuid).join("end.json"));
        end.ok().flatten().is_some_and(|end| end.reboot)
    }

    fn adopt(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        self.launcher.launch(&self.layout, uuid, Mission::Adopt, ADOPT_PATIENCE).map_err(|reason| InstanceError::Step {
            action: "adopt the running guest of",
            uuid,
            source: reason.into(),
        })
    }

    /// The init among the processes of a payload: the one that is process 1 of the namespace below ours.
    fn find_init(&self, payload: &str) -> Option<ProcessRef> {
        let pids = self.cgroups.pids(payload).ok()?;
        pids.into_iter().find(|pid| innermost_pid(*pid) == Some(1)).and_then(reference)
    }
}

/// The pid that a process has in a pid namespace right below ours: in none below that, so no init of a container that the
/// guest runs is taken for the guest's own.
fn innermost_pid(pid: i32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let pids: Vec<i32> = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().flat_map(str::parse).collect();
    pids.last().copied().filter(|_| pids.len() == 2)
}

/// When a process began, from its start time in clock ticks after boot.
fn started_at(process: ProcessRef) -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = i64::try_from(process.start_ticks).ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().filter(|hz| *hz > 0)?;
    Some(Timestamp::from_millis(boot * 1000 + ticks * 1000 / per_second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_between_boot_and_now() {
        let me = reference(std::process::id() as i32).unwrap();
        let started = started_at(me).unwrap();
        assert!(started <= Timestamp::from_millis(Timestamp::now().as_millis() + 1000));
        assert!(started.as_millis() > Timestamp::now().as_millis() - 3_600_000);
    }

    #[test]
    fn a_process_of_the_host_is_no_guest_init() {
        assert_eq!(innermost_pid(std::process::id() as i32), None);
    }
}
