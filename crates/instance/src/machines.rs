//! Machine files and the documents beside the root file system: what instances should be.
//!
//! A machine file's name is the instance's existence (ruling 1): a file that cannot be used makes its instance
//! "unreadable", never absent. Changes are made by whoever holds the instance's lock.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json, read_optional, remove_if_present, write_json};
use triton_types::{InstanceUuid, JsonMap, MachineFile, Timestamp};

use crate::InstanceError;

/// One instance as it should be, read from its files.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The machine file, with metadata, tags and routes filled in from their own files.
    pub file: MachineFile,
    /// Newest change of any of the files, in milliseconds (instances.md section 3, ruling 3).
    pub modified: Timestamp,
}

/// The content of `config/metadata.json`: both keys are always there.
#[derive(Debug, Default, Serialize, Deserialize)]
struct MetadataFile {
    #[serde(default)]
    customer_metadata: JsonMap,
    #[serde(default)]
    internal_metadata: JsonMap,
}

/// The files of all instances of one node.
#[derive(Clone, Debug)]
pub struct Machines {
    layout: Layout,
}

impl Machines {
    /// Those below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// Every instance that exists, readable or not, in the order of uuids.
    ///
    /// # Errors
    /// When the store of instances is not there: an empty list counts only if it is (design section 9, invariant 1).
    pub fn uuids(&self) -> Result<Vec<InstanceUuid>, FileError> {
        self.layout.check_store()?;
        let directory = self.layout.machines();
        let error = |e| FileError::new("list", &directory, e);
        let mut uuids = Vec::new();
        for entry in fs::read_dir(&directory).map_err(error)? {
            let name = entry.map_err(error)?.file_name();
            if let Some(uuid) = name.to_str().and_then(|n| n.strip_suffix(".json")).and_then(|n| n.parse().ok()) {
                uuids.push(uuid);
            }
        }
        uuids.sort_unstable();
        Ok(uuids)
    }

    /// True if the instance exists, readable or not.
    pub fn exists(&self, uuid: InstanceUuid) -> bool {
        fs::symlink_metadata(self.layout.machine(uuid)).is_ok()
    }

    /// Reads the machine file alone: identity, lifecycle, storage, NICs, limits; no metadata, tags or routes.
    ///
    /// # Errors
    /// As [`Machines::read`].
    pub fn read_alone(&self, uuid: InstanceUuid) -> Result<MachineFile, InstanceError> {
        self.layout.check_store()?;
        let path = self.layout.machine(uuid);
        let unreadable = |e: &dyn std::error::Error| InstanceError::Unreadable { uuid, reason: crate::error::chain_text(e) };
        let bytes = read_optional(&path).map_err(|e| unreadable(&e))?.ok_or(InstanceError::NotFound { uuid })?;
        let file: MachineFile = serde_json::from_slice(&bytes).map_err(|e| unreadable(&e))?;
        if file.format > MachineFile::FORMAT {
            let reason = format!("its format {} is newer than this software's {}", file.format, MachineFile::FORMAT);
            return Err(InstanceError::Unreadable { uuid, reason });
        }
        if file.config.uuid != uuid {
            return Err(InstanceError::Unreadable { uuid, reason: format!("it describes {}", file.config.uuid) });
        }
        Ok(file)
    }

    /// Reads one instance.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`] without a machine file, [`InstanceError::Unreadable`] when a file of it cannot be used.
    pub fn read(&self, uuid: InstanceUuid) -> Result<Machine, InstanceError> {
        let mut file = self.read_alone(uuid)?;
        let unreadable = |e: &dyn std::error::Error| InstanceError::Unreadable { uuid, reason: crate::error::chain_text(e) };
        let mut modified = modified_at(&self.layout.machine(uuid));
        let zonepath = self.zonepath(&file);
        let config = zonepath.join("config");
        let metadata: MetadataFile = read_json(&config.join("metadata.json")).map_err(|e| unreadable(&e))?.unwrap_or_default();
        file.config.customer_metadata = metadata.customer_metadata;
        file.config.internal_metadata = metadata.internal_metadata;
        file.config.tags = read_json(&config.join("tags.json")).map_err(|e| unreadable(&e))?.unwrap_or_default();
        file.config.routes = self.read_routes(&file)?;
        for path in [config.join("metadata.json"), config.join("tags.json"), config.join("routes.json"), zonepath.join("lastexited")] {
            modified = modified.max(modified_at(&path));
        }
        Ok(Machine { file, modified: modified.unwrap_or(Timestamp::from_millis(0)) })
    }

