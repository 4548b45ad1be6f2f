//! Deletion: the exact reverse of creation, resumable at any point (instances.md section 6.3).

use std::io::ErrorKind;

use triton_files::{FileError, Lock, steps};
use triton_types::{InstanceUuid, Lifecycle, MachineFile};

use crate::{InstanceError, Instances, StopOptions, instances::PATIENCE};

impl Instances {
    /// Stops and removes an instance, whatever state it is in. The machine file goes last, so that a deletion which was
    /// interrupted is seen and resumed.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`], [`InstanceError::Protected`]; a step that failed is named, and deletion can be tried again.
    pub fn delete(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let lock = self.lock(uuid, "delete", PATIENCE)?;
        let mut file = self.machines.read(uuid)?.file;
        self.check_protection(&file)?;
        steps::reached("delete.checked");
        if file.lifecycle != Lifecycle::Deleting || file.config.autoboot {
            file.lifecycle = Lifecycle::Deleting;
            file.config.autoboot = false;
            match self.machines.write(&file) {
                // Deletion is what frees space: without the mark it is as good, only not resumed by itself when interrupted.
                Err(error) if is_full(&error) => tracing::warn!(vm_uuid = %uuid, %error, "deleting without having marked it"),
                other => other?,
            }
            self.runs.bump(uuid).map_err(InstanceError::step("announce the deletion of", uuid))?;
        }
        steps::reached("delete.marked");
        self.finish_deletion(uuid, lock)
    }

    /// Refuses to delete what is protected. A creation that failed protects nothing: it must be deletable (section 5.3).
    fn check_protection(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        if file.lifecycle != Lifecycle::Installed {
            // It has a hold if it was to be protected; there may be no storage to hold any more.
            let _ = self.storage.set_indestructible(uuid, false);
            return Ok(());
        }
        // The hold counts, whoever put it there (section 6.6); storage that is gone protects nothing.
        if self.storage.indestructible(uuid).unwrap_or(false) {
            return Err(InstanceError::Protected("indestructible_zoneroot is set, cannot delete".to_owned()));
        }
        self.check_volumes(uuid)?;
        if file.config.indestructible_delegated {
            return Err(InstanceError::Protected("indestructible_delegated is set, cannot delete".to_owned()));
        }
        Ok(())
    }

    /// Refuses to delete private volumes that other instances use (instances.md section 2.5).
    fn check_volumes(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let prefix = format!("/{}/{uuid}/volumes/", self.storage.pool());
        let uses = |other: &InstanceUuid| {
            *other != uuid
                && self
                    .machines
                    .read_alone(*other)
                    .is_ok_and(|file| file.config.filesystems.iter().any(|filesystem| filesystem.source.starts_with(&prefix)))
        };
        // A dataset that is not mounted shows none, and is then judged by what the instance itself uses.
        let own = self.machines.read_alone(uuid).is_ok_and(|file| !self.volumes_of(&file.config).is_empty());
        if !own && !self.storage.zonepath(uuid).join("volumes").is_dir() {
            return Ok(());
        }
        let sharers: Vec<InstanceUuid> = self.machines.uuids()?.into_iter().filter(uses).collect();
        if sharers.is_empty() {
            return Ok(());
        }
        let names = serde_json::to_string(&sharers).unwrap_or_default();
        Err(InstanceError::Protected(format!("Unable to delete VM {uuid} the following VMs are sharing its volumes: {names}")))
    }

    /// The part of a deletion that follows the mark. Every step tolerates that it was done before.
    pub(crate) fn finish_deletion(&self, uuid: InstanceUuid, lock: Lock) -> Result<(), InstanceError> {
        self.heal(uuid)?;
        self.halt(uuid, StopOptions { force: true, timeout: None })?;
        steps::reached("delete.stopped");
        self.archive(uuid);
        steps::reached("delete.archived");
        self.storage.destroy_instance(uuid).map_err(InstanceError::step("destroy the storage of", uuid))?;
        steps::reached("delete.destroyed");
        let runtime = self.layout.runtime(uuid);
        match std::fs::remove_dir_all(&runtime) {
            Err(e) if e.kind() != ErrorKind::NotFound => {
                return Err(FileError::new("remove", runtime, e).into());
            }
            _ => {}
        }
        steps::reached("delete.runtime");
        crate::zonecontrol::remove(&self.layout, uuid)?;
        steps::reached("delete.zonecontrol");
        self.runs.remove(uuid).map_err(InstanceError::step("forget the run-state of", uuid))?;
        steps::reached("delete.run-state");
        // One that is hidden from the headnode went from here by a migration: it is not gone.
        if self.machines.read_alone(uuid).is_ok_and(|file| !file.config.do_not_inventory) {
            crate::gone::remember(&self.layout, uuid);
        }
        self.machines.remove(uuid)?;
        steps::reached("delete.forgotten");
        // The metadata service may have made it anew for the instance that was there until now.
        if let Err(error) = crate::zonecontrol::remove(&self.layout, uuid) {
            tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "the directory of a deleted instance's socket stays");
        }
        crate::firewall::follow_quietly(&self.layout, uuid, false);
        lock.remove();
        Ok(())
    }
}

fn is_full(error: &FileError) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
