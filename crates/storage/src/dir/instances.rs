//! Instances in directories: copies of images.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::sys::statvfs::fstatvfs;
use triton_files::steps::reached;
use triton_types::{ImageUuid, InstanceUuid};

use super::{
    DirPool,
    dataset::{Dataset, FILE},
    pool::{CLONING, REPLACING, ROLLBACK, io_error, is_image, make_directory, rename_new},
};
use crate::{
    CloneOptions, PoolStatus, StorageError, Usage,
    layout::{CONFIG, FINAL, NOT_CLONED, ROOT},
    model::quota_bytes,
    tree::{copy_tree, measure, mount_below},
};

/// How long a count of an instance's bytes is good enough for the list of all.
const FRESH: Duration = Duration::from_secs(60);

impl DirPool {
    pub(super) fn require_instance(&self, instance: InstanceUuid) -> Result<PathBuf, StorageError> {
        self.check_marker()?;
        let path = self.places.zonepath(instance);
        if path.is_dir() && !is_image(&path) {
            Ok(path)
        } else {
            Err(StorageError::NotFound { what: "instance", name: instance.to_string() })
        }
    }

    pub(super) fn suffixed(&self, instance: InstanceUuid, suffix: &str) -> PathBuf {
        self.path().join(format!("{instance}{suffix}"))
    }

    pub(super) fn list_instances(&self) -> Result<Vec<InstanceUuid>, StorageError> {
        let mut found = self.entries(|name, path| name.parse::<InstanceUuid>().ok().filter(|_| path.is_dir() && !is_image(path)))?;
        found.sort();
        Ok(found)
    }

    pub(super) fn clone_to(&self, image: ImageUuid, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        let source = self.require_image(image)?;
        let place = self.places.zonepath(instance);
        let exists = || StorageError::Exists { what: "instance", name: instance.to_string() };
        if place.exists() {
            return Err(exists());
        }
        reached("storage.clone.begun");
        let work = self.begin_work(self.suffixed(instance, CLONING))?;
        let fill = || -> Result<(), StorageError> {
            let excluded: Vec<&str> = NOT_CLONED.into_iter().chain([FINAL, FILE]).collect();
            let copied = copy_tree(&source, &work.path, &excluded)?;
            tracing::debug!(%image, %instance, files = copied.files, reflinked = copied.reflinked, "image copied");
            reached("storage.clone.copied");
            if !work.path.join(ROOT).is_dir() {
                return Err(StorageError::NoRoot(image.to_string()));
            }
            make_directory(&work.path.join(CONFIG), 0o700)?;
            Dataset { quota_bytes: options.quota_bytes(), ..Dataset::new(Some(image)) }.place(&work.path)?;
            fs::set_permissions(&work.path, fs::Permissions::from_mode(0o711)).map_err(io_error("set the mode of", &work.path))?;
            reached("storage.clone.complete");
            rename_new(&work.path, &place).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => exists(),
                _ => error.into(),
            })
        };
        fill().inspect_err(|_| drop(self.bury(&work.path)))?;
        reached("storage.clone.done");
        Ok(())
    }

    pub(super) fn destroy(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.check_marker()?;
        let place = self.places.zonepath(instance);
        if is_image(&place) {
            return Err(StorageError::InUse { what: "directory", name: instance.to_string(), by: "an image of that uuid".to_owned() });
        }
        if place.exists() && Dataset::read(&place)?.indestructible {
            return Err(StorageError::Indestructible(instance.to_string()));
        }
        if let Some(mount) = mount_below(&place) {
            return Err(StorageError::InUse {
                what: "instance",
                name: instance.to_string(),
                by: format!("the mount on {}", mount.display()),
            });
        }
        for suffix in [CLONING, ROLLBACK, REPLACING] {
            self.clear_work(&self.suffixed(instance, suffix))?;
        }
        // The instance last: as long as anything of it is there, so is what names it.
        self.bury(&self.snapshots_of(instance))?;
        self.bury(&place)?;
        self.empty_graves(instance)?;
        if let Ok(mut measured) = self.measured.lock() {
            measured.remove(&instance);
        }
        reached("storage.destroy.done");
        Ok(())
    }

    pub(super) fn change(&self, instance: InstanceUuid, change: impl FnOnce(&mut Dataset)) -> Result<(), StorageError> {
        let path = self.require_instance(instance)?;
        let mut dataset = Dataset::read(&path)?;
        let before = dataset.clone();
        change(&mut dataset);
        if dataset != before {
            dataset.write(&path)?;
        }
        Ok(())
    }

    pub(super) fn change_quota(&self, instance: InstanceUuid, mib: Option<u64>) -> Result<(), StorageError> {
        self.change(instance, |dataset| dataset.quota_bytes = quota_bytes(mib))
    }

    pub(super) fn usage_of(&self, instance: InstanceUuid, fresh: Duration) -> Result<Usage, StorageError> {
        let path = self.require_instance(instance)?;
        let quota_bytes = Dataset::read(&path)?.quota_bytes;
        let known = self.measured.lock().ok().and_then(|measured| measured.get(&instance).copied());
        let used_bytes = match known {
            Some((when, bytes)) if when.elapsed() < fresh => bytes,
            _ => {
                let snapshots = self.snapshots_of(instance);
                let mut bytes = measure(&path)?;
                if snapshots.exists() {
                    bytes += measure(&snapshots)?;
                }
                if let Ok(mut measured) = self.measured.lock() {
                    measured.insert(instance, (Instant::now(), bytes));
                }
                bytes
            }
        };
        Ok(Usage { used_bytes, quota_bytes, enforced: false })
    }

    pub(super) fn all_usages(&self) -> Result<BTreeMap<InstanceUuid, Usage>, StorageError> {
        let instances = self.list_instances()?;
        if let Ok(mut measured) = self.measured.lock() {
            measured.retain(|instance, _| instances.binary_search(instance).is_ok());
        }
        let mut usages = BTreeMap::new();
        for instance in instances {
            match self.usage_of(instance, FRESH) {
                Ok(usage) => drop(usages.insert(instance, usage)),
                // Destroyed meanwhile.
                Err(_) if !self.places.zonepath(instance).exists() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(usages)
    }

    pub(super) fn status(&self) -> Result<PoolStatus, StorageError> {
        self.check_marker()?;
        let path = self.path();
        let directory = fs::File::open(path).map_err(io_error("open", path))?;
        let stat = fstatvfs(&directory).map_err(|e| io_error("examine the file system of", path)(e.into()))?;
        let unit = stat.fragment_size();
        let used_bytes = stat.blocks().saturating_sub(stat.blocks_free()) * unit;
        let available_bytes = stat.blocks_available() * unit;
        Ok(PoolStatus { size_bytes: used_bytes + available_bytes, used_bytes, available_bytes, health: "ONLINE".to_owned() })
    }
}
