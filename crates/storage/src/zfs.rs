//! Storage in OpenZFS: images are datasets with the snapshot `@final`, instances clones of it.
//!
//! Datasets are `canmount=noauto`: mounted at use, not by `zfs mount -a` at boot (ruling 50). Instances have `devices=off`.

mod change;
mod data;
mod export;
mod patience;
mod replicate;
mod snapdir;
mod snapshots;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Read,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use triton_files::{Layout, steps::reached};
use triton_types::{ImageUuid, InstanceUuid, Timestamp, VolumeUuid};
use triton_zfs::{CanMount, Compression, Dataset, DatasetName, FailureKind, NameError, Properties, SnapshotName, Zfs};

use crate::{
    CloneOptions, DataOptions, ImageDataset, PoolStatus, SnapshotInfo, SnapshotLabel, StorageError, TreeError, Usage,
    export::Fill,
    layout::{CONFIG, NOT_CLONED, Places, ROOT, partial},
    model::quota_bytes,
    storage::Backend,
    tree::{mount_below, remove_tree},
};
use patience::{patiently, users};

/// Snapshot of an image, without the `@`.
const FINAL: &str = "final";
/// Snapshot that every instance has from its creation on, for holds (instances.md section 6.3).
const INSTALL: &str = "install";
/// The hold that makes an instance indestructible.
const HOLD: &str = "do_not_destroy";

/// A pool of ZFS.
#[derive(Debug)]
pub(crate) struct ZfsPool {
    zfs: Zfs,
    top: DatasetName,
    places: Places,
    layout: Layout,
    lists: snapdir::Lists,
}

/// Names made of a checked pool and uuids are always legal, but for a snapshot's name that Triton allows and ZFS does not.
fn name<T>(result: Result<T, NameError>) -> Result<T, StorageError> {
    result.map_err(|error| StorageError::InvalidProperty(error.to_string()))
}

impl ZfsPool {
    pub(crate) fn open(layout: &Layout, pool: &str) -> Result<Self, StorageError> {
        let zfs = Zfs::open()?;
        let missing = |reason: String| StorageError::PoolMissing { pool: pool.to_owned(), reason };
        let top: DatasetName = name(pool.parse())?;
        if !zfs.exists(&top)? {
            return Err(missing("it is not imported".to_owned()));
        }
        let places = Places::new(layout.at(pool));
        let found = zfs.get(&top, "mountpoint")?;
        if Path::new(&found) != places.pool() {
            return Err(missing(format!("its mountpoint is {found}, {} is needed", places.pool().display())));
        }
        Ok(Self { zfs, top, places, layout: layout.clone(), lists: snapdir::Lists::default() })
    }

    fn dataset(&self, leaf: &dyn std::fmt::Display) -> Result<DatasetName, StorageError> {
        name(self.top.child(&leaf.to_string()))
    }

    fn final_of(&self, image: ImageUuid) -> Result<SnapshotName, StorageError> {
        name(self.dataset(&image)?.snapshot(FINAL))
    }

    fn install_of(&self, instance: InstanceUuid) -> Result<SnapshotName, StorageError> {
        name(self.dataset(&instance)?.snapshot(INSTALL))
    }

    fn require_instance(&self, instance: InstanceUuid) -> Result<DatasetName, StorageError> {
        let dataset = self.dataset(&instance)?;
        if self.zfs.exists(&dataset)? { Ok(dataset) } else { Err(StorageError::NotFound { what: "instance", name: instance.to_string() }) }
    }

    fn require_image(&self, image: ImageUuid) -> Result<SnapshotName, StorageError> {
        let snapshot = self.final_of(image)?;
        if self.zfs.snapshot_exists(&snapshot)? {
            Ok(snapshot)
        } else {
            Err(StorageError::NotFound { what: "image", name: image.to_string() })
        }
    }

    /// Destroys a dataset; a mount below it in this namespace is named, and so is who has its files open.
    fn destroy(&self, dataset: &DatasetName) -> Result<(), StorageError> {
        patiently(|| self.zfs.destroy_recursive(dataset)).map_err(|error| {
            if error.kind() != FailureKind::Busy {
                return error.into();
            }
            let path = self.places.pool().join(dataset.leaf());
            let users = users(&path);
            let by = match mount_below(&path) {
                Some(mount) if mount != path => format!("the mount on {}", mount.display()),
                _ if !users.is_empty() => users.join(", "),
                Some(mount) => format!("the mount on {}", mount.display()),
                None => return error.into(),
            };
            StorageError::InUse { what: "dataset", name: dataset.to_string(), by }
        })
    }

