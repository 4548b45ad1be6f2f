//! The guard of an instance's NICs: in force before a link is up, gone after it is gone, changed while it runs
//! (net-agent.md section 15).

use triton_files::Layout;
use triton_guard::{Guard, GuardError, Protection, links_here};
use triton_types::{RunPhase, VmConfig};

use crate::{Machines, RunStates, names::host_link};

/// What the NICs of `config` may send.
pub fn protections(config: &VmConfig) -> Vec<Protection> {
    config.nics.iter().map(|nic| Protection::of(nic, host_link(config.uuid, &nic.interface))).collect()
}

/// What the NICs of all instances that run, start or stop may send.
///
/// # Errors
/// When the store of instances is not there. An instance whose machine file cannot be used is left out, and said: its links then send
/// nothing, rather than anything.
pub fn all_protections(layout: &Layout) -> Result<Vec<Protection>, String> {
    let (machines, runs) = (Machines::new(layout), RunStates::new(layout));
    let mut all = Vec::new();
    for uuid in machines.uuids().map_err(|error| crate::error::chain_text(&error))? {
        let stopped = matches!(runs.find(uuid), Ok(Some(run)) if run.phase == RunPhase::Stopped);
        if stopped {
            continue;
        }
        match machines.read_alone(uuid) {
            Ok(file) => all.extend(protections(&file.config)),
            Err(error) => {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "its NICs are not guarded: they send nothing");
            }
        }
    }
    Ok(all)
}

/// What the NICs that have a link, or are about to get one, may send. False if some machine file could not be used.
///
/// # Errors
/// As [`all_protections`].
fn present_protections(layout: &Layout) -> Result<(Vec<Protection>, bool), String> {
    let (machines, runs) = (Machines::new(layout), RunStates::new(layout));
    let (mut all, mut complete) = (Vec::new(), true);
    for uuid in machines.uuids().map_err(|error| crate::error::chain_text(&error))? {
        let starting = matches!(runs.find(uuid), Ok(Some(run)) if run.phase == RunPhase::Starting);
        match machines.read_alone(uuid) {
            Ok(file) => all.extend(protections(&file.config).into_iter().map(|protection| (starting, protection))),
            Err(error) => {
                complete = false;
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "its NICs are not guarded: they send nothing");
            }
        }
    }
    // After the files: an instance that was stopped when it was read and has a link by now is among them.
    let here = links_here().map_err(|error| crate::error::chain_text(&error))?;
    let all = all.into_iter().filter(|(starting, protection)| *starting || here.contains(&protection.link));
    let all = all.map(|(_, protection)| protection).collect();
    Ok((all, complete))
}

/// Makes the guard anew if somebody emptied it, for all NICs that have a link in this network namespace or are about to get one. Their
/// number; none if there was nothing to do.
///
/// # Errors
/// When the store of instances is not there, or the kernel does not take it.
pub fn repair(layout: &Layout) -> Result<Option<usize>, GuardError> {
    Guard::open(layout)?.repair(|| Ok(present_protections(layout)?.0))
}

/// Puts right what somebody changed in the guard's sets by hand, for the same NICs. The links that it concerned.
///
/// # Errors
/// As [`repair`].
pub fn compare(layout: &Layout) -> Result<Vec<String>, GuardError> {
    Guard::open(layout)?.compare(|| present_protections(layout))
}

/// Guards the NICs of `config` as it is now, in one transaction. The instance's links need not be there yet.
///
/// # Errors
/// When the kernel does not take it: no link may then go up.
pub fn protect(layout: &Layout, config: &VmConfig) -> Result<(), GuardError> {
    let these = protections(config);
    if these.is_empty() {
        return Ok(());
    }
    Guard::open(layout)?.protect(&these, || all_protections(layout))
}

/// Forgets links that are gone. What stays behind by a failure concerns links that nobody has, and is gone with the next restoration.
pub(crate) fn forget(layout: &Layout, links: &[String]) {
    if let Err(error) = Guard::open(layout).and_then(|mut guard| guard.forget(links)) {
        tracing::warn!(error = %crate::error::chain_text(&error), "the guard of links that are gone could not be removed");
    }
}
