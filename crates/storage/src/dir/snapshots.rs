//! Snapshots in directories: full copies.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use triton_files::{read_json, steps::reached, write_json};
use triton_types::{InstanceUuid, Timestamp};

use super::{
    DirPool,
    dataset::{Dataset, FILE},
    pool::{ROLLBACK, io_error, make_directory, rename_new, sync_all, sync_directory},
};
use crate::{
    SnapshotInfo, SnapshotLabel, StorageError, TreeError,
    model::SNAPSHOT_PREFIX,
    tree::{copy_tree, measure, mount_below},
};

const SNAPSHOTS: &str = ".snapshots";
const DATA: &str = "data";
const INFO: &str = "snapshot.json";
/// Before the names of snapshots that are not complete.
const UNFINISHED: &str = ".unfinished-";

fn missing(instance: InstanceUuid, name: &SnapshotLabel) -> StorageError {
    StorageError::NotFound { what: "snapshot", name: format!("{name} of instance {instance}") }
}

impl DirPool {
    pub(super) fn snapshots_of(&self, instance: InstanceUuid) -> PathBuf {
        self.path().join(SNAPSHOTS).join(instance.to_string())
    }

    fn snapshot_path(&self, instance: InstanceUuid, name: &SnapshotLabel) -> PathBuf {
        self.snapshots_of(instance).join(name.stored())
    }

    /// Copies that a killed call left, or a living one is making.
    pub(super) fn unfinished_snapshots(&self) -> Result<Vec<(String, PathBuf)>, StorageError> {
        let mut found = Vec::new();
        for instance in directories(&self.path().join(SNAPSHOTS))? {
            for path in directories(&instance)? {
                let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
                if name.starts_with(UNFINISHED) {
                    found.push((name, path));
                }
            }
        }
        Ok(found)
    }

    pub(super) fn make_snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        let source = self.require_instance(instance)?;
        let place = self.snapshot_path(instance, name);
        let exists = || StorageError::Exists { what: "snapshot", name: name.to_string() };
        if place.exists() {
            return Err(exists());
        }
        for directory in [self.path().join(SNAPSHOTS), self.snapshots_of(instance)] {
            match make_directory(&directory, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other?,
            }
        }
        reached("storage.snapshot.begun");
        let work = self.begin_work(self.snapshots_of(instance).join(format!("{UNFINISHED}{name}")))?;
        let fill = || -> Result<(), StorageError> {
            let data = work.path.join(DATA);
            make_directory(&data, 0o700)?;
            copy_tree(&source, &data, &[FILE])?;
            reached("storage.snapshot.copied");
            let info = SnapshotInfo { name: name.clone(), created_at: Timestamp::now(), size_bytes: measure(&data)? };
            write_json(&work.path.join(INFO), &info, 0o600)?;
            sync_all(&work.path)?;
            reached("storage.snapshot.complete");
            rename_new(&work.path, &place).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => exists(),
                _ => error.into(),
            })?;
            Ok(sync_directory(&self.snapshots_of(instance))?)
        };
        fill().inspect_err(|_| drop(self.bury(&work.path)))?;
        reached("storage.snapshot.done");
        Ok(())
    }

    pub(super) fn list_snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        self.require_instance(instance)?;
        self.snapshots_there(instance)
    }

    pub(super) fn list_all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError> {
        let mut all = BTreeMap::new();
        for folder in directories(&self.path().join(SNAPSHOTS))? {
            let Some(instance) = folder.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            let found = self.snapshots_there(instance)?;
            if !found.is_empty() {
                all.insert(instance, found);
            }
        }
        Ok(all)
    }

    fn snapshots_there(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        let mut found = Vec::new();
        for path in directories(&self.snapshots_of(instance))? {
            if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SNAPSHOT_PREFIX)) {
                continue;
            }
            if let Some(info) = read_json::<SnapshotInfo>(&path.join(INFO))? {
                found.push(info);
            }
        }
        found.sort_by(|a, b| b.created_at.cmp(&a.created_at).then_with(|| b.name.cmp(&a.name)));
        Ok(found)
    }

    pub(super) fn remove_snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.require_instance(instance)?;
        if self.bury(&self.snapshot_path(instance, name))? { Ok(()) } else { Err(missing(instance, name)) }
    }

    pub(super) fn roll_back(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        let place = self.require_instance(instance)?;
        let all = self.list_snapshots(instance)?;
        let at = all.iter().position(|info| &info.name == name).ok_or_else(|| missing(instance, name))?;
        if let Some(mount) = mount_below(&place) {
            return Err(StorageError::InUse {
                what: "instance",
                name: instance.to_string(),
                by: format!("the mount on {}", mount.display()),
            });
        }
        reached("storage.rollback.begun");
        let work = self.begin_work(self.suffixed(instance, ROLLBACK))?;
        let fill = || -> Result<(), StorageError> {
            copy_tree(&self.snapshot_path(instance, name).join(DATA), &work.path, &[])?;
            // Quota and hold are the dataset's, not the snapshot's.
            Dataset::read(&place)?.write(&work.path)?;
            fs::set_permissions(&work.path, fs::Permissions::from_mode(0o711)).map_err(io_error("set the mode of", &work.path))?;
            sync_all(&work.path)?;
            reached("storage.rollback.copied");
            renameat2(AT_FDCWD, &work.path, AT_FDCWD, &place, RenameFlags::RENAME_EXCHANGE)
                .map_err(|e| TreeError::new("exchange with its snapshot", &place, e))?;
            Ok(sync_directory(self.path())?)
        };
        // Before the exchange the work is the copy, after it the old state: to be removed either way.
        let filled = fill();
        let buried = self.bury(&work.path);
        filled?;
        reached("storage.rollback.exchanged");
        buried?;
        for newer in &all[..at] {
            self.bury(&self.snapshot_path(instance, &newer.name))?;
        }
        reached("storage.rollback.done");
        Ok(())
    }
}

/// Paths of what is in `directory`; nothing when it does not exist.
fn directories(directory: &Path) -> Result<Vec<PathBuf>, TreeError> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path()).map_err(io_error("read the directory", directory))).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("read the directory", directory)(error)),
    }
}