    /// Datasets directly below the pool, with those that have `@final`.
    fn datasets(&self) -> Result<(Vec<Dataset>, BTreeSet<String>), StorageError> {
        let all = self.zfs.list(&self.top, 1)?;
        let snapshots = self.zfs.list_snapshots(&self.top, 2)?;
        let images = snapshots.iter().filter(|s| s.name.name() == FINAL).map(|s| s.name.dataset().leaf().to_owned()).collect();
        Ok((all, images))
    }

    fn begin_partial(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<(DatasetName, Option<SnapshotName>), StorageError> {
        if self.zfs.exists(&self.dataset(&image)?)? {
            return Err(StorageError::Exists { what: "image", name: image.to_string() });
        }
        let origin = origin.map(|origin| self.require_image(origin)).transpose()?;
        let dataset = self.dataset(&partial(image))?;
        self.destroy(&dataset)?;
        reached("storage.image.begun");
        Ok((dataset, origin))
    }

    /// Makes the mounted clone of an image at `path` the directory of an instance.
    fn prepare_zonepath(&self, path: &Path) -> Result<(), StorageError> {
        for leftover in NOT_CLONED {
            remove_tree(&path.join(leftover))?;
        }
        if !path.join(ROOT).is_dir() {
            return Err(StorageError::NoRoot(path.display().to_string()));
        }
        let config = path.join(CONFIG);
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |e| TreeError::new("set up", path, e)
        };
        fs::DirBuilder::new().mode(0o700).create(&config).map_err(fail(&config))?;
        fs::set_permissions(&config, fs::Permissions::from_mode(0o700)).map_err(fail(&config))?;
        std::os::unix::fs::chown(path, Some(0), Some(0)).map_err(fail(path))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(fail(path))?;
        Ok(())
    }
}

const NOAUTO: Properties = Properties {
    quota: None,
    recordsize: None,
    compression: None,
    devices: None,
    canmount: Some(CanMount::NoAuto),
    zoned: None,
    filesystem_limit: None,
    snapshot_limit: None,
};

fn properties(options: &CloneOptions) -> Result<Properties, StorageError> {
    let compression = options.compression.as_deref().map(str::parse::<Compression>).transpose();
    Ok(Properties {
        quota: options.quota_bytes(),
        recordsize: options.recordsize,
        compression: compression.map_err(|error| StorageError::InvalidProperty(error.to_string()))?,
        devices: Some(false),
        canmount: Some(CanMount::NoAuto),
        zoned: None,
        filesystem_limit: options.filesystem_limit,
        snapshot_limit: options.snapshot_limit,
    })
}

fn usage(dataset: &Dataset) -> Usage {
    Usage { used_bytes: dataset.used, quota_bytes: dataset.quota, enforced: true }
}

fn seconds(seconds: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}

impl Backend for ZfsPool {
    fn check(&self) -> Result<(), StorageError> {
        let missing = || StorageError::PoolMissing { pool: self.top.to_string(), reason: "it is not imported any more".to_owned() };
        if self.zfs.exists(&self.top)? { Ok(()) } else { Err(missing()) }
    }

    fn pool_path(&self) -> &Path {
        self.places.pool()
    }

