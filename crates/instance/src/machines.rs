//! Machine files and the documents beside the root file system: what instances should be.
//!
//! A machine file's name is the instance's existence (ruling 1): a file that cannot be used makes its instance
//! "unreadable", never absent. Changes are made by whoever holds the instance's lock.

mod commit;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use triton_files::{FileError, Layout, read_json, read_optional, remove_if_present, write_json, write_json_volatile};
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

/// A document beside the root that is there and cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The properties of the VM object that are kept in it.
    pub properties: &'static [&'static str],
    /// Why it cannot be used; for the host's eyes.
    pub reason: String,
}

/// One instance, as much of it as can be read: without the properties of its damaged documents.
#[derive(Clone, Debug)]
pub(crate) struct Readable {
    pub(crate) machine: Machine,
    pub(crate) damaged: Vec<Damage>,
}

impl Readable {
    fn whole(machine: Machine) -> Self {
        Self { machine, damaged: Vec::new() }
    }

    /// The instance, if all of it can be read.
    pub(crate) fn entire(self) -> Result<Machine, InstanceError> {
        match self.damaged.into_iter().next() {
            Some(Damage { reason, .. }) => Err(InstanceError::Unreadable { uuid: self.machine.file.config.uuid, reason }),
            None => Ok(self.machine),
        }
    }
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

    /// Reads the machine file alone: identity, lifecycle, storage, NICs, limits; no metadata, tags or routes to rely on.
    ///
    /// # Errors
    /// As [`Machines::read`].
    pub fn read_alone(&self, uuid: InstanceUuid) -> Result<MachineFile, InstanceError> {
        self.layout.check_store()?;
        match self.read_pending(uuid)? {
            Some(file) => Ok(file),
            None => self.read_stored(uuid),
        }
    }

    fn read_stored(&self, uuid: InstanceUuid) -> Result<MachineFile, InstanceError> {
        let unreadable = |e: &dyn std::error::Error| InstanceError::Unreadable { uuid, reason: crate::error::chain_text(e) };
        let bytes = read_optional(&self.layout.machine(uuid)).map_err(|e| unreadable(&e))?.ok_or(InstanceError::NotFound { uuid })?;
        parse(uuid, &bytes)
    }

    /// The whole state that a change under way gives the instance. One that nobody will finish, of an instance that is gone,
    /// does not count.
    fn read_pending(&self, uuid: InstanceUuid) -> Result<Option<MachineFile>, InstanceError> {
        let unreadable = |e: &dyn std::error::Error| InstanceError::Unreadable { uuid, reason: crate::error::chain_text(e) };
        match self.pending(uuid).map_err(|e| unreadable(&e))? {
            Some(bytes) if self.exists(uuid) => parse(uuid, &bytes).map(Some),
            _ => Ok(None),
        }
    }

    /// Reads one instance: its state before or after any change, never between.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`] without a machine file, [`InstanceError::Unreadable`] when a file of it cannot be used.
    pub fn read(&self, uuid: InstanceUuid) -> Result<Machine, InstanceError> {
        self.read_what_can_be(uuid)?.entire()
    }

    /// As [`Machines::read`], but for the documents that cannot be used: those are named.
    pub(crate) fn read_what_can_be(&self, uuid: InstanceUuid) -> Result<Readable, InstanceError> {
        self.layout.check_store()?;
        // A change that began and ended meanwhile replaced the machine file; many of them in a row are as good as none.
        for _ in 0..READS {
            if let Some(file) = self.read_pending(uuid)? {
                let modified = self.modified(&file).max(modified_at(&self.pending_path(uuid)));
                return Ok(Readable::whole(Machine { file, modified: modified.unwrap_or(Timestamp::from_millis(0)) }));
            }
            let before = identity(&self.layout.machine(uuid));
            let read = self.read_files(uuid)?;
            if identity(&self.layout.machine(uuid)) == before && !self.pending_path(uuid).exists() {
                return Ok(read);
            }
        }
        self.read_files(uuid)
    }

