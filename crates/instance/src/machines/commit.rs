//! Changes of more than one of an instance's files, seen by everybody whole or not at all.
//!
//! The new state is first written whole to `<uuid>.pending` beside the machine file: from that rename on it is the state of the
//! instance, for readers too. Then the files themselves follow, and the pending one goes. Whoever finds it there with the
//! instance's lock in hand finishes what was begun.

use std::path::PathBuf;

use triton_files::{FileError, remove_if_present, steps, write_json};
use triton_types::{InstanceUuid, MachineFile, Timestamp};

use super::{Machines, MetadataFile};
use crate::InstanceError;

const PENDING: &str = "pending";

/// Which files of an instance a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parts {
    metadata: bool,
    routes: bool,
    tags: bool,
    machine: bool,
}

impl Parts {
    const ALL: Self = Self { metadata: true, routes: true, tags: true, machine: true };

    fn between(old: &MachineFile, new: &MachineFile) -> Self {
        Self {
            metadata: old.config.customer_metadata != new.config.customer_metadata
                || old.config.internal_metadata != new.config.internal_metadata,
            routes: old.config.routes != new.config.routes,
            tags: old.config.tags != new.config.tags,
            machine: bare(old) != bare(new),
        }
    }

    fn count(self) -> usize {
        [self.metadata, self.routes, self.tags, self.machine].into_iter().filter(|changed| *changed).count()
    }
}

/// What the machine file itself holds.
fn bare(file: &MachineFile) -> MachineFile {
    let mut bare = file.clone();
    bare.format = MachineFile::FORMAT;
    let config = &mut bare.config;
    for map in [&mut config.customer_metadata, &mut config.internal_metadata, &mut config.tags, &mut config.routes] {
        map.clear();
    }
    bare
}

impl Machines {
    /// Where the state of a change under way is.
    pub(crate) fn pending_path(&self, uuid: InstanceUuid) -> PathBuf {
        self.side_path(uuid, PENDING)
    }

    /// Where a record of a change under way is, beside the machine file; no such name counts as an instance.
    pub(crate) fn side_path(&self, uuid: InstanceUuid, kind: &str) -> PathBuf {
        self.layout.machines().join(format!("{uuid}.{kind}"))
    }

    /// Removes the records of changes under way, of an instance that is being deleted.
    pub(super) fn remove_records(&self, uuid: InstanceUuid) -> Result<(), FileError> {
        [PENDING, "storage", "reprovision"].iter().try_for_each(|kind| remove_if_present(&self.side_path(uuid, kind)))
    }

    /// Makes `new` the state of the instance instead of `old`; after an error or a kill it is one of the two. `last_modified`
    /// strictly increases (ruling 3).
    ///
    /// # Errors
    /// When a file cannot be written. Nothing was changed then, unless that failed too: the next change completes it.
    pub(crate) fn commit(&self, old: &MachineFile, new: &MachineFile) -> Result<(), InstanceError> {
        let uuid = new.config.uuid;
        let mut parts = Parts::between(old, new);
        let before = self.read(uuid)?.modified;
        if parts.count() > 1 {
            // Readers tell by the machine file that a change came between.
            parts.machine = true;
            let pending = self.pending_path(uuid);
            write_json(&pending, new, 0o600)?;
            Self::advance(&pending, before)?;
            steps::reached("update.pending");
        }
        self.follow(new, parts, before).inspect_err(|_| {
            // A dataset that is full, say. What was written is put back; where that fails too, the next change settles it.
            if let Err(error) = self.take_back(old, before) {
                tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "a change that failed is not taken back yet");
            }
        })
    }

    /// Makes the files those of `old` again, and the change under way not count.
    fn take_back(&self, old: &MachineFile, before: Timestamp) -> Result<(), InstanceError> {
        let stored = self.read_files(old.config.uuid)?.entire()?.file;
        self.follow(old, Parts::between(&stored, old), before)
    }

    /// Finishes a change that was killed after it counted. True if there was one.
    ///
    /// # Errors
    /// As [`Machines::commit`].
    pub(crate) fn finish_pending(&self, uuid: InstanceUuid) -> Result<bool, InstanceError> {
        if !self.pending_path(uuid).exists() {
            return Ok(false);
        }
        let machine = self.read(uuid)?;
        self.follow(&machine.file, Parts::ALL, machine.modified)?;
        Ok(true)
    }

    /// Writes the files that `parts` names; the pending state goes last.
    fn follow(&self, new: &MachineFile, parts: Parts, before: Timestamp) -> Result<(), InstanceError> {
        let config = self.zonepath(new).join("config");
        let mut last: Option<PathBuf> = None;
        if parts.metadata || parts.routes || parts.tags {
            Self::make_config(&config)?;
        }
        if parts.metadata {
            let metadata = MetadataFile {
                customer_metadata: new.config.customer_metadata.clone(),
                internal_metadata: new.config.internal_metadata.clone(),
            };
            last = Some(Self::put(config.join("metadata.json"), &metadata)?);
            steps::reached("update.metadata");
        }
        if parts.routes {
            last = Some(Self::put(config.join("routes.json"), &new.config.routes)?);
            steps::reached("update.routes");
        }
        if parts.tags {
            last = Some(Self::put(config.join("tags.json"), &new.config.tags)?);
            steps::reached("update.tags");
        }
        if parts.machine {
            last = Some(Self::put(self.layout.machine(new.config.uuid), &bare(new))?);
            steps::reached("update.machine");
        }
        if let Some(path) = last {
            Self::advance(&path, before)?;
        }
        Ok(remove_if_present(&self.pending_path(new.config.uuid))?)
    }

    fn put<T: serde::Serialize>(path: PathBuf, value: &T) -> Result<PathBuf, FileError> {
        write_json(&path, value, 0o600)?;
        Ok(path)
    }

    /// Makes `last_modified` later than `before`, also if the files that told it went back in time with a snapshot.
    ///
    /// # Errors
    /// When the machine file cannot be touched.
    pub(crate) fn touch_after(&self, uuid: InstanceUuid, before: Timestamp) -> Result<(), FileError> {
        let path = self.layout.machine(uuid);
        super::set_modified(&path, Timestamp::now().max(Timestamp::from_millis(before.as_millis() + 1)))
    }

    /// The change under way, if any, as bytes.
    pub(super) fn pending(&self, uuid: InstanceUuid) -> Result<Option<Vec<u8>>, FileError> {
        triton_files::read_optional(&self.pending_path(uuid))
    }
}