    fn image_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.check()?;
        Ok(self.zfs.snapshot_exists(&self.final_of(image)?)?)
    }

    fn images(&self) -> Result<Vec<ImageDataset>, StorageError> {
        let (all, images) = self.datasets()?;
        let machine = |leaf: &str| leaf.parse::<InstanceUuid>().is_ok_and(|uuid| self.layout.machine(uuid).exists());
        let found = all.iter().filter_map(|dataset| {
            let leaf = dataset.name.leaf();
            let uuid = leaf.parse::<ImageUuid>().ok()?;
            let origin = dataset.origin.as_ref().and_then(|origin| origin.dataset().leaf().parse().ok());
            let is_image = images.contains(leaf) && !dataset.imgadm_ignore && !machine(leaf);
            is_image.then(|| ImageDataset { uuid, used_bytes: dataset.used, origin, created_at: seconds(dataset.creation) })
        });
        Ok(found.collect())
    }

    fn image_partial_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.check()?;
        Ok(self.zfs.exists(&self.dataset(&partial(image))?)?)
    }

    fn begin_image(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<PathBuf, StorageError> {
        let (dataset, origin) = self.begin_partial(image, origin)?;
        let fill = || -> Result<PathBuf, StorageError> {
            match &origin {
                Some(origin) => self.zfs.clone_from(origin, &dataset, &NOAUTO)?,
                None => self.zfs.create(&dataset, &NOAUTO)?,
            }
            reached("storage.image.partial-made");
            self.zfs.mount(&dataset)?;
            let path = self.places.partial(image);
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(|e| TreeError::new("set the mode of", &path, e))?;
            if origin.is_none() {
                let root = path.join(ROOT);
                fs::create_dir(&root).map_err(|e| TreeError::new("create the directory", &root, e))?;
            }
            Ok(path)
        };
        let path = fill().inspect_err(|_| drop(self.destroy(&dataset)))?;
        reached("storage.image.partial-filled");
        Ok(path)
    }

    fn receive_image(&self, image: ImageUuid, origin: Option<ImageUuid>, stream: &mut dyn Read) -> Result<(), StorageError> {
        let (dataset, origin) = self.begin_partial(image, origin)?;
        let wanted = name(dataset.snapshot(FINAL))?;
        let mut fill = || -> Result<(), StorageError> {
            self.zfs.receive(&wanted, origin.as_ref(), stream)?;
            reached("storage.image.received");
            let snapshots = self.zfs.list_snapshots(&dataset, 1)?;
            let [only] = snapshots.as_slice() else {
                return Err(StorageError::UnexpectedNumberOfSnapshots { image: image.to_string(), count: snapshots.len() });
            };
            if only.name != wanted {
                self.zfs.rename_snapshot(&only.name, &wanted)?;
            }
            Ok(self.zfs.set(&dataset, &NOAUTO)?)
        };
        fill().inspect_err(|_| drop(self.destroy(&dataset)))?;
        reached("storage.image.partial-filled");
        Ok(())
    }

    fn commit_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        let (dataset, place) = (self.dataset(&partial(image))?, self.dataset(&image)?);
        if !self.zfs.exists(&dataset)? {
            return Err(StorageError::NotFound { what: "partial image", name: image.to_string() });
        }
        if self.zfs.exists(&place)? {
            return Err(StorageError::Exists { what: "image", name: image.to_string() });
        }
        let snapshot = name(dataset.snapshot(FINAL))?;
        if !self.zfs.snapshot_exists(&snapshot)? {
            if !self.places.partial(image).join(ROOT).is_dir() {
                return Err(StorageError::NoRoot(image.to_string()));
            }
            self.zfs.snapshot(&snapshot)?;
        }
        reached("storage.image.final");
        patiently(|| self.zfs.unmount(&dataset))?;
        self.zfs.rename(&dataset, &place)?;
        reached("storage.image.committed");
        Ok(())
    }

    fn discard_partial(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.destroy(&self.dataset(&partial(image))?)
    }

    fn delete_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        let dataset = self.require_image(image)?.dataset();
        let clones = self.image_clones(image)?;
        if !clones.is_empty() {
            return Err(StorageError::InUse { what: "image", name: image.to_string(), by: clones.join(", ") });
        }
        self.destroy(&dataset)
    }

    fn image_clones(&self, image: ImageUuid) -> Result<Vec<String>, StorageError> {
        let dataset = self.dataset(&image)?;
        let all = self.zfs.list(&self.top, 1)?;
        let clones = all.iter().filter(|d| d.origin.as_ref().is_some_and(|origin| origin.dataset() == dataset));
        Ok(clones.map(|d| d.name.leaf().to_owned()).collect())
    }

    fn clone_image(&self, image: ImageUuid, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        let (origin, dataset) = (self.require_image(image)?, self.dataset(&instance)?);
        let properties = properties(options)?;
        reached("storage.clone.begun");
        self.zfs.clone_from(&origin, &dataset, &properties).map_err(|error| match error.kind() {
            FailureKind::Exists => StorageError::Exists { what: "instance", name: instance.to_string() },
            _ => error.into(),
        })?;
        reached("storage.clone.copied");
        let fill = || -> Result<(), StorageError> {
            self.zfs.snapshot(&self.install_of(instance)?)?;
            reached("storage.clone.install-made");
            self.zfs.mount(&dataset)?;
            reached("storage.clone.mounted");
            self.prepare_zonepath(&self.places.zonepath(instance))
        };
        fill().inspect_err(|_| drop(self.destroy(&dataset)))?;
        reached("storage.clone.done");
        Ok(())
    }

    fn instance_exists(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        self.check()?;
        Ok(self.zfs.exists(&self.dataset(&instance)?)? && !self.zfs.snapshot_exists(&name(self.dataset(&instance)?.snapshot(FINAL))?)?)
    }

    fn instances(&self) -> Result<Vec<InstanceUuid>, StorageError> {
        let (all, images) = self.datasets()?;
        let leaves = all.iter().map(|dataset| dataset.name.leaf());
        let instance =
            |leaf: &str| leaf.parse::<InstanceUuid>().ok().filter(|uuid| !images.contains(leaf) || self.layout.machine(*uuid).exists());
        Ok(leaves.filter_map(instance).collect())
    }

    fn mount_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.zfs.mount(&self.require_instance(instance)?)?;
        self.mount_volumes(instance)
    }

    fn destroy_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.check()?;
        let dataset = self.dataset(&instance)?;
        if self.zfs.exists(&dataset)? && self.indestructible(instance)? {
            return Err(StorageError::Indestructible(instance.to_string()));
        }
        self.discard_replacing(instance)?;
        self.discard_export(instance)?;
        self.destroy(&dataset)?;
        reached("storage.destroy.done");
        Ok(())
    }

    fn set_quota(&self, instance: InstanceUuid, quota_mib: Option<u64>) -> Result<(), StorageError> {
        let properties = Properties { quota: Some(quota_bytes(quota_mib).unwrap_or(0)), ..Properties::default() };
        Ok(self.zfs.set(&self.require_instance(instance)?, &properties)?)
    }

    fn usage(&self, instance: InstanceUuid) -> Result<Usage, StorageError> {
        let rows = self.zfs.list(&self.require_instance(instance)?, 0)?;
        rows.first().map(usage).ok_or_else(|| StorageError::NotFound { what: "instance", name: instance.to_string() })
    }

    fn usages(&self) -> Result<BTreeMap<InstanceUuid, Usage>, StorageError> {
        let (all, images) = self.datasets()?;
        let found = all.iter().filter(|dataset| !images.contains(dataset.name.leaf()));
        Ok(found.filter_map(|dataset| Some((dataset.name.leaf().parse().ok()?, usage(dataset)))).collect())
    }

    fn set_indestructible(&self, instance: InstanceUuid, held: bool) -> Result<(), StorageError> {
        self.require_instance(instance)?;
        let snapshot = self.install_of(instance)?;
        if held {
            if !self.zfs.snapshot_exists(&snapshot)? {
                self.zfs.snapshot(&snapshot)?;
            }
            return Ok(self.zfs.hold(&snapshot, HOLD)?);
        }
        if self.zfs.snapshot_exists(&snapshot)? {
            // All of them: the contract clears the flag by releasing every hold.
            for tag in self.zfs.holds(&snapshot)? {
                self.zfs.release(&snapshot, &tag)?;
            }
        }
        Ok(())
    }

    fn indestructible(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        // Asked at every look at an instance, and most have no such snapshot: the file system says so itself, at a tenth of the price.
        if snapdir::has(&self.places.zonepath(instance), INSTALL).is_ok_and(|there| !there) {
            return Ok(false);
        }
        match self.zfs.holds(&self.install_of(instance)?) {
            Ok(tags) => Ok(!tags.is_empty()),
            Err(error) if error.kind() == FailureKind::NotFound => self.require_instance(instance).map(|_| false),
            Err(error) => Err(error.into()),
        }
    }

    fn configure(&self, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.set_all(instance, options)
    }

    fn replace_root(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.replace(instance, image, options)
    }

    fn create_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        self.create_guests_dataset(instance, options)
    }

    fn configure_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        self.set_guests_dataset(instance, options)
    }

    fn delegate(&self, instance: InstanceUuid, namespace: &Path) -> Result<(), StorageError> {
        self.give_guests_dataset(instance, namespace)
    }

    fn describe(&self, instance: InstanceUuid) -> Result<String, StorageError> {
        Ok(self.zfs.get_all(&self.require_instance(instance)?)?)
    }

    fn snapshot(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        self.make_snapshot(instance, label)
    }

    fn rollback(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        self.roll_back(instance, label)
    }

    fn delete_snapshot(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        self.remove_snapshot(instance, label)
    }

    fn snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        self.list_snapshots(instance)
    }

    fn all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError> {
        self.list_all_snapshots()
    }

    fn pools(&self) -> Result<BTreeMap<String, PoolStatus>, StorageError> {
        let mut pools = BTreeMap::new();
        for pool in self.zfs.pools()? {
            let top: DatasetName = name(pool.name.parse())?;
            if let Some(row) = self.zfs.list(&top, 0)?.first() {
                let status = PoolStatus {
                    size_bytes: row.used + row.available,
                    used_bytes: row.used,
                    available_bytes: row.available,
                    health: pool.health,
                };
                pools.insert(pool.name, status);
            }
        }
        Ok(pools)
    }

    fn sweep(&self) -> Result<Vec<String>, StorageError> {
        // Every change is one transaction of ZFS or is named by its machine file: nothing is left that has no owner.
        Ok(Vec::new())
    }

    fn send_image(&self, instance: InstanceUuid, origin: Option<ImageUuid>, out: &File) -> Result<(), StorageError> {
        self.export(instance, origin, out)
    }

    fn create_instance(
        &self,
        instance: InstanceUuid,
        options: &CloneOptions,
        volumes: &[VolumeUuid],
        fill: Fill<'_>,
    ) -> Result<(), StorageError> {
        self.create_filled(instance, options, volumes, fill)
    }

    fn make_volume(&self, instance: InstanceUuid, volume: VolumeUuid) -> Result<PathBuf, StorageError> {
        self.make_volume_dataset(instance, volume)
    }
}
