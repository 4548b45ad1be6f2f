//! `.dataset.json`: what ZFS would keep as properties.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use triton_files::{FileError, read_json, write_json, write_json_volatile};
use triton_types::{ImageUuid, Timestamp};

/// Name of the record in the dataset's directory.
pub(super) const FILE: &str = ".dataset.json";

/// Properties of an image or instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dataset {
    pub format: u32,
    pub created_at: Timestamp,
    /// The image that it was copied from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ImageUuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<u64>,
    /// Of an image, when it was committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub indestructible: bool,
}

impl Dataset {
    pub(super) fn new(origin: Option<ImageUuid>) -> Self {
        Self { format: 1, created_at: Timestamp::now(), origin, quota_bytes: None, used_bytes: None, indestructible: false }
    }

    fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// The record in `directory`; one that was lost counts as a dataset without properties.
    pub(super) fn read(directory: &Path) -> Result<Self, FileError> {
        Ok(read_json(&Self::path(directory))?.unwrap_or_else(|| Self { created_at: Timestamp::from_millis(0), ..Self::new(None) }))
    }

    /// Without waiting for the disk, for a dataset that is not complete.
    pub(super) fn place(&self, directory: &Path) -> Result<(), FileError> {
        write_json_volatile(&Self::path(directory), self, 0o600)
    }

    pub(super) fn write(&self, directory: &Path) -> Result<(), FileError> {
        write_json(&Self::path(directory), self, 0o600)
    }
}
