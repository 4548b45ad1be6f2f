//! What storage is asked for and what it answers, whatever kind it is.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use triton_types::{ImageUuid, Snapshot, Timestamp};

use crate::StorageError;

/// An installed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageDataset {
    /// Identity.
    pub uuid: ImageUuid,
    /// Bytes used: ZFS's `used`; for `dir` as counted when it was committed.
    pub used_bytes: u64,
    /// The image that it is an increment of.
    pub origin: Option<ImageUuid>,
    /// When the dataset was made.
    pub created_at: Timestamp,
}

/// Properties of a new instance's root dataset. `dir` records the quota and ignores the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloneOptions {
    /// MiB; `None` and 0 are no quota.
    pub quota_mib: Option<u64>,
    /// `zfs_root_compression`, such as `lz4` or `gzip-9`.
    pub compression: Option<String>,
    /// `zfs_root_recsize` in bytes.
    pub recordsize: Option<u64>,
    /// `zfs_filesystem_limit`.
    pub filesystem_limit: Option<u64>,
    /// `zfs_snapshot_limit`.
    pub snapshot_limit: Option<u64>,
}

/// Properties of the dataset that an instance's guest manages itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataOptions {
    /// `zfs_data_compression`.
    pub compression: Option<String>,
    /// `zfs_data_recsize` in bytes.
    pub recordsize: Option<u64>,
}

impl CloneOptions {
    /// The quota in bytes, if there is one.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        quota_bytes(self.quota_mib)
    }
}

pub(crate) fn quota_bytes(mib: Option<u64>) -> Option<u64> {
    mib.filter(|&mib| mib > 0).map(|mib| mib.saturating_mul(1 << 20))
}

/// How much an instance uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes used, snapshots included.
    pub used_bytes: u64,
    /// The quota as stored, for the VM object.
    pub quota_bytes: Option<u64>,
    /// Whether the quota is enforced. The status post sums enforced ones only (ruling 49).
    pub enforced: bool,
}

impl Usage {
    /// What the status post counts as quota.
    pub fn enforced_quota_bytes(&self) -> u64 {
        self.quota_bytes.filter(|_| self.enforced).unwrap_or(0)
    }
}

/// Space of the pool as instances can use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolStatus {
    /// Used and available together, bytes.
    pub size_bytes: u64,
    /// `used` of the top dataset; for `dir` of the whole file system.
    pub used_bytes: u64,
    /// `available` of the top dataset; for `dir` what an ordinary user may still take of the file system.
    pub available_bytes: u64,
    /// ZFS's word for the pool's health; `ONLINE` for `dir`.
    pub health: String,
}

/// A snapshot of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// Its name.
    pub name: SnapshotLabel,
    /// When it was made.
    pub created_at: Timestamp,
    /// Bytes reachable through it; never changes (ruling 3).
    pub size_bytes: u64,
}

impl From<SnapshotInfo> for Snapshot {
    fn from(info: SnapshotInfo) -> Self {
        let mib = 1 << 20;
        let size = match info.size_bytes % mib {
            0 => Some((info.size_bytes / mib).into()),
            _ => serde_json::Number::from_f64(info.size_bytes as f64 / mib as f64),
        };
        Self { name: info.name.0, size, created_at: info.created_at }
    }
}

/// The name of a snapshot: 1 to 64 characters of `[A-Za-z0-9_.:%-]` (instances.md section 6.5).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotLabel(String);

/// Before the names of snapshots that are an instance's: others are not listed.
pub(crate) const SNAPSHOT_PREFIX: &str = "vmsnap-";

impl SnapshotLabel {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Name of the snapshot in ZFS, of the directory in `dir`.
    pub(crate) fn stored(&self) -> String {
        format!("{SNAPSHOT_PREFIX}{}", self.0)
    }
}

impl FromStr for SnapshotLabel {
    type Err = StorageError;
    fn from_str(text: &str) -> Result<Self, StorageError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b"-_.:%".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            return Err(StorageError::InvalidSnapshotName);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for SnapshotLabel {
    type Error = StorageError;
    fn try_from(text: String) -> Result<Self, StorageError> {
        text.parse()
    }
}

impl From<SnapshotLabel> for String {
    fn from(label: SnapshotLabel) -> Self {
        label.0
    }
}

impl fmt::Display for SnapshotLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// instances case 66
    #[test]
    fn names_of_snapshots_are_checked() {
        assert!("20130131180505".parse::<SnapshotLabel>().is_ok());
        assert!("a-b_c.d:e%".parse::<SnapshotLabel>().is_ok());
        for bad in ["", "a b", "!@#", "a,b", "a\n", "a/b", &"x".repeat(80)] {
            assert_eq!(bad.parse::<SnapshotLabel>().unwrap_err().to_string(), "Invalid snapshot name", "{bad:?}");
        }
    }

    #[test]
    fn sizes_in_the_vm_object_are_mib() {
        let info = |size_bytes| SnapshotInfo { name: "a".parse().unwrap(), created_at: Timestamp::from_millis(0), size_bytes };
        assert_eq!(Snapshot::from(info(3 << 20)).size.unwrap().to_string(), "3");
        assert_eq!(Snapshot::from(info((3 << 20) + (1 << 19))).size.unwrap().to_string(), "3.5");
    }

    #[test]
    fn a_quota_counts_in_the_status_only_where_it_is_enforced() {
        let usage = |enforced, quota_bytes| Usage { used_bytes: 1, quota_bytes, enforced }.enforced_quota_bytes();
        assert_eq!((usage(true, Some(5)), usage(false, Some(5)), usage(true, None)), (5, 0, 0));
        assert_eq!((quota_bytes(Some(0)), quota_bytes(Some(2))), (None, Some(2 << 20)));
    }
}
