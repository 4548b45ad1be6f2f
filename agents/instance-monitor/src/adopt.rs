//! `adopt`: takes over a running guest whose supervisor was killed (ruling 37).
//!
//! The guest is no child of this process: its end is seen by a pidfd, and how it ended is known only if its boot child still
//! lived and ran the `stop` hook, which leaves a note. So no exit status is recorded; a reboot is carried out if it was noted.

use std::{
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::os::fd::AsFd;
use triton_files::steps;
use triton_process::PidFd;
use triton_types::{ProcessRef, RunPhase};

use crate::{
    ending, ffi,
    node::Node,
    note::{self, chain},
    readiness::Starter,
    records::BootRecord,
    supervisor,
};

/// How long a surviving boot child may take for its hooks after its guest's end.
const HOOKS: Duration = Duration::from_secs(30);

/// Supervises the running guest until its end, and its later boots like any supervisor.
pub fn adopt(node: &Node, starter: Starter) -> Result<(), String> {
    let (record, init, pidfd) = match take_over(node) {
        Ok(taken) => taken,
        Err(reason) => {
            starter.failed(&reason);
            return Err(reason);
        }
    };
    // The metadata service may still have the guest's line, and gives it back.
    let line = supervisor::line(node);
    steps::reached("monitor.adopted");
    starter.ready(init.pid);
    note::info(node.uuid, &format!("adopted the running guest: its init is process {}", init.pid));
    ffi::trim_heap();
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    while let Err(Errno::EINTR) = poll(&mut fds, PollTimeout::NONE) {}
    supervisor::tell_death(node);
    await_boot_child(node, &record);
    let rebooted = node.records.end().ok().flatten().is_some_and(|end| end.reboot);
    let stopping = node.runs.read(node.uuid).is_ok_and(|run| run.phase == RunPhase::Stopping);
    note::info(node.uuid, if rebooted { "the adopted guest rebooted" } else { "the adopted guest ended" });
    if rebooted && !stopping {
        supervisor::between_boots(node, &record)?;
        return supervisor::boot_until_end(node, None, line.as_ref());
    }
    ending::record(node, &record, None);
    Ok(())
}

fn take_over(node: &Node) -> Result<(BootRecord, ProcessRef, PidFd), String> {
    let record = node.records.boot().map_err(|e| chain(&e))?.ok_or("there is no record of the guest's boot")?;
    let run = node.runs.read(node.uuid).map_err(|e| chain(&e))?;
    if let Some(other) = run.supervisor.filter(|other| *other != node.own && triton_process::is_alive(*other)) {
        return Err(format!("process {} supervises this instance already", other.pid));
    }
    let init = run.init.ok_or("no guest is known to run")?;
    let pidfd = PidFd::open(init).ok_or("the guest does not run any more")?;
    node.make_leaf(&record.cgroup)?;
    node.enter_leaf(&record.cgroup)?;
    let update = node.runs.update(node.uuid, |run| {
        if run.phase != RunPhase::Stopping {
            run.phase = RunPhase::Running;
        }
        (run.supervisor, run.adopted) = (Some(node.own), true);
    });
    update.map_err(|e| chain(&e))?;
    Ok((record, init, pidfd))
}

/// A boot child that outlived the supervisor runs the hooks, then ends by itself.
fn await_boot_child(node: &Node, record: &BootRecord) {
    let leaves = ["monitor", "pivot"].map(|leaf| format!("{}/{leaf}", record.cgroup));
    let deadline = Instant::now() + HOOKS;
    while Instant::now() < deadline && leaves.iter().any(|leaf| node.cgroups.populated(leaf)) {
        thread::sleep(Duration::from_millis(5));
    }
}