    /// The static routes of an instance, which have a file of their own.
    ///
    /// # Errors
    /// [`InstanceError::Unreadable`].
    pub fn read_routes(&self, file: &MachineFile) -> Result<JsonMap, InstanceError> {
        let path = self.zonepath(file).join("config/routes.json");
        let routes =
            read_json(&path).map_err(|e| InstanceError::Unreadable { uuid: file.config.uuid, reason: crate::error::chain_text(&e) })?;
        Ok(routes.unwrap_or_default())
    }

    /// `/<zpool>/<uuid>` of the instance, below the node's root.
    pub fn zonepath(&self, file: &MachineFile) -> PathBuf {
        let pool = file.config.zpool.as_deref().unwrap_or("zones");
        self.layout.at(pool).join(file.config.uuid.to_string())
    }

    /// Writes the machine file, durably, without metadata, tags and routes. `last_modified` strictly increases (ruling 3).
    ///
    /// # Errors
    /// When the file cannot be replaced; the old one is then still there.
    pub fn write(&self, file: &MachineFile) -> Result<(), FileError> {
        let path = self.layout.machine(file.config.uuid);
        let before = self.read(file.config.uuid).ok().map(|machine| machine.modified);
        let mut stored = file.clone();
        stored.format = MachineFile::FORMAT;
        for map in
            [&mut stored.config.customer_metadata, &mut stored.config.internal_metadata, &mut stored.config.tags, &mut stored.config.routes]
        {
            map.clear();
        }
        write_json(&path, &stored, 0o600)?;
        if let Some(before) = before {
            Self::advance(&path, before)?;
        }
        Ok(())
    }

    /// Makes `last_modified` advance without another change, for changes that live elsewhere (a snapshot, a quota).
    ///
    /// # Errors
    /// When the instance cannot be read or its file not touched.
    pub fn touch(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let before = self.read(uuid)?.modified;
        let path = self.layout.machine(uuid);
        set_modified(&path, Timestamp::now().max(Timestamp::from_millis(before.as_millis() + 1)))?;
        Ok(())
    }

    /// Writes metadata, tags and routes to `config/` (0700, files 0600: ruling 10), whole and durably.
    ///
    /// # Errors
    /// When a file cannot be replaced.
    pub fn write_documents(&self, file: &MachineFile) -> Result<(), FileError> {
        let config = self.zonepath(file).join("config");
        match fs::DirBuilder::new().mode(0o700).create(&config) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(FileError::new("create directory", &config, e)),
            _ => {}
        }
        let metadata = MetadataFile {
            customer_metadata: file.config.customer_metadata.clone(),
            internal_metadata: file.config.internal_metadata.clone(),
        };
        write_json(&config.join("metadata.json"), &metadata, 0o600)?;
        write_json(&config.join("routes.json"), &file.config.routes, 0o600)?;
        write_json(&config.join("tags.json"), &file.config.tags, 0o600)
    }

    /// Removes the machine file: the last effect of a deletion.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, uuid: InstanceUuid) -> Result<(), FileError> {
        remove_if_present(&self.layout.machine(uuid))
    }
}

