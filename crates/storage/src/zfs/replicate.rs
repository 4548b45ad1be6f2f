//! Copies of an instance by streams: the snapshots of its datasets, and each stream of a plan.

use std::io::{Read, Write};

use triton_files::steps::reached;
use triton_types::{ImageUuid, InstanceUuid};
use triton_zfs::{CanMount, DatasetName, FailureKind, Properties, SnapshotName, SnapshotRow};

use super::{FINAL, INSTALL, NOAUTO, ZfsPool, data::DATA, name, patience::patiently};
use crate::{
    CloneOptions, DataOptions, StorageError,
    layout::VOLUMES,
    model::SNAPSHOT_PREFIX,
    replica::{DATA_PLACE, Part, Point, Points, Replicate, SYNC_PREFIX},
};

/// Levels below an instance that its guest may have made: more than anybody makes.
const DEEP: u8 = 50;

impl ZfsPool {
    fn at(&self, instance: InstanceUuid, place: &str) -> Result<DatasetName, StorageError> {
        let components = place.split('/').filter(|component| !component.is_empty());
        components.into_iter().try_fold(self.dataset(&instance)?, |dataset, component| name(dataset.child(component)))
    }

    fn marks(&self, dataset: &DatasetName, wanted: impl Fn(&str) -> bool) -> Result<Vec<Point>, StorageError> {
        let rows = self.zfs.list_snapshots(dataset, 1)?;
        let points = rows.iter().filter(|row| wanted(row.name.name()));
        Ok(points.map(|row| Point { name: row.name.name().to_owned(), guid: row.guid }).collect())
    }

    fn guid(&self, snapshot: &SnapshotName) -> Result<Option<u64>, StorageError> {
        if !self.zfs.snapshot_exists(snapshot)? {
            return Ok(None);
        }
        let rows = self.zfs.list_snapshots(&snapshot.dataset(), 1)?;
        Ok(rows.iter().find(|row| row.name == *snapshot).map(|row| row.guid))
    }

    /// All datasets of an instance that a copy is made of, those that its guest made too.
    fn everything(&self, instance: InstanceUuid) -> Result<Vec<DatasetName>, StorageError> {
        let own = self.require_instance(instance)?;
        let mut all = vec![own.clone()];
        all.extend(self.volumes_below(&own)?);
        let data = Self::data_of(&own)?;
        if self.zfs.exists(&data)? {
            all.extend(self.zfs.list(&data, DEEP)?.into_iter().map(|dataset| dataset.name));
        }
        Ok(all)
    }
}

impl Replicate for ZfsPool {
    fn points(&self, instance: InstanceUuid) -> Result<Points, StorageError> {
        let own = self.dataset(&instance)?;
        let mut points = Points::new();
        if !self.zfs.exists(&own)? {
            return Ok(points);
        }
        let is_mark = |name: &str| name.starts_with(SYNC_PREFIX);
        let is_ours = |name: &str| name == INSTALL || name.starts_with(SNAPSHOT_PREFIX) || is_mark(name);
        points.insert(String::new(), self.marks(&own, is_ours)?);
        for volume in self.volumes_below(&own)? {
            points.insert(format!("{VOLUMES}/{}", volume.leaf()), self.marks(&volume, is_ours)?);
        }
        let data = Self::data_of(&own)?;
        if self.zfs.exists(&data)? {
            points.insert(DATA_PLACE.to_owned(), self.marks(&data, is_mark)?);
        }
        Ok(points)
    }

    fn origin(&self, instance: InstanceUuid) -> Result<Option<(ImageUuid, u64)>, StorageError> {
        let rows = self.zfs.list(&self.require_instance(instance)?, 0)?;
        let Some(origin) = rows.first().and_then(|row| row.origin.clone()) else { return Ok(None) };
        let image = origin.dataset().leaf().parse::<ImageUuid>().ok().filter(|_| origin.name() == FINAL);
        Ok(image.zip(self.guid(&origin)?))
    }

    fn has_image(&self, image: ImageUuid, guid: u64) -> Result<bool, StorageError> {
        Ok(self.guid(&self.final_of(image)?)? == Some(guid))
    }

