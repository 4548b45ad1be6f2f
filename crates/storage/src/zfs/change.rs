//! Changes of an instance's dataset after its creation: properties, another image.
//!
//! A replacement is resumed by the names that are there: `<uuid>-reprovisioning` is the new root until it has its place,
//! `<uuid>-reprovisioning-root` is the old one from the moment when it left its place until it is destroyed.

use std::{fs, os::unix::fs::DirBuilderExt};

use triton_files::steps::reached;
use triton_types::{ImageUuid, InstanceUuid};
use triton_zfs::{DatasetName, Properties};

use super::{ZfsPool, patience::patiently, properties};
use crate::{
    CloneOptions, StorageError, TreeError,
    layout::{CONFIG, KEPT},
    tree::{copy_tree, mount_below},
};

/// Record size of ZFS and of Triton when none is given, in bytes.
pub(super) const RECORD_SIZE: u64 = 131_072;

impl ZfsPool {
    pub(super) fn set_all(&self, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        let compression = options.compression.clone().or_else(|| Some("off".to_owned()));
        let wanted = properties(&CloneOptions { compression, ..options.clone() })?;
        let wanted = Properties {
            quota: Some(wanted.quota.unwrap_or(0)),
            recordsize: Some(wanted.recordsize.unwrap_or(RECORD_SIZE)),
            filesystem_limit: Some(wanted.filesystem_limit.unwrap_or(u64::MAX)),
            snapshot_limit: Some(wanted.snapshot_limit.unwrap_or(u64::MAX)),
            // Not a matter of the configuration, and setting it would have ZFS look at mounts.
            canmount: None,
            ..wanted
        };
        Ok(self.zfs.set(&self.require_instance(instance)?, &wanted)?)
    }

    fn replacing(&self, instance: InstanceUuid) -> Result<(DatasetName, DatasetName), StorageError> {
        Ok((self.dataset(&format!("{instance}-reprovisioning"))?, self.dataset(&format!("{instance}-reprovisioning-root"))?))
    }

    /// Destroys what a replacement that was killed left beside the instance.
    pub(super) fn discard_replacing(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        let (new, old) = self.replacing(instance)?;
        for dataset in [new, old] {
            if self.zfs.exists(&dataset)? {
                self.destroy(&dataset)?;
            }
        }
        Ok(())
    }

    pub(super) fn replace(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError> {
        let place = self.dataset(&instance)?;
        let (new, old) = self.replacing(instance)?;
        if !self.zfs.exists(&old)? {
            // They go with the instance, whose dataset could not be moved under what is mounted in it.
            self.unmount_all(&self.volumes_below(&place)?)?;
            self.fill_new_root(instance, image, &new, options).inspect_err(|_| drop(self.destroy(&new)))?;
            reached("storage.replace.copied");
            if let Some(mount) = mount_below(&self.places.zonepath(instance)).filter(|mount| *mount != self.places.zonepath(instance)) {
                self.destroy(&new)?;
                return Err(StorageError::InUse {
                    what: "instance",
                    name: instance.to_string(),
                    by: format!("the mount on {}", mount.display()),
                });
            }
            patiently(|| self.zfs.unmount(&place))?;
            self.zfs.rename(&place, &old)?;
            reached("storage.replace.moved");
        }
        if !self.zfs.exists(&place)? {
            self.zfs.rename(&new, &place)?;
            reached("storage.replace.exchanged");
        }
        let install = self.install_of(instance)?;
        if !self.zfs.snapshot_exists(&install)? {
            self.zfs.snapshot(&install)?;
        }
        if self.zfs.exists(&Self::data_of(&old)?)? {
            self.zfs.rename(&Self::data_of(&old)?, &Self::data_of(&place)?)?;
            reached("storage.replace.data-moved");
        }
        self.move_volumes(&old, &place)?;
        self.zfs.mount(&place)?;
        self.mount_all(&self.volumes_below(&place)?)?;
        self.destroy(&old)?;
        reached("storage.replace.done");
        Ok(())
    }

    /// Clones the image to `new` and copies what the instance keeps.
    fn fill_new_root(
        &self,
        instance: InstanceUuid,
        image: ImageUuid,
        new: &DatasetName,
        options: &CloneOptions,
    ) -> Result<(), StorageError> {
        let origin = self.require_image(image)?;
        let place = self.require_instance(instance)?;
        self.zfs.mount(&place)?;
        self.destroy(new)?;
        reached("storage.replace.begun");
        self.zfs.clone_from(&origin, new, &properties(options)?)?;
        reached("storage.replace.cloned");
        self.zfs.mount(new)?;
        let path = self.places.pool().join(new.leaf());
        self.prepare_zonepath(&path)?;
        for kept in KEPT {
            let (from, to) = (self.places.zonepath(instance).join(kept), path.join(kept));
            if !from.is_dir() {
                continue;
            }
            if kept != CONFIG {
                fs::DirBuilder::new().mode(0o755).create(&to).map_err(|e| TreeError::new("create the directory", &to, e))?;
            }
            copy_tree(&from, &to, &[])?;
        }
        Ok(patiently(|| self.zfs.unmount(new))?)
    }
}
