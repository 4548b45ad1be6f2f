//! What stays of an instance with `archive_on_delete` (instances.md section 6.7).

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use triton_files::{write_atomic, write_json};
use triton_types::{InstanceUuid, StorageKind};

use crate::{Instances, error::chain_text, to_json};

/// Largest log that is kept, in bytes: consoles are bounded far below it.
const MAX_LOG: u64 = 16 << 20;

impl Instances {
    /// Archives an instance that is about to be destroyed, if it is to be and there is a place for it. Nothing that goes wrong
    /// here keeps it from being deleted. May be repeated.
    pub(crate) fn archive(&self, uuid: InstanceUuid) {
        let wanted = self.machines.read(uuid).is_ok_and(|machine| machine.file.config.archive_on_delete);
        let Some(place) = self.archive_place().filter(|_| wanted) else { return };
        if let Err(error) = self.archive_to(uuid, &place.join(uuid.to_string())) {
            tracing::warn!(vm_uuid = %uuid, error = %chain_text(error.as_ref()), "an instance is deleted without a whole archive");
        }
    }

    /// `/<pool>/archive`, where that is a dataset of its own that is mounted; with storage in directories, a directory.
    fn archive_place(&self) -> Option<PathBuf> {
        let pool = self.layout.at(self.storage.pool());
        let place = pool.join("archive");
        let (above, found) = (fs::metadata(&pool).ok()?, fs::symlink_metadata(&place).ok()?);
        let mounted = self.storage.kind() == StorageKind::Dir || above.dev() != found.dev();
        (found.is_dir() && mounted).then_some(place)
    }

    fn archive_to(&self, uuid: InstanceUuid, place: &Path) -> Result<(), Box<dyn std::error::Error>> {
        DirBuilder::new().recursive(true).mode(0o700).create(place)?;
        write_json(&place.join("vm.json"), &to_json(&self.load(uuid)?), 0o600)?;
        let zonepath = self.storage.zonepath(uuid);
        copy_files(&zonepath.join("config"), &place.join("config"))?;
        copy_files(&zonepath.join("logs"), &place.join("logs"))?;
        Ok(write_atomic(&place.join("zfs.dump"), self.storage.describe(uuid)?.as_bytes(), 0o600)?)
    }
}

/// Copies the regular files of a directory, no links and nothing below it. A directory that is not there is an empty one.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    DirBuilder::new().recursive(true).mode(0o700).create(to)?;
    for entry in entries {
        let entry = entry?;
        if entry.metadata().is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_LOG) {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}