    fn read_files(&self, uuid: InstanceUuid) -> Result<Readable, InstanceError> {
        let mut file = self.read_stored(uuid)?;
        let config = self.zonepath(&file).join("config");
        let mut damaged = Vec::new();
        let mut note = |properties, reason: String| damaged.push(Damage { properties, reason });
        let reason = |error: FileError| crate::error::chain_text(&error);
        match read_metadata(&config.join("metadata.json")) {
            Ok(metadata) => {
                file.config.customer_metadata = metadata.customer_metadata;
                file.config.internal_metadata = metadata.internal_metadata;
            }
            Err(error) => note(&["customer_metadata", "internal_metadata"], error),
        }
        match read_json(&config.join("tags.json")) {
            Ok(tags) => file.config.tags = tags.unwrap_or_default(),
            Err(error) => note(&["tags"], reason(error)),
        }
        match read_json(&config.join("routes.json")) {
            Ok(routes) => file.config.routes = routes.unwrap_or_default(),
            Err(error) => note(&["routes"], reason(error)),
        }
        let modified = self.modified(&file);
        Ok(Readable { machine: Machine { file, modified: modified.unwrap_or(Timestamp::from_millis(0)) }, damaged })
    }

    /// The newest change of the instance's files.
    fn modified(&self, file: &MachineFile) -> Option<Timestamp> {
        let zonepath = self.zonepath(file);
        let config = zonepath.join("config");
        let documents = ["metadata.json", "tags.json", "routes.json"].map(|name| config.join(name));
        let paths = [self.layout.machine(file.config.uuid), zonepath.join("lastexited")].into_iter().chain(documents);
        paths.filter_map(|path| modified_at(&path)).max()
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

    /// Writes metadata, tags and routes to `config/` (0700, files 0600: ruling 10), each whole, of an instance that is not complete yet:
    /// before it is, the caller makes all of it durable at once.
    ///
    /// # Errors
    /// When a file cannot be replaced.
    pub fn write_documents(&self, file: &MachineFile) -> Result<(), FileError> {
        let config = self.zonepath(file).join("config");
        Self::make_config(&config)?;
        let metadata = MetadataFile {
            customer_metadata: file.config.customer_metadata.clone(),
            internal_metadata: file.config.internal_metadata.clone(),
        };
        write_json_volatile(&config.join("metadata.json"), &metadata, 0o600)?;
        write_json_volatile(&config.join("routes.json"), &file.config.routes, 0o600)?;
        write_json_volatile(&config.join("tags.json"), &file.config.tags, 0o600)
    }

    fn make_config(config: &Path) -> Result<(), FileError> {
        match fs::DirBuilder::new().mode(0o700).create(config) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(FileError::new("create directory", config, e)),
            _ => Ok(()),
        }
    }

    /// Removes the machine file: the last effect of a deletion.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, uuid: InstanceUuid) -> Result<(), FileError> {
        self.remove_records(uuid)?;
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

/// How often a reader tries to see an instance that is being changed all the time.
const READS: usize = 16;

/// Reads metadata; a file that is no object is no metadata, however little it says.
fn read_metadata(path: &Path) -> Result<MetadataFile, String> {
    match read_json::<JsonMap>(path).map_err(|error| crate::error::chain_text(&error))? {
        None => Ok(MetadataFile::default()),
        Some(map) => serde_json::from_value(Value::Object(map)).map_err(|error| format!("{}: {error}", path.display())),
    }
}

fn parse(uuid: InstanceUuid, bytes: &[u8]) -> Result<MachineFile, InstanceError> {
    let unreadable = |reason: String| InstanceError::Unreadable { uuid, reason };
    let file: MachineFile = serde_json::from_slice(bytes).map_err(|e| unreadable(crate::error::chain_text(&e)))?;
    if file.format > MachineFile::FORMAT {
        return Err(unreadable(format!("its format {} is newer than this software's {}", file.format, MachineFile::FORMAT)));
    }
    if file.config.uuid != uuid {
        return Err(unreadable(format!("it describes {}", file.config.uuid)));
    }
    Ok(file)
}

/// What tells one file at `path` from the one that replaced it.
fn identity(path: &Path) -> Option<(u64, u64, i64, i64)> {
    let metadata = fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
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
mod tests;
