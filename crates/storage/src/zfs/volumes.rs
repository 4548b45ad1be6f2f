//! Private volumes of an instance (instances.md section 2.5): each is a dataset `<pool>/<uuid>/volumes/<volume>`, mounted on the
//! directory of the same name. They count against the instance's quota, which holds for everything below its dataset.
//!
//! A volume that was made as a directory stays one. What is done with the instance's dataset (snapshots, another image) is done with
//! its volumes too; whoever mounts the instance mounts them.

use std::{fs, io, os::unix::fs::MetadataExt, path::PathBuf};

use triton_files::steps::reached;
use triton_types::{InstanceUuid, VolumeUuid};
use triton_zfs::{CanMount, DatasetName, FailureKind, Properties, SnapshotName};

use super::{NOAUTO, ZfsPool, name, patience::patiently};
use crate::{StorageError, TreeError, layout::VOLUMES};

impl ZfsPool {
    fn volumes_of(dataset: &DatasetName) -> Result<DatasetName, StorageError> {
        name(dataset.child(VOLUMES))
    }

    fn volume_path(&self, instance: InstanceUuid, volume: VolumeUuid) -> PathBuf {
        self.places.zonepath(instance).join(VOLUMES).join(volume.to_string())
    }

    /// The datasets of the volumes below `dataset`, which is an instance's, wherever it is.
    pub(super) fn volumes_below(&self, dataset: &DatasetName) -> Result<Vec<DatasetName>, StorageError> {
        let top = Self::volumes_of(dataset)?;
        if !self.zfs.exists(&top)? {
            return Ok(Vec::new());
        }
        Ok(self.zfs.list(&top, 1)?.into_iter().map(|dataset| dataset.name).filter(|name| *name != top).collect())
    }

    pub(super) fn make_volume_dataset(&self, instance: InstanceUuid, volume: VolumeUuid) -> Result<PathBuf, StorageError> {
        let dataset = self.require_instance(instance)?;
        self.zfs.mount(&dataset)?;
        let path = self.volume_path(instance, volume);
        let top = Self::volumes_of(&dataset)?;
        let own = name(top.child(&volume.to_string()))?;
        let exists = self.zfs.exists(&own)?;
        if !exists && path.is_dir() {
            return Ok(path);
        }
        let made = |result: Result<(), triton_zfs::ZfsError>| match result {
            Err(error) if error.kind() != FailureKind::Exists => Err(error),
            _ => Ok(()),
        };
        if !exists {
            made(self.zfs.create(&top, &Properties { canmount: Some(CanMount::Off), ..NOAUTO }))?;
            reached("storage.volume.parent-made");
            made(self.zfs.create(&own, &Properties { devices: Some(false), ..NOAUTO }))?;
            reached("storage.volume.made");
        }
        self.zfs.mount(&own)?;
        Ok(path)
    }

    /// Mounts the volumes that are not. Those that are cost a look at their directory each, and an instance without volumes nothing.
    pub(super) fn mount_volumes(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        let directory = self.places.zonepath(instance).join(VOLUMES);
        let unreadable = |e: io::Error| TreeError::new("read the directory", &directory, e);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(unreadable)?,
        };
        let device = fs::symlink_metadata(&directory).map_err(unreadable)?.dev();
        let top = Self::volumes_of(&self.dataset(&instance)?)?;
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let Some(volume) = entry.file_name().to_str().and_then(|name| name.parse::<VolumeUuid>().ok()) else { continue };
            if entry.metadata().map_err(unreadable)?.dev() != device {
                continue;
            }
            let own = name(top.child(&volume.to_string()))?;
            if self.zfs.exists(&own)? {
                self.zfs.mount(&own)?;
            }
        }
        Ok(())
    }

    /// Mounts all of them, also where the directory to mount on is gone.
    pub(super) fn mount_all(&self, volumes: &[DatasetName]) -> Result<(), StorageError> {
        volumes.iter().try_for_each(|volume| Ok(self.zfs.mount(volume)?))
    }

    pub(super) fn unmount_all(&self, volumes: &[DatasetName]) -> Result<(), StorageError> {
        volumes.iter().try_for_each(|volume| Ok(patiently(|| self.zfs.unmount(volume))?))
    }

    /// Takes the volumes of `from` to `to`, two datasets of the same instance. They are not mounted.
    pub(super) fn move_volumes(&self, from: &DatasetName, to: &DatasetName) -> Result<(), StorageError> {
        let (from, to) = (Self::volumes_of(from)?, Self::volumes_of(to)?);
        if self.zfs.exists(&from)? {
            self.zfs.rename(&from, &to)?;
            reached("storage.replace.volumes-moved");
        }
        Ok(())
    }

    /// The snapshots of this name that the volumes have.
    pub(super) fn snapshots_of_volumes(&self, dataset: &DatasetName, stored: &str) -> Result<Vec<SnapshotName>, StorageError> {
        let mut found = Vec::new();
        for volume in self.volumes_below(dataset)? {
            let snapshot = name(volume.snapshot(stored))?;
            if self.zfs.snapshot_exists(&snapshot)? {
                found.push(snapshot);
            }
        }
        Ok(found)
    }
}
