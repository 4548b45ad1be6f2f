//! The verbs of [`Backend`], each in the module of its subject.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::Read,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use triton_types::{ImageUuid, InstanceUuid, StorageKind, VolumeUuid};

use super::{
    DirPool,
    dataset::Dataset,
    pool::{io_error, is_image},
};
use crate::{
    CloneOptions, DataOptions, ImageDataset, PoolStatus, SnapshotInfo, SnapshotLabel, StorageError, Usage, export::Fill, layout::VOLUMES,
    replica::Replicate, storage::Backend,
};

/// A copy of directories is made of files.
impl Replicate for DirPool {}

impl Backend for DirPool {
    fn check(&self) -> Result<(), StorageError> {
        self.check_marker()
    }
    fn pool_path(&self) -> &Path {
        self.path()
    }
    fn image_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.check_marker().map(|()| is_image(&self.image(image)))
    }
    fn images(&self) -> Result<Vec<ImageDataset>, StorageError> {
        self.list_images()
    }
    fn image_partial_exists(&self, image: ImageUuid) -> Result<bool, StorageError> {
        self.check_marker().map(|()| self.places.partial(image).exists())
    }
    fn begin_image(&self, image: ImageUuid, origin: Option<ImageUuid>) -> Result<PathBuf, StorageError> {
        self.begin(image, origin)
    }
    fn receive_image(&self, _: ImageUuid, _: Option<ImageUuid>, _: &mut dyn Read) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "receive a ZFS stream" })
    }
    fn send_image(&self, _: InstanceUuid, _: Option<ImageUuid>, _: &File) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "send a ZFS stream" })
    }
    fn create_instance(
        &self,
        instance: InstanceUuid,
        options: &CloneOptions,
        _: &[VolumeUuid],
        fill: Fill<'_>,
    ) -> Result<(), StorageError> {
        self.create_filled(instance, options, fill)
    }
    fn make_volume(&self, instance: InstanceUuid, volume: VolumeUuid) -> Result<PathBuf, StorageError> {
        let path = self.require_instance(instance)?.join(VOLUMES).join(volume.to_string());
        DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(io_error("create the directory", &path))?;
        Ok(path)
    }
    fn commit_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.commit(image)
    }
    fn discard_partial(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.check_marker()?;
        self.bury(&self.places.partial(image)).map(drop)
    }
    fn delete_image(&self, image: ImageUuid) -> Result<(), StorageError> {
        self.delete(image)
    }
    fn image_clones(&self, image: ImageUuid) -> Result<Vec<String>, StorageError> {
        self.clones(image)
    }
    fn clone_image(&self, image: ImageUuid, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.clone_to(image, instance, options)
    }
    fn instance_exists(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        match self.require_instance(instance) {
            Ok(_) => Ok(true),
            Err(StorageError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
    fn instances(&self) -> Result<Vec<InstanceUuid>, StorageError> {
        self.list_instances()
    }
    fn mount_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.require_instance(instance).map(drop)
    }
    fn destroy_instance(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        self.destroy(instance)
    }
    fn set_quota(&self, instance: InstanceUuid, quota_mib: Option<u64>) -> Result<(), StorageError> {
        self.change_quota(instance, quota_mib)
    }
    fn usage(&self, instance: InstanceUuid) -> Result<Usage, StorageError> {
        self.usage_of(instance, Duration::ZERO)
    }
    fn usages(&self) -> Result<BTreeMap<InstanceUuid, Usage>, StorageError> {
        self.all_usages()
    }
    fn set_indestructible(&self, instance: InstanceUuid, held: bool) -> Result<(), StorageError> {
        self.change(instance, |dataset| dataset.indestructible = held)
    }
    fn indestructible(&self, instance: InstanceUuid) -> Result<bool, StorageError> {
        Ok(Dataset::read(&self.require_instance(instance)?)?.indestructible)
    }
    fn configure(&self, instance: InstanceUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.change_quota(instance, options.quota_mib)
    }
    fn replace_root(&self, instance: InstanceUuid, image: ImageUuid, options: &CloneOptions) -> Result<(), StorageError> {
        self.replace(instance, image, options)
    }
    fn create_data(&self, _: InstanceUuid, _: &DataOptions) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "make a dataset for a guest" })
    }
    fn configure_data(&self, _: InstanceUuid, _: &DataOptions) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "change the dataset of a guest" })
    }
    fn delegate(&self, _: InstanceUuid, _: &Path) -> Result<(), StorageError> {
        Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "give a dataset to a guest" })
    }
    fn describe(&self, instance: InstanceUuid) -> Result<String, StorageError> {
        Ok(format!("{:#?}\n", Dataset::read(&self.require_instance(instance)?)?))
    }
    fn snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.make_snapshot(instance, name)
    }
    fn rollback(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.roll_back(instance, name)
    }
    fn delete_snapshot(&self, instance: InstanceUuid, name: &SnapshotLabel) -> Result<(), StorageError> {
        self.remove_snapshot(instance, name)
    }
    fn snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        self.list_snapshots(instance)
    }
    fn all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError> {
        self.list_all_snapshots()
    }
    fn pools(&self) -> Result<BTreeMap<String, PoolStatus>, StorageError> {
        Ok(BTreeMap::from([(self.name().to_owned(), self.status()?)]))
    }
    fn sweep(&self) -> Result<Vec<String>, StorageError> {
        self.sweep_leftovers()
    }
}
