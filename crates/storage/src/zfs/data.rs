//! The dataset `<pool>/<uuid>/data` of an instance, which its guest manages itself: makes file systems and snapshots in it, sets
//! properties, mounts (instances.md section 7.6; zfs-zone(8)).
//!
//! The machine never mounts it (`zoned=on`): what a guest wrote is for the guest alone to read.

use std::path::Path;

use triton_files::steps::reached;
use triton_types::InstanceUuid;
use triton_zfs::{CanMount, Compression, DatasetName, FailureKind, Properties};

use super::{ZfsPool, change::RECORD_SIZE, name};
use crate::{DataOptions, StorageError};

/// Name of the dataset below the instance's.
pub(super) const DATA: &str = "data";

fn properties(options: &DataOptions) -> Result<Properties, StorageError> {
    let compression = options.compression.as_deref().map(str::parse::<Compression>).transpose();
    Ok(Properties {
        compression: compression.map_err(|error| StorageError::InvalidProperty(error.to_string()))?,
        recordsize: options.recordsize,
        ..Properties::default()
    })
}

impl ZfsPool {
    pub(super) fn data_of(dataset: &DatasetName) -> Result<DatasetName, StorageError> {
        name(dataset.child(DATA))
    }

    pub(super) fn create_guests_dataset(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        let data = Self::data_of(&self.require_instance(instance)?)?;
        // Those of the root are not inherited: devices of the machine are of no use to a guest, whoever mounts it.
        let own = Properties { zoned: Some(true), canmount: Some(CanMount::On), devices: Some(false), ..properties(options)? };
        match self.zfs.create(&data, &own) {
            Err(error) if error.kind() != FailureKind::Exists => return Err(error.into()),
            _ => reached("storage.data.made"),
        }
        Ok(())
    }

    pub(super) fn set_guests_dataset(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        let wanted = properties(options)?;
        let wanted = Properties {
            compression: wanted.compression.or(Some(Compression::Off)),
            recordsize: wanted.recordsize.or(Some(RECORD_SIZE)),
            ..wanted
        };
        Ok(self.zfs.set(&Self::data_of(&self.require_instance(instance)?)?, &wanted)?)
    }

    pub(super) fn give_guests_dataset(&self, instance: InstanceUuid, namespace: &Path) -> Result<(), StorageError> {
        Ok(self.zfs.zone(&Self::data_of(&self.require_instance(instance)?)?, namespace)?)
    }
}
