//! Another image for an instance in directories: a new copy beside the old one, exchanged in one step.

use std::{fs, os::unix::fs::PermissionsExt};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use triton_files::steps::reached;
use triton_types::{ImageUuid, InstanceUuid};

use super::{
    DirPool,
    dataset::{Dataset, FILE},
    pool::{REPLACING, io_error, make_directory, sync_all, sync_directory},
};
use crate::{
    CloneOptions, StorageError, TreeError,
    layout::{CONFIG, FINAL, KEPT, NOT_CLONED, ROOT},
    tree::{copy_tree, mount_below},
};

impl DirPool {
    pub(super) fn replace(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError> {
        let place = self.require_instance(instance)?;
        let source = self.require_image(image)?;
        if let Some(mount) = mount_below(&place) {
            return Err(StorageError::InUse {
                what: "instance",
                name: instance.to_string(),
                by: format!("the mount on {}", mount.display()),
            });
        }
        reached("storage.replace.begun");
        let work = self.begin_work(self.suffixed(instance, REPLACING))?;
        let fill = || -> Result<(), StorageError> {
            let excluded: Vec<&str> = NOT_CLONED.into_iter().chain([FINAL, FILE]).collect();
            copy_tree(&source, &work.path, &excluded)?;
            if !work.path.join(ROOT).is_dir() {
                return Err(StorageError::NoRoot(image.to_string()));
            }
            for kept in KEPT {
                let (from, to) = (place.join(kept), work.path.join(kept));
                if from.is_dir() {
                    make_directory(&to, if kept == CONFIG { 0o700 } else { 0o755 })?;
                    copy_tree(&from, &to, &[])?;
                }
            }
            Dataset { quota_bytes: options.quota_bytes(), ..Dataset::new(Some(image)) }.write(&work.path)?;
            fs::set_permissions(&work.path, fs::Permissions::from_mode(0o711)).map_err(io_error("set the mode of", &work.path))?;
            sync_all(&work.path)?;
            reached("storage.replace.copied");
            renameat2(AT_FDCWD, &work.path, AT_FDCWD, &place, RenameFlags::RENAME_EXCHANGE)
                .map_err(|e| TreeError::new("exchange with its new root", &place, e))?;
            Ok(sync_directory(self.path())?)
        };
        // Before the exchange the work is the new root, after it the old one: to be removed either way.
        let filled = fill();
        let buried = self.bury(&work.path);
        filled?;
        reached("storage.replace.exchanged");
        buried?;
        // They are states of the root that went.
        self.bury(&self.snapshots_of(instance))?;
        reached("storage.replace.done");
        Ok(())
    }
}
