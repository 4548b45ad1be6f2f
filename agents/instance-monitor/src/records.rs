//! Files in the instance's runtime directory by which the monitor's processes, and those that come after them, understand
//! each other. A stable protocol (ruling 58): fields are only added.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json, write_json_volatile};
use triton_types::{InstanceUuid, ProcessRef};

/// `boot.json`: what the current boot was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// The instance's control group; `supervisor`, `monitor`, `payload` and `pivot` are below it.
    pub cgroup: String,
    /// Directory that holds `root` and `lastexited`.
    pub zonepath: PathBuf,
    /// Kills for lack of memory counted in the group before this boot.
    pub oom_kills: u64,
}

/// `end.json`: what the `stop` hook saw at the end of a boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// The guest asked for a reboot.
    pub reboot: bool,
    /// Kills for lack of memory counted in the payload before it was removed: the only place where v1 counts them.
    pub oom_kills: u64,
}

/// The init of the current boot, as the `start-host` hook saw it; what the supervisor is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitNotice {
    /// Init before it became the guest's program.
    pub init: ProcessRef,
}

/// The records of one instance.
#[derive(Clone, Debug)]
pub struct Records {
    directory: PathBuf,
}

impl Records {
    /// Those of `uuid`.
    pub fn new(layout: &Layout, uuid: InstanceUuid) -> Self {
        Self { directory: layout.runtime(uuid) }
    }

    /// The runtime directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Of the current boot.
    pub fn boot(&self) -> Result<Option<BootRecord>, FileError> {
        read_json(&self.directory.join("boot.json"))
    }

    /// Begins a boot: the last one's end is forgotten.
    pub fn begin(&self, record: &BootRecord) -> Result<(), FileError> {
        triton_files::remove_if_present(&self.end_path())?;
        write_json_volatile(&self.directory.join("boot.json"), record, 0o600)
    }

    fn end_path(&self) -> PathBuf {
        self.directory.join("end.json")
    }

    /// How the current boot ended, if its `stop` hook ran.
    pub fn end(&self) -> Result<Option<EndRecord>, FileError> {
        read_json(&self.end_path())
    }

    /// Records the end of the current boot.
    pub fn set_end(&self, record: &EndRecord) -> Result<(), FileError> {
        write_json_volatile(&self.end_path(), record, 0o600)
    }
}
