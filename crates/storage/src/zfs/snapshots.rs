//! Snapshots of an instance's dataset (instances.md section 6.5).

use std::collections::BTreeMap;

use triton_files::steps::reached;
use triton_types::InstanceUuid;
use triton_zfs::{FailureKind, SnapshotName, SnapshotRow, ZfsError};

use super::{ZfsPool, name, seconds};
use crate::{SnapshotInfo, SnapshotLabel, StorageError, model::SNAPSHOT_PREFIX};

impl ZfsPool {
    fn label(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<SnapshotName, StorageError> {
        name(self.dataset(&instance)?.snapshot(&label.stored()))
    }

    pub(super) fn make_snapshot(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        let dataset = self.require_instance(instance)?;
        reached("storage.snapshot.begun");
        // Of one moment, the volumes with the rest.
        let mut all = vec![self.label(instance, label)?];
        for volume in self.volumes_below(&dataset)? {
            all.push(name(volume.snapshot(&label.stored()))?);
        }
        self.zfs.snapshot_together(&all).map_err(|error| match error.kind() {
            FailureKind::Exists => StorageError::Exists { what: "snapshot", name: label.to_string() },
            _ => error.into(),
        })?;
        reached("storage.snapshot.done");
        Ok(())
    }

    pub(super) fn roll_back(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        reached("storage.rollback.begun");
        let dataset = self.dataset(&instance)?;
        let volumes = self.volumes_below(&dataset)?;
        // What a volume is mounted on may not have been there then.
        self.unmount_all(&volumes)?;
        let rolled_back = self.roll_all_back(instance, label);
        self.mount_all(&volumes)?;
        rolled_back?;
        reached("storage.rollback.done");
        Ok(())
    }

    /// The instance's own dataset, then its volumes; one that was made after the snapshot stays as it is.
    fn roll_all_back(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        let dataset = self.dataset(&instance)?;
        self.zfs.rollback_recursive(&self.label(instance, label)?).map_err(|error| missing_snapshot(error, instance, label))?;
        reached("storage.rollback.root-done");
        for snapshot in self.snapshots_of_volumes(&dataset, &label.stored())? {
            self.zfs.rollback_recursive(&snapshot)?;
        }
        Ok(())
    }

    pub(super) fn remove_snapshot(&self, instance: InstanceUuid, label: &SnapshotLabel) -> Result<(), StorageError> {
        let snapshot = self.label(instance, label)?;
        if !self.zfs.snapshot_exists(&snapshot)? {
            return Err(StorageError::NotFound { what: "snapshot", name: format!("{label} of instance {instance}") });
        }
        // The instance's own last: as long as any is there, so is what names them.
        for snapshot in self.snapshots_of_volumes(&snapshot.dataset(), &label.stored())? {
            self.zfs.destroy_snapshot(&snapshot)?;
        }
        Ok(self.zfs.destroy_snapshot(&snapshot)?)
    }

    pub(super) fn list_snapshots(&self, instance: InstanceUuid) -> Result<Vec<SnapshotInfo>, StorageError> {
        self.lists.of(instance, &self.places.zonepath(instance), || {
            let rows = self.zfs.list_snapshots(&self.require_instance(instance)?, 1)?;
            Ok(newest_first(rows.iter()))
        })
    }

    pub(super) fn list_all_snapshots(&self) -> Result<BTreeMap<InstanceUuid, Vec<SnapshotInfo>>, StorageError> {
        let mut by_instance: BTreeMap<InstanceUuid, Vec<&SnapshotRow>> = BTreeMap::new();
        let rows = self.zfs.list_snapshots(&self.top, 2)?;
        for row in &rows {
            if let Ok(instance) = row.name.dataset().leaf().parse() {
                by_instance.entry(instance).or_default().push(row);
            }
        }
        let listed = by_instance.into_iter().map(|(instance, rows)| (instance, newest_first(rows.into_iter())));
        let listed: BTreeMap<InstanceUuid, Vec<SnapshotInfo>> = listed.filter(|(_, snapshots)| !snapshots.is_empty()).collect();
        self.lists.keep(|instance| listed.contains_key(instance));
        Ok(listed)
    }
}

fn missing_snapshot(error: ZfsError, instance: InstanceUuid, label: &SnapshotLabel) -> StorageError {
    match error.kind() {
        FailureKind::NotFound => StorageError::NotFound { what: "snapshot", name: format!("{label} of instance {instance}") },
        _ => error.into(),
    }
}

/// Those of one instance that are snapshots of Triton's, from ZFS's own order: oldest first, which tells those of one second apart.
fn newest_first<'a>(rows: impl DoubleEndedIterator<Item = &'a SnapshotRow>) -> Vec<SnapshotInfo> {
    let ours = rows.rev().filter_map(|row| {
        let name = row.name.name().strip_prefix(SNAPSHOT_PREFIX)?.parse().ok()?;
        Some(SnapshotInfo { name, created_at: seconds(row.creation), size_bytes: row.referenced })
    });
    let mut ours: Vec<SnapshotInfo> = ours.collect();
    ours.sort_by_key(|info| std::cmp::Reverse(info.created_at));
    ours
}