    fn mark_for_copy(&self, instance: InstanceUuid, stored: &str) -> Result<(), StorageError> {
        let all = self.everything(instance)?;
        let marks: Vec<SnapshotName> = all.iter().map(|dataset| name(dataset.snapshot(stored))).collect::<Result<_, _>>()?;
        Ok(self.zfs.snapshot_together(&marks)?)
    }

    fn forget_marks(&self, instance: InstanceUuid, keep: usize) -> Result<(), StorageError> {
        for dataset in self.everything(instance)? {
            let rows = self.zfs.list_snapshots(&dataset, 1)?;
            let marks: Vec<&SnapshotRow> = rows.iter().filter(|row| row.name.name().starts_with(SYNC_PREFIX)).collect();
            for mark in &marks[..marks.len().saturating_sub(keep)] {
                self.zfs.destroy_snapshot(&mark.name)?;
            }
        }
        Ok(())
    }

    fn send_part(&self, instance: InstanceUuid, part: &Part, out: &mut dyn Write) -> Result<(), StorageError> {
        let dataset = self.at(instance, &part.place)?;
        let to = name(dataset.snapshot(&part.to.name))?;
        let from = match (&part.from, part.origin) {
            (Some(from), _) => Some(name(dataset.snapshot(&from.name))?),
            (None, Some(image)) => Some(self.final_of(image)?),
            (None, None) => None,
        };
        Ok(self.zfs.send_to(&to, from.as_ref(), part.place == DATA_PLACE, out)?)
    }

    fn receive_part(&self, instance: InstanceUuid, part: &Part, stream: &mut dyn Read) -> Result<(), StorageError> {
        let dataset = self.at(instance, &part.place)?;
        let to = name(dataset.snapshot(&part.to.name))?;
        let Some(from) = &part.from else {
            if part.place.starts_with(VOLUMES) {
                let parent = name(self.dataset(&instance)?.child(VOLUMES))?;
                match self.zfs.create(&parent, &Properties { canmount: Some(CanMount::Off), ..NOAUTO }) {
                    Err(error) if error.kind() != FailureKind::Exists => return Err(error.into()),
                    _ => {}
                }
            }
            let origin = part.origin.map(|image| self.require_image(image)).transpose()?;
            self.zfs.receive(&to, origin.as_ref(), stream)?;
            reached("storage.replica.received");
            return Ok(());
        };
        // By the number, not by the name alone: what is taken away from a dataset is only what came after this very snapshot.
        if self.guid(&name(dataset.snapshot(&from.name))?)? != Some(from.guid) {
            return Err(StorageError::NotFound { what: "snapshot", name: format!("{} of {dataset}", from.name) });
        }
        if part.place != DATA_PLACE {
            if part.place.is_empty() {
                self.unmount_all(&self.volumes_below(&dataset)?)?;
            }
            patiently(|| self.zfs.unmount(&dataset))?;
            // What comes may for a moment need more than the quota leaves.
            self.zfs.set(&dataset, &Properties { quota: Some(0), ..Properties::default() })?;
        }
        self.zfs.receive_on(&to, stream)?;
        reached("storage.replica.received");
        Ok(())
    }

    fn complete_copy(&self, instance: InstanceUuid, options: &CloneOptions, data: Option<&DataOptions>) -> Result<(), StorageError> {
        let own = self.require_instance(instance)?;
        let ours = Properties { devices: Some(false), ..NOAUTO };
        self.zfs.set(&own, &ours)?;
        for volume in self.volumes_below(&own)? {
            self.zfs.set(&volume, &ours)?;
        }
        self.set_all(instance, options)?;
        if let Some(data) = data {
            // Its properties came with it, but for one that it was made by: who receives a dataset mounts it unless that is so.
            self.zfs.set(&name(own.child(DATA))?, &Properties { zoned: Some(true), ..Properties::default() })?;
            self.set_guests_dataset(instance, data)?;
        }
        let install = self.install_of(instance)?;
        if !self.zfs.snapshot_exists(&install)? {
            self.zfs.snapshot(&install)?;
        }
        self.zfs.mount(&own)?;
        self.mount_all(&self.volumes_below(&own)?)?;
        reached("storage.replica.done");
        Ok(())
    }
}
