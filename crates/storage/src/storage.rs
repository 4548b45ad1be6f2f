//! [`Storage`]: the one way to datasets of images and instances.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use triton_files::Layout;
use triton_types::{IdRange, ImageUuid, InstanceUuid, Ownership, StorageKind, VolumeUuid};

use crate::{
    CloneOptions, DataOptions, ImageDataset, PoolStatus, SnapshotInfo, SnapshotLabel, StorageError, TreeError, Usage,
    dir::{DirPool, sync_all},
    export::Fill,
    layout::{ROOT, VOLUMES},
    ownership, record,
    replica::Replicate,
    zfs::ZfsPool,
};

/// What a kind of storage does. The rules are on [`Storage`]'s methods.
pub(crate) trait Backend: Replicate + Send + Sync + std::fmt::Debug {
    fn check(&self) -> Result<(), StorageError>;
    fn pool_path(&self) -> &Path;
    fn image_exists(&self, image: ImageUuid) -> Result<bool, StorageError>;
    fn images(&self) -> Result<Vec<ImageDataset>, StorageError>;
    fn image_partial_exists(&self, image: ImageUuid) -> Result<bool, StorageError>;
    fn begin_image(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<PathBuf, StorageError>;
    fn receive_image(&self, image: ImageUuid, origin: Option<ImageUuid>, stream: &mut dyn Read) -> Result<(), StorageError>;
    fn commit_image(&self, image: ImageUuid) -> Result<(), StorageError>;
    fn discard_partial(&self, image: ImageUuid) -> Result<(), StorageError>;
    fn delete_image(&self, image: ImageUuid) -> Result<(), StorageError>;
    fn image_clones(&self, image: ImageUuid) -> Result<Vec<String>, StorageError>;
    fn clone_image(&self, image: ImageUuid, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError>;
    fn instance_exists(&self, instance: InstanceUuid) -> Result<bool, StorageError>;
    fn instances(&self) -> Result<Vec<InstanceUuid>, StorageError>;
    fn mount_instance(&self, instance: InstanceUuid) -> Result<(), StorageError>;
    fn destroy_instance(&self, instance: InstanceUuid) -> Result<(), StorageError>;
    fn set_quota(&self, instance: InstanceUuid, quota_mib: Option<u64>) -> Result<(), StorageError>;
    fn usage(&self, instance: InstanceUuid) -> Result<Usage, StorageError>;
    fn usages(&self) -> Result<BTreeMap<InstanceUuid, Usage>, StorageError>;
    fn set_indestructible(&self, instance: InstanceUuid, held: bool) -> Result<(), StorageError>;
    fn indestructible(&self, instance: InstanceUuid) -> Result<bool, StorageError>;
    fn configure(&self, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError>;
    fn replace_root(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError>;
    fn create_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError>;
    fn configure_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError>;
    fn delegate(&self, instance: InstanceUuid, namespace: &Path) -> Result<(), StorageError>;
    fn describe(&self, instance: InstanceUuid) -> Result<String, StorageError>;
    fn snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError>;
    fn rollback(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError>;
    fn delete_snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError>;
    fn snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError>;
    fn all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError>;
    fn pools(&self) -> Result<BTreeMap<String, PoolStatus>, StorageError>;
    fn sweep(&self) -> Result<Vec<String>, StorageError>;
    fn send_image(&self, instance: InstanceUuid, origin: Option<ImageUuid>, out: &File) -> Result<(), StorageError>;
    fn create_instance(
        &self,
        instance: InstanceUuid,
        options: &CloneOptions,
        volumes: &[VolumeUuid],
        fill: Fill<'_>,
    ) -> Result<(), StorageError>;
    fn make_volume(&self, instance: InstanceUuid, volume: VolumeUuid) -> Result<PathBuf, StorageError>;
}

/// The storage that was chosen on this node.
#[derive(Debug)]
pub struct Storage {
    kind: StorageKind,
    pool: String,
    backend: Box<dyn Backend>,
}

impl Storage {
    /// Opens what `/var/triton/storage.json` names.
    ///
    /// # Errors
    /// [`StorageError::NotChosen`] without the record; [`StorageError::PoolMissing`] when the pool is not there (its file
    /// system is not mounted, ZFS is not loaded): then no list would mean anything.
    pub fn open(layout: &Layout) -> Result<Self, StorageError> {
        let record = record::read(layout)?.ok_or_else(|| StorageError::NotChosen { record: record::path(layout) })?;
        Self::assemble(layout, record.kind, record.pool)
    }

    /// Chooses the kind and pool of this node. Repeating the same choice is success and the same as [`Storage::open`].
    /// A `dir` pool is made if there is none; a ZFS pool must exist.
    ///
    /// # Errors
    /// [`StorageError::OtherChosen`] when another kind or pool was chosen before; also when the place of the pool holds
    /// something else. Nothing is changed then.
    pub fn choose(layout: &Layout, kind: StorageKind, pool: &str) -> Result<Self, StorageError> {
        if record::agrees(layout, kind, pool)? {
            return Self::open(layout);
        }
        if kind == StorageKind::Dir {
            DirPool::create(&layout.at(pool), pool)?;
        }
        triton_files::steps::reached("storage.choose.pool-made");
        let storage = Self::assemble(layout, kind, pool.to_owned())?;
        record::write(layout, kind, pool)?;
        triton_files::steps::reached("storage.choose.recorded");
        Ok(storage)
    }

    fn assemble(layout: &Layout, kind: StorageKind, pool: String) -> Result<Self, StorageError> {
        let backend: Box<dyn Backend> = match kind {
            StorageKind::Dir => Box::new(DirPool::open(&layout.at(&pool), &pool)?),
            StorageKind::Zfs => Box::new(ZfsPool::open(layout, &pool)?),
        };
        Ok(Self { kind, pool, backend })
    }

    /// What does the work.
    pub(crate) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// Which kind was chosen.
    pub fn kind(&self) -> StorageKind {
        self.kind
    }

    /// Name of the pool.
    pub fn pool(&self) -> &str {
        &self.pool
    }

    /// Checks that the pool is still there (invariant 1: an empty list must mean none).
    ///
    /// # Errors
    /// [`StorageError::PoolMissing`].
    pub fn check(&self) -> Result<(), StorageError> {
        self.backend.check()
    }

    /// `<root>/<pool>/<uuid>`.
    pub fn zonepath(&self, instance: InstanceUuid) -> PathBuf {
        self.backend.pool_path().join(instance.to_string())
    }

    /// `<zonepath>/root`.
    pub fn root(&self, instance: InstanceUuid) -> PathBuf {
        self.zonepath(instance).join(ROOT)
    }

    /// Whether the image is installed: complete, with its `@final`.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn image_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.backend.image_exists(image)
    }

    /// All installed images (instances.md section 8.6). One call of ZFS for all.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn images(&self) -> Result<Vec<ImageDataset>, StorageError> {
        self.backend.images()
    }

    /// Whether `<pool>/<uuid>-partial` exists: an import is under way or was killed; the image's lock tells which.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn image_partial_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.backend.image_partial_exists(image)
    }

    /// Begins an image that is unpacked from an archive: makes `<pool>/<uuid>-partial` (with the content of `origin`, else
    /// with an empty `root/`) and returns its directory. A partial left by a killed import is destroyed first; the caller
    /// holds the image's import lock.
    ///
    /// # Errors
    /// When the image exists, the origin does not, or space runs out (nothing stays then).
    pub fn begin_image(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<PathBuf, StorageError> {
        self.backend.begin_image(image, origin)
    }

    /// Receives a ZFS stream as `<pool>/<uuid>-partial@final`; [`Storage::commit_image`] completes it.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; [`StorageError::UnexpectedNumberOfSnapshots`]; what ZFS says. Nothing stays then.
    pub fn receive_image(&self, image: ImageUuid, origin: Option<ImageUuid>, stream: &mut dyn Read) -> Result<(), StorageError> {
        self.backend.receive_image(image, origin, stream)
    }

    /// Completes the partial image: `@final`, then the rename to `<pool>/<uuid>` that makes it visible, durable before it
    /// returns.
    ///
    /// # Errors
    /// When there is no partial, it has no `root/`, or the image exists.
    pub fn commit_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.backend.commit_image(image)
    }

    /// Destroys the partial image; that there is none is success.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn discard_partial(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.backend.discard_partial(image)
    }

    /// Destroys an installed image.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::InUse`] names its clones.
    pub fn delete_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.backend.delete_image(image)
    }

