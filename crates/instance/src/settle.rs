//! Changes of several places: storage, files. What was begun by somebody who was killed is completed or taken back by the
//! next who holds the instance's lock.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use triton_files::{read_json, remove_if_present, steps, write_json};
use triton_types::{InstanceUuid, MachineFile, StorageKind};

use crate::{
    InstanceError, Instances,
    guest_root::{clone_options, data_options},
};

/// `<uuid>.storage` beside the machine file: properties of the dataset are being changed, before the files that say so. Whoever
/// finds it makes the dataset agree with the files again, whichever state they are in.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct StorageIntent {
    format: u32,
    /// The protection against deletion too.
    protection: bool,
}

/// What of the dataset a change concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StorageChange {
    /// Quota, compression, record size, limits.
    pub properties: bool,
    /// The hold that forbids deletion.
    pub protection: bool,
}

impl Instances {
    fn intent_path(&self, uuid: InstanceUuid) -> PathBuf {
        self.machines.side_path(uuid, "storage")
    }

    /// Makes `new` the instance's state in place of `old`: its dataset first, then its files. The caller holds the lock.
    ///
    /// # Errors
    /// When the dataset refuses: nothing was changed then. When a file cannot be written: the state is one of the two.
    pub(crate) fn store(&self, old: &MachineFile, new: &MachineFile, change: StorageChange) -> Result<(), InstanceError> {
        let uuid = new.config.uuid;
        let touches_storage = change != StorageChange::default();
        if touches_storage {
            write_json(&self.intent_path(uuid), &StorageIntent { format: 1, protection: change.protection }, 0o600)?;
            steps::reached("update.intent");
            if let Err(error) = self.agree(new, change) {
                if self.agree(old, change).is_ok() {
                    remove_if_present(&self.intent_path(uuid))?;
                }
                return Err(error);
            }
            steps::reached("update.storage");
        }
        if let Err(error) = self.machines.commit(old, new) {
            if let Err(error) = self.settle(uuid) {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "an update that failed is not settled yet");
            }
            return Err(error);
        }
        if touches_storage {
            remove_if_present(&self.intent_path(uuid))?;
        }
        Ok(())
    }

    /// Makes the dataset what `file` says.
    fn agree(&self, file: &MachineFile, change: StorageChange) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        if change.properties {
            self.storage
                .configure(uuid, &clone_options(&file.config))
                .map_err(InstanceError::step("set the dataset's properties of", uuid))?;
            if file.config.delegate_dataset {
                self.storage
                    .configure_data(uuid, &data_options(&file.config))
                    .map_err(InstanceError::step("set the properties of the delegated dataset of", uuid))?;
            }
        }
        if change.protection {
            let held = file.config.indestructible_zoneroot;
            self.storage.set_indestructible(uuid, held).map_err(InstanceError::step("protect", uuid))?;
        }
        Ok(())
    }

    /// Mounts a dataset that nothing mounted since the machine booted: metadata, tags and routes are in it, and a change must
    /// not take them for empty. What cannot be mounted is for the steps that need it to say.
    fn ensure_mounted(&self, uuid: InstanceUuid) {
        let mountable = self.storage.kind() == StorageKind::Zfs && !self.storage.root(uuid).is_dir();
        if mountable
            && self.storage.instance_exists(uuid).unwrap_or(false)
            && let Err(error) = self.storage.mount_instance(uuid)
        {
            tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "the dataset of the instance is not mounted");
        }
    }

    /// Completes or takes back what a killed change left. The caller holds the lock.
    ///
    /// # Errors
    /// When it cannot be: the instance is then not changed further, but may be deleted.
    pub(crate) fn settle(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        self.ensure_mounted(uuid);
        if self.machines.finish_pending(uuid)? {
            tracing::info!(vm_uuid = %uuid, "an update that was interrupted is complete");
            let _ = self.runs.bump(uuid);
        }
        if let Some(intent) = read_json::<StorageIntent>(&self.intent_path(uuid))? {
            let file = self.machines.read(uuid)?.file;
            self.agree(&file, StorageChange { properties: true, protection: intent.protection })?;
            remove_if_present(&self.intent_path(uuid))?;
        }
        self.finish_reprovision(uuid)
    }
}
