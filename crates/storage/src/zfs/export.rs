//! Streams of instances, and instances of other nodes' content.
//!
//! An image is sent from a clone of the instance, so that metadata and logs can be left out of it: `<uuid>-imgadm-create`,
//! made from the snapshot `@imgadm-create`. Both are destroyed afterwards, by the next call after a kill, or with the instance.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::PermissionsExt},
};

use triton_files::steps::reached;
use triton_types::{ImageUuid, InstanceUuid, VolumeUuid};
use triton_zfs::{DatasetName, SendOptions, SnapshotName};

use super::{FINAL, NOAUTO, ZfsPool, name, patience::patiently, properties};
use crate::{
    CloneOptions, StorageError, TreeError,
    export::Fill,
    layout::{CONFIG, NOT_CLONED, ROOT},
    tree::remove_tree,
};

const EXPORT: &str = "imgadm-create";

impl ZfsPool {
    fn export_of(&self, instance: InstanceUuid) -> Result<(SnapshotName, DatasetName), StorageError> {
        Ok((name(self.dataset(&instance)?.snapshot(EXPORT))?, self.dataset(&format!("{instance}-{EXPORT}"))?))
    }

    /// Destroys what a call that was killed left.
    pub(super) fn discard_export(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        let (snapshot, clone) = self.export_of(instance)?;
        if self.zfs.exists(&clone)? {
            self.destroy(&clone)?;
        }
        if self.zfs.snapshot_exists(&snapshot)? {
            self.zfs.destroy_snapshot(&snapshot)?;
        }
        Ok(())
    }

    pub(super) fn export(&self, instance: InstanceUuid, origin: Option<ImageUuid>, out: &File) -> Result<(), StorageError> {
        self.require_instance(instance)?;
        let from = origin.map(|image| self.require_image(image)).transpose()?;
        self.discard_export(instance)?;
        let (snapshot, clone) = self.export_of(instance)?;
        reached("storage.export.begun");
        let send = || -> Result<(), StorageError> {
            self.zfs.snapshot(&snapshot)?;
            self.zfs.clone_from(&snapshot, &clone, &NOAUTO)?;
            reached("storage.export.cloned");
            self.zfs.mount(&clone)?;
            let path = self.places.pool().join(clone.leaf());
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(|e| TreeError::new("set the mode of", &path, e))?;
            std::os::unix::fs::chown(&path, Some(0), Some(0)).map_err(|e| TreeError::new("set the owner of", &path, e))?;
            for leftover in NOT_CLONED {
                remove_tree(&path.join(leftover))?;
            }
            patiently(|| self.zfs.unmount(&clone))?;
            let last = name(clone.snapshot(FINAL))?;
            self.zfs.snapshot(&last)?;
            reached("storage.export.final");
            Ok(self.zfs.send(&last, from.as_ref(), out.as_fd(), SendOptions::default())?)
        };
        let sent = send();
        reached("storage.export.sent");
        let cleared = self.discard_export(instance);
        sent.and(cleared)
    }

    pub(super) fn create_filled(
        &self,
        instance: InstanceUuid,
        options: &CloneOptions,
        volumes: &[VolumeUuid],
        fill: Fill<'_>,
    ) -> Result<(), StorageError> {
        let dataset = self.dataset(&instance)?;
        if self.zfs.exists(&dataset)? {
            return Err(StorageError::Exists { what: "instance", name: instance.to_string() });
        }
        reached("storage.receive.begun");
        let mut make = || -> Result<(), StorageError> {
            self.zfs.create(&dataset, &properties(options)?)?;
            self.zfs.mount(&dataset)?;
            reached("storage.receive.mounted");
            let path = self.places.zonepath(instance);
            let mode = |mode| {
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(|e| TreeError::new("set the mode of", &path, e))
            };
            mode(0o700)?;
            for volume in volumes {
                self.make_volume_dataset(instance, *volume)?;
            }
            fill(&path)?;
            if !path.join(ROOT).is_dir() || !path.join(CONFIG).is_dir() {
                return Err(StorageError::NoRoot(instance.to_string()));
            }
            mode(0o711)?;
            reached("storage.receive.filled");
            Ok(self.zfs.snapshot(&self.install_of(instance)?)?)
        };
        make().inspect_err(|_| drop(self.destroy(&dataset)))?;
        reached("storage.receive.done");
        Ok(())
    }
}