    /// Names of the instances and images made from this image. For `dir` by record: a copy does not need its image.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn image_clones(&self, image: ImageUuid) -> Result<Vec<String>, StorageError> {
        self.backend.image_clones(image)
    }

    /// Makes the root dataset of an instance from an image, mounted, with an empty `config/` (0700), the zonepath 0711, and
    /// nothing of the image's own `config`, `logs`, `lastexited`, `seed` and `volumes`. On ZFS the snapshot `@install` is made too.
    /// A clone that was killed midway is removed first.
    ///
    /// # Errors
    /// When the image does not exist, the instance does, or space runs out (nothing stays then).
    pub fn clone_image(&self, image: ImageUuid, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.backend.clone_image(image, instance, options)
    }

    /// Whether the instance has a root dataset.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn instance_exists(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        self.backend.instance_exists(instance)
    }

    /// Root datasets of instances, whether or not a machine file names them (instances.md section 6.4: orphans are found so).
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn instances(&self) -> Result<Vec<InstanceUuid>, StorageError> {
        self.backend.instances()
    }

    /// Mounts the instance's dataset, and those of its volumes, if they are not.
    ///
    /// # Errors
    /// When it does not exist or cannot be mounted.
    pub fn mount_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.backend.mount_instance(instance)
    }

    /// Makes all that was written to the instance durable. On ZFS that is one commit of its log; in directories all of the file system
    /// that holds the pool is written.
    ///
    /// # Errors
    /// When it has no dataset, or the disk does not take it.
    pub fn make_durable(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        let zonepath = self.zonepath(instance);
        sync_all(&zonepath)?;
        let device = |path: &Path| fs::symlink_metadata(path).map(|metadata| metadata.dev()).ok();
        for entry in fs::read_dir(zonepath.join(VOLUMES)).into_iter().flatten().flatten() {
            if device(&entry.path()) != device(&zonepath) {
                sync_all(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Makes a private volume of the instance (instances.md section 2.5), empty and the host's own, or finds it; returns its directory.
    /// On ZFS it is a dataset of its own below the instance's, whose quota holds for it too, and is mounted.
    ///
    /// # Errors
    /// When the instance has no dataset, or space runs out.
    pub fn make_volume(&self, instance: InstanceUuid, volume: VolumeUuid) -> Result<PathBuf, StorageError> {
        self.backend.make_volume(instance, volume)
    }

    /// Destroys the instance's dataset with its snapshots and all leftovers of killed calls; absent is success.
    ///
    /// # Errors
    /// [`StorageError::Indestructible`]; [`StorageError::is_busy`] while something is mounted below it.
    pub fn destroy_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.backend.destroy_instance(instance)
    }

    /// Sets or (`None`, 0) removes the quota, MiB.
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn set_quota(&self, instance: InstanceUuid, quota_mib: Option<u64>) -> Result<(), StorageError> {
        self.backend.set_quota(instance, quota_mib)
    }

    /// What the instance uses now. For `dir` its whole tree is walked.
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn usage(&self, instance: InstanceUuid) -> Result<Usage, StorageError> {
        self.backend.usage(instance)
    }

    /// What every instance uses: one call of ZFS; for `dir` at most a minute old.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn usages(&self) -> Result<BTreeMap<InstanceUuid, Usage>, StorageError> {
        self.backend.usages()
    }

    /// Marks the instance's root as (not) to be destroyed (instances.md section 6.6). Idempotent.
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn set_indestructible(&self, instance: InstanceUuid, held: bool) -> Result<(), StorageError> {
        self.backend.set_indestructible(instance, held)
    }

    /// Whether the instance's root must not be destroyed.
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn indestructible(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        self.backend.indestructible(instance)
    }

    /// Makes the dataset `<pool>/<uuid>/data`, which the instance's guest manages itself (instances.md section 7.6). One that is
    /// there already stays as it is.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; what ZFS says.
    pub fn create_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        self.backend.create_data(instance, options)
    }

    /// Sets the properties of `<pool>/<uuid>/data`.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; what ZFS says.
    pub fn configure_data(&self, instance: InstanceUuid, options: &DataOptions) -> Result<(), StorageError> {
        self.backend.configure_data(instance, options)
    }

    /// Gives `<pool>/<uuid>/data` to the user namespace of a guest, for as long as that is there.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; what ZFS says, whose version 2.1 cannot.
    pub fn delegate(&self, instance: InstanceUuid, namespace: &Path) -> Result<(), StorageError> {
        self.backend.delegate(instance, namespace)
    }

    /// Makes a snapshot of the instance: root, config and logs.
    ///
    /// # Errors
    /// When one of that name exists, or space runs out (nothing stays then).
    pub fn snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.backend.snapshot(instance, name)
    }

    /// Puts the instance back to the snapshot and destroys newer ones. The instance is stopped; quota and holds stay.
    ///
    /// # Errors
    /// When there is no such snapshot, or something is mounted below the instance.
    pub fn rollback(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.backend.rollback(instance, name)
    }

    /// Destroys a snapshot.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    pub fn delete_snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.backend.delete_snapshot(instance, name)
    }

    /// The instance's snapshots, newest first.
    ///
    /// # Errors
    /// When the instance has no dataset.
    pub fn snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        self.backend.snapshots(instance)
    }

    /// The snapshots of all instances that have some, each list newest first: one question on ZFS, however many there are.
    ///
    /// # Errors
    /// When they cannot be listed: that is not "none".
    pub fn all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError> {
        self.backend.all_snapshots()
    }

    /// Space and health of this node's pool.
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn pool_status(&self) -> Result<PoolStatus, StorageError> {
        let missing = || StorageError::PoolMissing { pool: self.pool.clone(), reason: "it is not in the list of pools".to_owned() };
        self.pools()?.remove(&self.pool).ok_or_else(missing)
    }

    /// Space and health of every imported pool, by name (cn-agent.md section 5.2, `zpoolStatus`).
    ///
    /// # Errors
    /// When the pool is not there.
    pub fn pools(&self) -> Result<BTreeMap<String, PoolStatus>, StorageError> {
        self.backend.pools()
    }

    /// Removes what killed calls left (never a partial image: that is its importer's). Returns the names of what was removed.
    ///
    /// # Errors
    /// When something cannot be removed; the rest was.
    pub fn sweep(&self) -> Result<Vec<String>, StorageError> {
        self.backend.sweep()
    }

    /// Whether an idmapped mount of the instance's root is possible, by making a detached one.
    ///
    /// # Errors
    /// When the root is not there.
    pub fn detect_ownership(&self, instance: InstanceUuid) -> Result<Ownership, TreeError> {
        ownership::detect(&self.root(instance))
    }

    /// Gives every file of the instance's root to its id range ([`ownership::shift`]); may be repeated after a kill.
    ///
    /// # Errors
    /// Names the file and the id that fits neither the image's ids nor the range.
    pub fn shift(&self, instance: InstanceUuid, ids: IdRange) -> Result<(), StorageError> {
        Ok(ownership::shift(&self.root(instance), ids)?)
    }

    /// The inverse of [`Storage::shift`], for making images.
    ///
    /// # Errors
    /// As [`Storage::shift`].
    pub fn unshift(&self, instance: InstanceUuid, ids: IdRange) -> Result<(), StorageError> {
        Ok(ownership::unshift(&self.root(instance), ids)?)
    }
}
