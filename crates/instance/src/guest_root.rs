//! The root of a guest from outside: who owns it, and the files that the host keeps in it and beside it.

use std::{
    collections::BTreeSet,
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
};

use triton_files::{FileError, SafeRoot};
use triton_storage::{CloneOptions, DataOptions};
use triton_types::{IdRange, MachineFile, Ownership, VmConfig, VolumeUuid};

use crate::{InstanceError, Instances, Process, docker, guest_files, seed};

impl Instances {
    /// Gives a new root, which has the image's ids, to the instance's id range. Notes how in `file`. May be repeated.
    pub(crate) fn own_root(&self, file: &mut MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        let ownership = self.storage.detect_ownership(uuid).map_err(InstanceError::step("find out how to own the files of", uuid))?;
        let Some(storage) = file.storage.as_mut() else {
            return Err(InstanceError::Node(format!("instance {uuid} has no storage record")));
        };
        storage.ownership = Some(ownership);
        if ownership == Ownership::Shifted {
            self.storage.shift(uuid, storage.ids).map_err(InstanceError::step("shift the ids of", uuid))?;
        }
        self.close_zonepath(file)
    }

    /// Closes the instance's directory to the users of the host, as far as its files need it.
    pub(crate) fn close_zonepath(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let Some((ids, Some(Ownership::Idmapped))) = file.storage.map(|storage| (storage.ids, storage.ownership)) else { return Ok(()) };
        // Real ids are on disk, set-uid programs among them: nobody of the host but root may come near. The guest's own
        // root must pass, since it is who mounts what lies beside its root file system.
        let zonepath = self.storage.zonepath(file.config.uuid);
        chown(&zonepath, Some(0), Some(ids.base)).map_err(|e| FileError::new("give to the guest's group", &zonepath, e))?;
        let closed = Permissions::from_mode(0o710);
        Ok(fs::set_permissions(&zonepath, closed).map_err(|e| FileError::new("set the mode of", &zonepath, e))?)
    }

    /// The guest's root for writing files that belong to its own root user.
    pub(crate) fn safe_root(&self, file: &MachineFile) -> Result<SafeRoot, InstanceError> {
        let uuid = file.config.uuid;
        let owner = match file.storage.and_then(|storage| Some((storage.ids, storage.ownership?))) {
            Some((IdRange { base, .. }, Ownership::Shifted)) => (base, base),
            Some((_, Ownership::Idmapped)) => (0, 0),
            None => return Err(InstanceError::Node(format!("the root of instance {uuid} is not complete"))),
        };
        SafeRoot::open(&self.storage.root(uuid), owner).map_err(InstanceError::step("open the root of", uuid))
    }

    /// Writes the guest's files for a first boot, and the seed for images with cloud-init. May be repeated. The caller makes the instance
    /// durable.
    pub(crate) fn fill_root(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        let root = self.safe_root(file)?;
        if let Ok(Some(process)) = Process::of(&file.config) {
            for directory in docker::DIRECTORIES.iter().copied().chain([process.directory.as_str()]).filter(|path| *path != "/") {
                // What the image has in its place, a link perhaps, is the image's matter: the start says what it cannot use.
                if let Err(error) = root.create_directory(directory) {
                    tracing::debug!(vm_uuid = %uuid, error = %crate::chain(&error), "a directory for the process was not made");
                }
            }
        }
        guest_files::write(&root, &file.config).map_err(InstanceError::step("write the guest's files of", uuid))?;
        self.refresh_seed(file)
    }

    /// Gives private volumes that came with the guest's own ids to its range. May be repeated.
    pub(crate) fn own_volumes(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        let directory = self.storage.zonepath(uuid).join("volumes");
        let Some(ids) = file.storage.map(|storage| storage.ids).filter(|_| directory.is_dir()) else { return Ok(()) };
        let unreadable = |e| FileError::new("read the directory", &directory, e);
        for entry in fs::read_dir(&directory).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            triton_storage::shift(&path, ids).map_err(InstanceError::step("shift the ids of a volume of", uuid))?;
        }
        Ok(())
    }

    /// Writes the seed of an image with cloud-init.
    pub(crate) fn refresh_seed(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let uuid = file.config.uuid;
        let root = self.safe_root(file)?;
        match file.storage.map(|storage| storage.ids).filter(|_| guest_files::has_cloud_init(&root)) {
            None => Ok(()),
            Some(ids) => seed::write(&self.storage.zonepath(uuid).join("seed"), &file.config, ids)
                .map_err(InstanceError::step("write the seed of", uuid)),
        }
    }

    /// Writes again what changed from `old` to `new` in the guest's files and in its seed.
    pub(crate) fn refresh_root(&self, old: &VmConfig, new: &MachineFile) -> Result<(), InstanceError> {
        let uuid = new.config.uuid;
        let seed_directory = self.storage.zonepath(uuid).join("seed");
        if let Some(storage) = new.storage.filter(|_| seed_directory.is_dir()) {
            seed::write(&seed_directory, &new.config, storage.ids).map_err(InstanceError::step("write the seed of", uuid))?;
        }
        let root = self.safe_root(new)?;
        let files = guest_files::changed_files(old, &new.config, guest_files::has_cloud_init(&root));
        guest_files::write_files(&root, &files).map_err(InstanceError::step("write the guest's files of", uuid))
    }

    /// Makes the private volumes that the file systems name (instances.md section 2.5), owned by the guest's root.
    pub(crate) fn make_volumes(&self, file: &MachineFile) -> Result<(), InstanceError> {
        let Some(ids) = file.storage.map(|storage| storage.ids) else { return Ok(()) };
        let config = &file.config;
        for volume in self.volumes_of(config) {
            let directory = self.storage.make_volume(config.uuid, volume).map_err(InstanceError::step("make a volume of", config.uuid))?;
            chown(&directory, Some(ids.base), Some(ids.base)).map_err(|e| FileError::new("give to the guest", &directory, e))?;
        }
        Ok(())
    }

    /// The private volumes that a configuration names, each once.
    pub(crate) fn volumes_of(&self, config: &VmConfig) -> Vec<VolumeUuid> {
        let prefix = format!("/{}/{}/volumes/", self.storage.pool(), config.uuid);
        let names = config.filesystems.iter().filter_map(|filesystem| filesystem.source.strip_prefix(&prefix)?.parse().ok());
        names.collect::<BTreeSet<VolumeUuid>>().into_iter().collect()
    }
}

/// What storage needs to know of the dataset that the guest manages.
pub(crate) fn data_options(config: &VmConfig) -> DataOptions {
    DataOptions { compression: config.zfs_data_compression.clone(), recordsize: config.zfs_data_recsize }
}

/// What storage needs to know of a configuration.
pub(crate) fn clone_options(config: &VmConfig) -> CloneOptions {
    CloneOptions {
        quota_mib: config.quota.as_ref().and_then(triton_types::Quota::mib),
        compression: config.zfs_root_compression.clone(),
        recordsize: config.zfs_root_recsize,
        filesystem_limit: config.zfs_filesystem_limit,
        snapshot_limit: config.zfs_snapshot_limit,
    }
}
