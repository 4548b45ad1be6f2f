//! `/var/triton/vmadm/machines/<uuid>.json`: what an instance should be (instances.md section 6.1, design section 4).

use serde::{Deserialize, Serialize};

use crate::VmConfig;

/// How far creation or deletion has come; `state` in the file. Running is not stored (instances.md section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifecycle {
    /// Creation has begun. Without a live creator it has failed.
    Provisioning,
    /// Complete.
    Installed,
    /// Deletion has begun and will be resumed.
    Deleting,
}

/// Which kind of storage holds an instance or image. Chosen once per compute node; never mixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// OpenZFS datasets: a production compute node.
    Zfs,
    /// Plain directories; quotas are recorded, not enforced.
    Dir,
}

impl std::fmt::Display for StorageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Zfs => "zfs",
            Self::Dir => "dir",
        })
    }
}

/// How the guest's root owns its files (instances.md section 7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ownership {
    /// Real ids on disk, shifted by an idmapped mount.
    Idmapped,
    /// Shifted ids on disk.
    Shifted,
}

/// The instance's own range of host user and group ids: guest id `n` is host id `base + n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// Host id of the guest's root.
    pub base: u32,
    /// Number of ids, 65536.
    pub size: u32,
}

/// Where and how the instance's files are kept: ours alone, never part of a VM object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageRecord {
    /// The kind of storage.
    pub kind: StorageKind,
    /// The instance's id range, never reused while its dataset exists.
    pub ids: IdRange,
    /// How files are owned; absent until the root exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ownership: Option<Ownership>,
}

/// The machine file: configuration without metadata, tags and routes, which live beside the root file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MachineFile {
    /// Version of the format, 1. Absent (0) in files of the earlier Linux effort.
    #[serde(default)]
    pub format: u32,
    /// How far creation or deletion has come.
    #[serde(rename = "state")]
    pub lifecycle: Lifecycle,
    /// Where its files are; absent in files of the earlier Linux effort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageRecord>,
    /// Everything else. Unknown fields are kept in `config.extra`.
    #[serde(flatten)]
    pub config: VmConfig,
}

impl MachineFile {
    /// The version of the format that this code writes.
    pub const FORMAT: u32 = 1;
}