impl Machines {
    /// Moves the time of a file that was just written behind `before` if the clock did not, so that `last_modified` strictly
    /// increases (ruling 3).
    ///
    /// # Errors
    /// When the file cannot be touched.
    pub fn advance(path: &Path, before: Timestamp) -> Result<(), FileError> {
        match modified_at(path) {
            Some(now) if now > before => Ok(()),
            _ => set_modified(path, Timestamp::from_millis(before.as_millis() + 1)),
        }
    }
}

fn modified_at(path: &Path) -> Option<Timestamp> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some(Timestamp::from_millis(metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000))
}

fn set_modified(path: &Path, time: Timestamp) -> Result<(), FileError> {
    let error = |e| FileError::new("touch", path, e);
    let millis = u64::try_from(time.as_millis()).unwrap_or(0);
    let file = File::options().write(true).open(path).map_err(error)?;
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).and_then(|()| file.sync_all()).map_err(error)
}

#[cfg(test)]
mod tests {
    use triton_types::{Lifecycle, VmConfig};

    use super::*;

    struct Node(Layout);
    impl Node {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("triton-machines-{}-{name}", std::process::id()));
            let layout = Layout::new(&root);
            layout.prepare().unwrap();
            Self(layout)
        }
        fn machine(&self, uuid: InstanceUuid) -> MachineFile {
            let mut config = VmConfig::bare(uuid);
            config.zpool = Some("zones".into());
            fs::create_dir_all(self.0.at("/zones").join(uuid.to_string())).unwrap();
            MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config }
        }
    }
    impl Drop for Node {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(self.0.root());
        }
    }

    #[test]
    fn metadata_lives_in_its_own_files_and_comes_back_with_its_types() {
        let node = Node::new("docs");
        let machines = Machines::new(&node.0);
        let uuid = InstanceUuid::random();
        let mut file = node.machine(uuid);
        file.config.tags.insert("odd key".into(), 42.into());
        file.config.customer_metadata.insert("a".into(), true.into());
        machines.write(&file).unwrap();
        machines.write_documents(&file).unwrap();
        let text = fs::read_to_string(node.0.machine(uuid)).unwrap();
        assert!(!text.contains("odd key") && !text.contains("customer_metadata"), "{text}");
        let back = machines.read(uuid).unwrap();
        assert_eq!(back.file.config, file.config);
        assert_eq!(machines.uuids().unwrap(), [uuid]);
    }

    /// instances case 65
    #[test]
    fn last_modified_strictly_increases() {
        let node = Node::new("mtime");
        let machines = Machines::new(&node.0);
        let uuid = InstanceUuid::random();
        let file = node.machine(uuid);
        machines.write(&file).unwrap();
        let mut last = machines.read(uuid).unwrap().modified;
        for round in 0..20 {
            if round % 2 == 0 {
                machines.write(&file).unwrap();
            } else {
                machines.touch(uuid).unwrap();
            }
            let now = machines.read(uuid).unwrap().modified;
            assert!(now > last);
            last = now;
        }
    }

    /// instances case 73
    #[test]
    fn a_truncated_machine_file_is_an_instance_that_cannot_be_read() {
        let node = Node::new("broken");
        let machines = Machines::new(&node.0);
        let (good, bad) = (InstanceUuid::random(), InstanceUuid::random());
        machines.write(&node.machine(good)).unwrap();
        fs::write(node.0.machine(bad), "{\"uuid\": \"").unwrap();
        assert_eq!(machines.uuids().unwrap().len(), 2);
        assert!(matches!(machines.read(bad), Err(InstanceError::Unreadable { .. })));
        assert!(machines.read(good).is_ok() && machines.exists(bad));
        assert!(matches!(machines.read(InstanceUuid::random()), Err(InstanceError::NotFound { .. })));
    }

    #[test]
    fn without_the_marker_there_is_no_list_rather_than_an_empty_one() {
        let node = Node::new("marker");
        fs::remove_file(node.0.marker()).unwrap();
        assert!(Machines::new(&node.0).uuids().is_err());
        assert!(!matches!(Machines::new(&node.0).read(InstanceUuid::random()), Err(InstanceError::NotFound { .. })));
    }
}
