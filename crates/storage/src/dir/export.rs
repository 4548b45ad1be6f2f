//! Instances whose content comes from another node.

use std::{fs, io, os::unix::fs::PermissionsExt};

use triton_files::steps::reached;
use triton_types::InstanceUuid;

use super::{
    DirPool,
    dataset::Dataset,
    pool::{CLONING, io_error, rename_new, sync_all, sync_directory},
};
use crate::{
    CloneOptions, StorageError,
    export::Fill,
    layout::{CONFIG, ROOT},
};

impl DirPool {
    /// Durable before it returns: the node that it comes from may destroy its own copy then.
    pub(super) fn create_filled(&self, instance: InstanceUuid, options: &CloneOptions, fill: Fill<'_>) -> Result<(), StorageError> {
        let place = self.places.zonepath(instance);
        let exists = || StorageError::Exists { what: "instance", name: instance.to_string() };
        if place.exists() {
            return Err(exists());
        }
        reached("storage.receive.begun");
        let work = self.begin_work(self.suffixed(instance, CLONING))?;
        let mut make = || -> Result<(), StorageError> {
            fill(&work.path)?;
            reached("storage.receive.filled");
            if !work.path.join(ROOT).is_dir() || !work.path.join(CONFIG).is_dir() {
                return Err(StorageError::NoRoot(instance.to_string()));
            }
            Dataset { quota_bytes: options.quota_bytes(), ..Dataset::new(None) }.place(&work.path)?;
            fs::set_permissions(&work.path, fs::Permissions::from_mode(0o711)).map_err(io_error("set the mode of", &work.path))?;
            sync_all(&work.path)?;
            reached("storage.receive.complete");
            rename_new(&work.path, &place).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => exists(),
                _ => error.into(),
            })?;
            Ok(sync_directory(self.path())?)
        };
        make().inspect_err(|_| drop(self.bury(&work.path)))?;
        reached("storage.receive.done");
        Ok(())
    }
}
