//! The verbs that change what an instance is: update, reprovision, snapshots.

use triton_instance::{Instances, RollbackOptions, chain};

use super::super::{
    Failure,
    args::{Reprovision, SnapshotTarget, Update},
    input, say,
};

pub(super) fn update(instances: &Instances, arguments: &Update) -> Result<(), Failure> {
    let uuid = arguments.uuid;
    let payload = match arguments.properties.as_slice() {
        [] => input::payload(&arguments.input, "update")?,
        words => input::words(words)?,
    };
    let outcome = instances.update(uuid, payload)?;
    for warning in &outcome.warnings {
        say(&format!("Warning: {warning}"));
    }
    if !outcome.next_boot.is_empty() {
        say(&format!("Takes effect at the next boot of VM {uuid}: {}", outcome.next_boot.join(", ")));
    }
    say(&format!("Successfully updated VM {uuid}"));
    Ok(())
}

pub(super) fn reprovision(instances: &Instances, arguments: &Reprovision) -> Result<(), Failure> {
    let uuid = arguments.uuid;
    let payload = input::payload(&arguments.input, "reprovision")?;
    instances
        .reprovision(uuid, &payload)
        .map_err(|error| Failure::Failed(format!("Failed to reprovision VM {uuid}: {}", chain(&error))))?;
    say(&format!("Successfully reprovisioned VM {uuid}"));
    Ok(())
}

pub(super) fn create_snapshot(instances: &Instances, target: &SnapshotTarget) -> Result<(), Failure> {
    instances.create_snapshot(target.uuid, &target.name)?;
    say(&format!("Created snapshot {} for VM {}", target.name, target.uuid));
    Ok(())
}

pub(super) fn rollback_snapshot(instances: &Instances, target: &SnapshotTarget) -> Result<(), Failure> {
    instances.rollback_snapshot(target.uuid, &target.name, RollbackOptions::default())?;
    say(&format!("Rolled back snapshot {} for VM {}", target.name, target.uuid));
    Ok(())
}

pub(super) fn delete_snapshot(instances: &Instances, target: &SnapshotTarget) -> Result<(), Failure> {
    instances.delete_snapshot(target.uuid, &target.name)?;
    say(&format!("Deleted snapshot {} for VM {}", target.name, target.uuid));
    Ok(())
}
