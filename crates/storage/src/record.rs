//! `/var/triton/storage.json`: which kind of storage was chosen, once for the life of the node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use triton_files::{Layout, read_json, write_json};
use triton_types::StorageKind;

use crate::StorageError;

/// Version of the record that this program writes.
const FORMAT: u32 = 1;

/// The record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    pub kind: StorageKind,
    pub pool: String,
}

pub(crate) fn path(layout: &Layout) -> PathBuf {
    layout.state().join("storage.json")
}

/// Pools are directories directly below the root and ZFS pools: the stricter rule holds for both.
pub(crate) fn check_pool(pool: &str) -> Result<(), StorageError> {
    let legal = pool.parse::<triton_zfs::DatasetName>().is_ok_and(|name| name.pool() == pool);
    if legal && pool.len() <= 64 { Ok(()) } else { Err(StorageError::InvalidPool(pool.chars().take(80).collect())) }
}

/// Reads the record; `None` when nothing was chosen.
pub(crate) fn read(layout: &Layout) -> Result<Option<Record>, StorageError> {
    let Some(record) = read_json::<Record>(&path(layout))? else { return Ok(None) };
    if record.format > FORMAT {
        return Err(StorageError::NewerFormat { record: path(layout), format: record.format });
    }
    check_pool(&record.pool)?;
    Ok(Some(record))
}

/// Checks that `kind` and `pool` are what was chosen before, if anything was. True when they were.
pub(crate) fn agrees(layout: &Layout, kind: StorageKind, pool: &str) -> Result<bool, StorageError> {
    check_pool(pool)?;
    match read(layout)? {
        None => Ok(false),
        Some(record) if record.kind == kind && record.pool == pool => Ok(true),
        Some(record) => {
            Err(StorageError::OtherChosen { kind: record.kind, pool: record.pool, wanted_kind: kind, wanted_pool: pool.to_owned() })
        }
    }
}

/// Writes the choice.
pub(crate) fn write(layout: &Layout, kind: StorageKind, pool: &str) -> Result<(), StorageError> {
    let record = Record { format: FORMAT, kind, pool: pool.to_owned() };
    Ok(write_json(&path(layout), &record, 0o644)?)
}
