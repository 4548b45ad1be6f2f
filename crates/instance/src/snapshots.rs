//! Snapshots of an instance: its root, its metadata, tags and routes (instances.md section 6.5).

use triton_files::steps;
use triton_storage::{SnapshotLabel, StorageError};
use triton_types::{InstanceUuid, Lifecycle};

use crate::{InstanceError, Instances, StopOptions, instances::PATIENCE, machines::Machine};

/// How to roll back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollbackOptions {
    /// Leave the instance stopped afterwards.
    pub do_not_start: bool,
}

impl Instances {
    /// Makes a snapshot of the instance, running or not.
    ///
    /// # Errors
    /// [`InstanceError::InvalidSnapshotName`], [`InstanceError::SnapshotExists`], [`InstanceError::HasDatasets`],
    /// [`InstanceError::WrongState`], or why storage could not; nothing stays then.
    pub fn create_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), InstanceError> {
        let label = label(name)?;
        let _lock = self.lock(uuid, "create-snapshot", PATIENCE)?;
        let machine = self.snapshotable(uuid, "snapshot")?;
        let existing = self.storage.snapshots(uuid).map_err(InstanceError::step("list the snapshots of", uuid))?;
        if existing.iter().any(|snapshot| snapshot.name == label) {
            return Err(InstanceError::SnapshotExists { name: name.to_owned() });
        }
        if machine.file.config.zfs_snapshot_limit.is_some_and(|limit| existing.len() as u64 >= limit) {
            return Err(InstanceError::SnapshotLimit { uuid });
        }
        steps::reached("create-snapshot.checked");
        self.storage.snapshot(uuid, &label).map_err(|error| match error {
            StorageError::Exists { .. } => InstanceError::SnapshotExists { name: name.to_owned() },
            other => InstanceError::step("make a snapshot of", uuid)(other),
        })?;
        steps::reached("create-snapshot.made");
        self.changed(uuid)
    }

    /// Destroys a snapshot.
    ///
    /// # Errors
    /// [`InstanceError::NoSnapshot`], [`InstanceError::InvalidSnapshotName`], or why storage could not.
    pub fn delete_snapshot(&self, uuid: InstanceUuid, name: &str) -> Result<(), InstanceError> {
        let label = label(name)?;
        let _lock = self.lock(uuid, "delete-snapshot", PATIENCE)?;
        self.machines.read(uuid)?;
        steps::reached("delete-snapshot.checked");
        self.storage.delete_snapshot(uuid, &label).map_err(|error| match error {
            StorageError::NotFound { what: "snapshot", .. } => InstanceError::NoSnapshot { uuid, name: name.to_owned() },
            other => InstanceError::step("delete a snapshot of", uuid)(other),
        })?;
        steps::reached("delete-snapshot.deleted");
        self.changed(uuid)
    }

    /// Puts the instance back to a snapshot: its files, metadata, tags and routes. Newer snapshots are destroyed. A running guest
    /// is ended at once, without touching `autoboot` (ruling 40); afterwards the instance is started, whatever it did before,
    /// unless `options` say otherwise.
    ///
    /// # Errors
    /// [`InstanceError::NoSnapshot`] with nothing changed; why storage could not; why the instance did not start.
    pub fn rollback_snapshot(&self, uuid: InstanceUuid, name: &str, options: RollbackOptions) -> Result<(), InstanceError> {
        let label = label(name)?;
        let _lock = self.lock(uuid, "rollback-snapshot", PATIENCE)?;
        self.heal(uuid)?;
        let before = self.snapshotable(uuid, "roll back")?;
        let existing = self.storage.snapshots(uuid).map_err(InstanceError::step("list the snapshots of", uuid))?;
        if !existing.iter().any(|snapshot| snapshot.name == label) {
            return Err(InstanceError::NoSnapshot { uuid, name: name.to_owned() });
        }
        steps::reached("rollback-snapshot.checked");
        self.halt(uuid, StopOptions { force: true, timeout: None })?;
        steps::reached("rollback-snapshot.halted");
        self.storage.rollback(uuid, &label).map_err(InstanceError::step("roll back", uuid))?;
        steps::reached("rollback-snapshot.rolled-back");
        self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
        self.close_zonepath(&before.file)?;
        // The files went back in time, the time of the last change does not.
        self.machines.touch_after(uuid, before.modified)?;
        steps::reached("rollback-snapshot.touched");
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))?;
        if options.do_not_start {
            return Ok(());
        }
        self.boot(&self.machines.read(uuid)?)
    }

    /// An instance whose dataset can be snapshotted and rolled back.
    fn snapshotable(&self, uuid: InstanceUuid, verb: &str) -> Result<Machine, InstanceError> {
        let machine = self.machines.read(uuid)?;
        if machine.file.lifecycle != Lifecycle::Installed {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(format!("Cannot {verb} vm in state \"{state}\".")));
        }
        if machine.file.config.delegate_dataset {
            return Err(InstanceError::HasDatasets);
        }
        Ok(machine)
    }

    /// Makes a change that is in no file of the instance seen: `last_modified` and the generation.
    fn changed(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        self.machines.touch(uuid)?;
        steps::reached("snapshot.touched");
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))
    }
}

fn label(name: &str) -> Result<SnapshotLabel, InstanceError> {
    name.parse().map_err(|_| InstanceError::InvalidSnapshotName)
}
