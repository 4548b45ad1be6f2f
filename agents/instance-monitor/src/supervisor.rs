//! `run`: boots the guest, and again whenever it reboots, until it ends.

use std::time::Instant;

use triton_files::steps;
use triton_instance::network;
use triton_lxc::ExitOutcome;
use triton_types::{ProcessRef, RunPhase, Timestamp};

use crate::{
    ending, ffi,
    guest::{self, Start},
    line::Line,
    node::Node,
    note::{self, chain},
    pause::{Pauses, chance},
    readiness::Starter,
    records::BootRecord,
};

/// Supervises the instance from its start to its end.
pub fn run(node: &Node, starter: Starter) -> Result<(), String> {
    if let Err(reason) = take_charge(node) {
        starter.failed(&reason);
        return Err(reason);
    }
    boot_until_end(node, Some(starter), line(node).as_ref())
}

/// The place of the guest's serial line. A guest can do without one.
pub fn line(node: &Node) -> Option<Line> {
    Line::open(node).inspect_err(|error| note::warn(node.uuid, &format!("there can be no serial line: {error}"))).ok()
}

/// Refuses if another supervisor is there, and says that this one is.
fn take_charge(node: &Node) -> Result<(), String> {
    let run = node.runs.read(node.uuid).map_err(|e| chain(&e))?;
    let alive = |process: Option<ProcessRef>| process.filter(|process| *process != node.own && triton_process::is_alive(*process));
    if let Some(other) = alive(run.supervisor) {
        return Err(format!("process {} supervises this instance already", other.pid));
    }
    if let Some(init) = alive(run.init) {
        return Err(format!("the guest runs already: its init is process {}", init.pid));
    }
    let update = node.runs.update(node.uuid, |run| {
        run.phase = RunPhase::Starting;
        run.supervisor = Some(node.own);
        (run.init, run.boot_timestamp, run.start_error, run.adopted) = (None, None, None, false);
    });
    update.map(drop).map_err(|e| chain(&e))
}

/// Boots until the guest does not reboot. `starter` is told of the first boot; none is after an adoption.
pub fn boot_until_end(node: &Node, mut starter: Option<Starter>, line: Option<&Line>) -> Result<(), String> {
    let mut pauses = Pauses::default();
    loop {
        let begun = Instant::now();
        note::turn(node.records.directory());
        let (record, config) = match prepare(node, line) {
            Ok(prepared) => prepared,
            Err((record, reason)) => return fail(node, record.as_ref(), starter, reason),
        };
        // While liblxc is being loaded.
        let meanwhile = || node.enter_leaf(&record.cgroup);
        let (init, running) = match guest::start(node.records.directory(), &config, &node.uuid.to_string(), meanwhile) {
            Start::Failed(reason) => return fail(node, Some(&record), starter, reason),
            Start::Running(guest, init) => (init, Ok(guest)),
            Start::Ended(init, outcome) => (init, Err(outcome)),
        };
        if let Err(reason) = announce(node, init) {
            note::error(node.uuid, &reason);
        }
        steps::reached("monitor.running");
        if let Some(starter) = starter.take() {
            starter.ready(init.pid);
        }
        note::info(node.uuid, &format!("the guest runs: its init is process {}", init.pid));
        ffi::trim_heap();
        let outcome = match running {
            Err(outcome) => outcome,
            Ok(guest) => guest.wait(|| tell_death(node)).unwrap_or_else(|reason| {
                note::error(node.uuid, &reason);
                ExitOutcome::Signalled(libc::SIGKILL)
            }),
        };
        note::info(node.uuid, &format!("the guest's init ended: {outcome:?}"));
        if outcome != ExitOutcome::Rebooted || is_stopping(node) {
            ending::record(node, &record, Some(outcome));
            return Ok(());
        }
        if let Err(reason) = between_boots(node, &record) {
            return fail(node, Some(&record), None, reason);
        }
        std::thread::sleep(pauses.after(begun.elapsed(), chance()));
    }
}

/// Init is dead: watchers are told to look at once, and see that nothing runs, while what is left of the guest is cleared up.
pub fn tell_death(node: &Node) {
    if let Err(error) = node.runs.bump(node.uuid) {
        note::warn(node.uuid, &format!("the death of init could not be told: {}", chain(&error)));
    }
}

/// A stop that the guest answered with a reboot is a stop.
fn is_stopping(node: &Node) -> bool {
    node.runs.read(node.uuid).is_ok_and(|run| run.phase == RunPhase::Stopping)
}

/// Files, groups and records of the next boot.
fn prepare(node: &Node, line: Option<&Line>) -> Result<(BootRecord, std::path::PathBuf), (Option<BootRecord>, String)> {
    let renew =
        |line: &Line| line.renew(node).inspect_err(|error| note::warn(node.uuid, &format!("the guest has no serial line: {error}"))).ok();
    let serial = line.and_then(renew);
    let files = triton_instance::prepare(&node.layout, node.uuid, serial.as_deref()).map_err(|e| (None, chain(&e)))?;
    for target in &files.left_out {
        note::warn(node.uuid, &format!("the guest goes without its mount at /{target}: something that is no directory is there"));
    }
    steps::reached("monitor.prepared");
    let record = BootRecord { oom_kills: node.oom_kills(&files.cgroup), cgroup: files.cgroup, zonepath: files.zonepath };
    let rest = || {
        node.clear_leaves(&record.cgroup)?;
        node.make_leaf(&record.cgroup)?;
        node.records.begin(&record).map_err(|e| chain(&e))
    };
    match rest() {
        Ok(()) => Ok((record, files.config)),
        // Groups that hold somebody's processes are not to be cleaned away.
        Err(reason) => Err((None, reason)),
    }
}

/// Init runs: everybody may know.
fn announce(node: &Node, init: ProcessRef) -> Result<(), String> {
    let update = node.runs.update(node.uuid, |run| {
        run.phase = RunPhase::Running;
        (run.init, run.supervisor, run.boot_timestamp) = (Some(init), Some(node.own), Some(Timestamp::now()));
        (run.adopted, run.start_error, run.last_exit) = (false, None, None);
    });
    update.map(drop).map_err(|e| format!("the run-state could not be written: {}", chain(&e)))
}

/// The guest rebooted: nothing of the old boot may stay.
pub fn between_boots(node: &Node, record: &BootRecord) -> Result<(), String> {
    let update = node.runs.update(node.uuid, |run| {
        run.phase = RunPhase::Starting;
        run.supervisor = Some(node.own);
        (run.init, run.adopted) = (None, false);
    });
    update.map_err(|e| chain(&e))?;
    steps::reached("monitor.rebooting");
    network::detach(&node.layout, node.uuid).map_err(|e| chain(&e))?;
    node.kill_leaves(&record.cgroup)
}

fn fail(node: &Node, record: Option<&BootRecord>, starter: Option<Starter>, reason: String) -> Result<(), String> {
    ending::record_failure(node, record, &reason);
    if let Some(starter) = starter {
        starter.failed(&reason);
    }
    Err(reason)
}
