//! An instance's files as a stream: for images made from it, and for moving it to another compute node.

use std::{fs::File, io::Write, path::Path};

use triton_types::{IdRange, ImageUuid, InstanceUuid, StorageKind, VolumeUuid};

use crate::{
    CloneOptions, Storage, StorageError,
    layout::{ROOT, VOLUMES},
    tree::{Packed, Packer},
};

/// What goes to another node, beside the configuration: the rest is made anew at each boot.
const PARTS: [&str; 3] = [ROOT, "logs", VOLUMES];

impl Storage {
    /// Writes the guest's root as a tar archive whose names begin with `name`. `ids` is the range that owns the files on
    /// disk, if they are shifted: the archive has the guest's own ids. `beside` are further files of the archive.
    ///
    /// The instance must not run, or the archive is of no one moment.
    ///
    /// # Errors
    /// When something cannot be read, or an owner is outside of the range.
    pub fn pack_root(
        &self,
        instance: InstanceUuid,
        ids: Option<IdRange>,
        name: &str,
        beside: &[(&str, &[u8])],
        out: &mut dyn Write,
    ) -> Result<Packed, StorageError> {
        self.mount_instance(instance)?;
        let mut packer = Packer::new(out);
        for (name, content) in beside {
            packer.file(name, content)?;
        }
        packer.tree(&self.root(instance), name, ids)?;
        Ok(packer.finish()?)
    }

    /// Writes everything that an instance needs on another node as a tar archive: root, logs and private volumes, as `root/`,
    /// `logs/` and `volumes/`; not its configuration and snapshots. `ids` is the instance's range, which owns the volumes, and the
    /// root too if it is `shifted`: the archive has the guest's own ids.
    ///
    /// # Errors
    /// As [`Storage::pack_root`].
    pub fn pack_instance(&self, instance: InstanceUuid, ids: IdRange, shifted: bool, out: &mut dyn Write) -> Result<Packed, StorageError> {
        self.mount_instance(instance)?;
        let zonepath = self.zonepath(instance);
        let mut packer = Packer::new(out);
        for part in PARTS {
            let path = zonepath.join(part);
            let owners = match part {
                ROOT => shifted.then_some(ids),
                // Each volume is the guest's, the directory of them the host's.
                VOLUMES => {
                    volumes(&mut packer, &path, ids)?;
                    continue;
                }
                _ => None,
            };
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                packer.tree(&path, part, owners)?;
            }
        }
        Ok(packer.finish()?)
    }

    /// Writes the instance as a ZFS stream of an image with one snapshot `@final`: whole, or as the difference to the image
    /// that it was made from. Nothing of its configuration, logs and volumes is in it.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; what ZFS says.
    pub fn send_image(&self, instance: InstanceUuid, origin: Option<ImageUuid>, out: &File) -> Result<(), StorageError> {
        self.backend().send_image(instance, origin, out)
    }

    /// Makes the dataset of an instance whose content comes from elsewhere: `fill` gets its directory, which is private and empty but for
    /// the directories of `volumes`, where those are datasets. It becomes the instance's when `fill` is done; if it fails, nothing stays.
    ///
    /// # Errors
    /// When the instance has a dataset, what `fill` says, or space runs out.
    pub fn create_instance(
        &self,
        instance: InstanceUuid,
        options: &CloneOptions,
        volumes: &[VolumeUuid],
        fill: Fill<'_>,
    ) -> Result<(), StorageError> {
        self.backend().create_instance(instance, options, volumes, fill)
    }

    /// Which kind of file an image made on this node is.
    pub fn image_is_stream(&self) -> bool {
        self.kind() == StorageKind::Zfs
    }
}

fn volumes(packer: &mut Packer<'_>, directory: &Path, ids: IdRange) -> Result<(), StorageError> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| crate::TreeError::new("read the directory", directory, error))?,
    };
    for entry in entries {
        let entry = entry.map_err(|error| crate::TreeError::new("read the directory", directory, error))?;
        // Made by the host, with names that are uuids.
        if let Some(name) = entry.file_name().to_str().filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            packer.tree(&entry.path(), &format!("{VOLUMES}/{name}"), Some(ids))?;
        }
    }
    Ok(())
}

/// Fills the directory of a new instance.
pub type Fill<'a> = &'a mut dyn FnMut(&Path) -> Result<(), StorageError>;
