//! Recording the end of a run, in an order in which a crash loses nothing: the exit first, durably; what is left of the guest
//! next; the run-state last (ruling 36).

use std::path::Path;

use triton_files::{FileError, remove_if_present, steps, write_atomic};
use triton_instance::{Machines, network};
use triton_lxc::ExitOutcome;
use triton_types::{ExitRecord, RunPhase, Timestamp};

use crate::{
    node::Node,
    note::{self, chain},
    records::BootRecord,
};

/// `exit_status` of the VM object, and the status in `lastexited`, which is a wait status (instances.md section 5.5).
/// A guest that powered itself off, or rebooted when it was told to stop, exited with 0 (ruling 36).
fn statuses(outcome: ExitOutcome) -> (i32, i32) {
    match outcome {
        ExitOutcome::Exited(code) => (i32::from(code), i32::from(code) << 8),
        ExitOutcome::Signalled(signal) => (-signal, signal),
        ExitOutcome::Halted | ExitOutcome::Rebooted => (0, 0),
    }
}

/// True if the kernel killed in this boot for lack of memory.
fn oom(node: &Node, boot: &BootRecord) -> bool {
    let seen_by_hook = node.records.end().ok().flatten().is_some_and(|end| end.oom_kills > 0);
    seen_by_hook || node.oom_kills(&boot.cgroup) > boot.oom_kills
}

/// `before` is when the instance was last modified: this is a modification too, whatever the clock says.
fn write_last_exited(zonepath: &Path, at: Timestamp, status: i32, before: Option<Timestamp>) -> Result<(), FileError> {
    let path = zonepath.join("lastexited");
    write_atomic(&path, format!("{} {status}\n", at.as_secs()).as_bytes(), 0o644)?;
    before.map_or(Ok(()), |before| Machines::advance(&path, before))
}

/// The guest has ended for good. `None`: it was adopted, and how it ended is not known.
pub fn record(node: &Node, boot: &BootRecord, outcome: Option<ExitOutcome>) {
    let at = Timestamp::now();
    let exit = outcome.map(|outcome| {
        let (status, wait_status) = statuses(outcome);
        (ExitRecord { at, status, oom: oom(node, boot) }, wait_status)
    });
    let file = match exit {
        Some((_, wait_status)) => {
            let before = Machines::new(&node.layout).read(node.uuid).ok().map(|machine| machine.modified);
            write_last_exited(&boot.zonepath, at, wait_status, before)
        }
        // What an earlier run left would be mistaken for this one's.
        None => remove_if_present(&boot.zonepath.join("lastexited")),
    };
    if let Err(error) = file {
        note::warn(node.uuid, &format!("the exit status could not be stored: {}", chain(&error)));
    }
    steps::reached("monitor.exit-stored");
    clean(node, boot);
    steps::reached("monitor.cleaned");
    stopped(node, exit.map(|(record, _)| record), None);
}

/// The guest did not start.
pub fn record_failure(node: &Node, boot: Option<&BootRecord>, reason: &str) {
    if let Some(boot) = boot {
        clean(node, boot);
    }
    let previous = node.runs.read(node.uuid).ok().and_then(|run| run.last_exit);
    stopped(node, previous, Some(reason.to_owned()));
}

/// Removes links and groups. What cannot be removed is named and left for the next start, which tries again.
fn clean(node: &Node, boot: &BootRecord) {
    if let Err(error) = network::detach(&node.layout, node.uuid) {
        note::warn(node.uuid, &format!("links could not be removed: {}", chain(&error)));
    }
    if let Err(reason) = node.remove_group(&boot.cgroup) {
        note::warn(node.uuid, &format!("control groups could not be removed: {reason}"));
    }
}

fn stopped(node: &Node, last_exit: Option<ExitRecord>, start_error: Option<String>) {
    let result = node.runs.update(node.uuid, |run| {
        // A later supervisor's state is not this one's to change.
        if run.supervisor.is_some_and(|other| other != node.own && triton_process::is_alive(other)) {
            return;
        }
        run.phase = RunPhase::Stopped;
        (run.init, run.supervisor, run.boot_timestamp, run.adopted) = (None, None, None, false);
        (run.last_exit, run.start_error) = (last_exit, start_error);
    });
    if let Err(error) = result {
        note::error(node.uuid, &format!("the end of the run could not be recorded: {}", chain(&error)));
    }
    steps::reached("monitor.recorded");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// instances case 62
    #[test]
    fn exit_statuses_are_as_the_contract_reads_them_back() {
        for (outcome, shown, stored) in [
            (ExitOutcome::Exited(0), 0, 0),
            (ExitOutcome::Exited(7), 7, 1792),
            (ExitOutcome::Exited(255), 255, 65280),
            (ExitOutcome::Signalled(9), -9, 9),
            (ExitOutcome::Halted, 0, 0),
        ] {
            assert_eq!(statuses(outcome), (shown, stored), "{outcome:?}");
            // instances.md section 5.5: low byte 0 is an exit, else a signal.
            let read = if stored & 0xff == 0 { stored >> 8 } else { -(stored & 0xff) };
            assert_eq!(read, shown);
        }
    }
}
