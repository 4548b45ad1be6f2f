//! The verbs for all instances, which the machine's own boot and shutdown call.

use std::time::Duration;

use triton_instance::{AllReport, InstanceError, Instances, chain};
use triton_types::InstanceUuid;

use super::super::{
    Failure,
    args::{BootAll, HaltAll},
    say,
};

pub(super) fn mount_all(instances: &Instances, arguments: &BootAll) -> Result<(), Failure> {
    let report = instances.mount_all(arguments.jobs(), &|uuid, result| {
        if let Err(error) = result {
            say(&format!("Failed to mount VM {uuid}: {}", chain(error)));
        }
    })?;
    sum_up("mounted", &report)
}

pub(super) fn boot_all(instances: &Instances, arguments: &BootAll) -> Result<(), Failure> {
    let report = instances.boot_all(arguments.jobs(), &|uuid, result| tell("started", "start", uuid, result))?;
    sum_up("started", &report)
}

pub(super) fn halt_all(instances: &Instances, arguments: &HaltAll) -> Result<(), Failure> {
    let timeout = Duration::from_secs(arguments.timeout);
    let report = instances.halt_all(usize::from(arguments.jobs), timeout, &|uuid, result| tell("stopped", "stop", uuid, result))?;
    sum_up("stopped", &report)
}

fn tell(done: &str, what: &str, uuid: InstanceUuid, result: Result<(), &InstanceError>) {
    match result {
        Ok(()) => say(&format!("Successfully {done} VM {uuid}")),
        Err(error) => say(&format!("Failed to {what} VM {uuid}: {}", chain(error))),
    }
}

fn sum_up(done: &str, report: &AllReport) -> Result<(), Failure> {
    let text = format!("{} {done}, {} failed", report.done.len(), report.failed.len());
    if report.failed.is_empty() {
        say(&text);
        return Ok(());
    }
    Err(Failure::Failed(text))
}
