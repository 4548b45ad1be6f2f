//! Copies of an instance on another node that are brought up to date by what has changed (cn-agent.md section 3.12): which streams
//! of ZFS that takes. The plan is pure; [`Storage`]'s methods carry it out.
//!
//! Snapshots tell both nodes where they are: a copy that has a snapshot of the original, told by its guid, needs only what came
//! after. What travels are the instance's own snapshots and those that are made for this, called `vm-migration-…`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};

use serde::{Deserialize, Serialize};
use triton_types::{ImageUuid, InstanceUuid, StorageKind, VolumeUuid};

use crate::{CloneOptions, DataOptions, Storage, StorageError};

/// Before the names of snapshots that were made for a copy (cn-agent.md section 3.12, `remove-sync-snapshots`).
pub(crate) const SYNC_PREFIX: &str = "vm-migration-";
/// The place of the dataset that the guest manages: all below it goes in one stream.
pub(crate) const DATA_PLACE: &str = "data";

/// A snapshot, as both nodes know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its name, without dataset.
    pub name: String,
    /// ZFS's number, the same in every copy.
    pub guid: u64,
}

/// The snapshots of an instance's datasets, oldest first, by the place of each below the instance's own, which is the empty text.
pub type Points = BTreeMap<String, Vec<Point>>;

/// One stream: what brings a dataset to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The dataset's place.
    pub place: String,
    /// The snapshot that both have; none for the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Point>,
    /// The snapshot that it brings.
    pub to: Point,
    /// The whole is the difference to this image, which both have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<ImageUuid>,
}

/// What a copy takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The copy that is there, if any, is of no use and has to go first.
    pub anew: bool,
    /// Streams, in order.
    pub parts: Vec<Part>,
}

/// How `copy` becomes what `original` is. `image` is the image that the original was made from, if the copy's node has it too.
pub fn plan(original: &Points, copy: &Points, image: Option<ImageUuid>) -> Plan {
    let bases: Option<BTreeMap<&str, Option<usize>>> = original
        .iter()
        .map(|(place, points)| match copy.get(place) {
            None => Some((place.as_str(), None)),
            Some(there) => {
                let guids: BTreeSet<u64> = there.iter().map(|point| point.guid).collect();
                points.iter().rposition(|point| guids.contains(&point.guid)).map(|at| (place.as_str(), Some(at)))
            }
        })
        .collect();
    // A dataset that has other snapshots than the original's is no copy of it; one without the instance's own is none at all.
    let usable = bases.filter(|bases| copy.is_empty() || bases.get("").is_some_and(Option::is_some));
    let anew = usable.is_none() && !copy.is_empty();
    let bases = usable.unwrap_or_default();
    let mut parts = Vec::new();
    for (place, points) in original {
        let base = bases.get(place.as_str()).copied().flatten();
        let mut from = base.map(|at| points[at].clone());
        let mut rest = &points[base.map_or(0, |at| at + 1)..];
        if place == DATA_PLACE {
            // Its stream has the snapshots between in it, which are the guest's business.
            rest = &rest[rest.len().saturating_sub(1)..];
        }
        for to in rest {
            let origin = image.filter(|_| from.is_none() && place.is_empty());
            parts.push(Part { place: place.clone(), from: from.replace(to.clone()), to: to.clone(), origin });
        }
    }
    Plan { anew, parts }
}

/// What a kind of storage does for copies. The rules are on [`Storage`]'s methods; a kind that says nothing cannot.
pub(crate) trait Replicate {
    fn points(&self, _: InstanceUuid) -> Result<Points, StorageError> {
        unsupported()
    }
    fn origin(&self, _: InstanceUuid) -> Result<Option<(ImageUuid, u64)>, StorageError> {
        unsupported()
    }
    fn has_image(&self, _: ImageUuid, _: u64) -> Result<bool, StorageError> {
        unsupported()
    }
    fn mark_for_copy(&self, _: InstanceUuid, _: &str) -> Result<(), StorageError> {
        unsupported()
    }
    fn forget_marks(&self, _: InstanceUuid, _: usize) -> Result<(), StorageError> {
        unsupported()
    }
    fn send_part(&self, _: InstanceUuid, _: &Part, _: &mut dyn Write) -> Result<(), StorageError> {
        unsupported()
    }
    fn receive_part(&self, _: InstanceUuid, _: &Part, _: &mut dyn Read) -> Result<(), StorageError> {
        unsupported()
    }
    fn complete_copy(&self, _: InstanceUuid, _: &CloneOptions, _: Option<&DataOptions>) -> Result<(), StorageError> {
        unsupported()
    }
}

fn unsupported<T>() -> Result<T, StorageError> {
    Err(StorageError::Unsupported { kind: StorageKind::Dir, what: "copy by streams of ZFS" })
}

impl Storage {
    /// Whether copies can be made by streams of ZFS.
    pub fn can_replicate(&self) -> bool {
        self.kind() == StorageKind::Zfs
    }

    /// The snapshots by which a copy can be brought up to date; none at all when the instance has no dataset.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for `dir`; what ZFS says.
    pub fn points(&self, instance: InstanceUuid) -> Result<Points, StorageError> {
        self.backend().points(instance)
    }

    /// The image that the instance was made from and its snapshot's guid, if it is still a clone of it.
    ///
    /// # Errors
    /// As [`Storage::points`].
    pub fn origin(&self, instance: InstanceUuid) -> Result<Option<(ImageUuid, u64)>, StorageError> {
        self.backend().origin(instance)
    }

    /// Whether this image is installed here, and the same to the bit.
    ///
    /// # Errors
    /// As [`Storage::points`].
    pub fn has_image(&self, image: ImageUuid, guid: u64) -> Result<bool, StorageError> {
        self.backend().has_image(image, guid)
    }

    /// Makes a snapshot of everything that belongs to the instance, of one moment, for a copy.
    ///
    /// # Errors
    /// As [`Storage::points`].
    pub fn mark_for_copy(&self, instance: InstanceUuid, name: &str) -> Result<(), StorageError> {
        self.backend().mark_for_copy(instance, &format!("{SYNC_PREFIX}{name}"))
    }

    /// Removes snapshots that were made for copies, but the newest `keep`.
    ///
    /// # Errors
    /// As [`Storage::points`].
    pub fn forget_marks(&self, instance: InstanceUuid, keep: usize) -> Result<(), StorageError> {
        self.backend().forget_marks(instance, keep)
    }

    /// Writes one part of a plan.
    ///
    /// # Errors
    /// When a snapshot is gone, or the writer fails.
    pub fn send_part(&self, instance: InstanceUuid, part: &Part, out: &mut dyn Write) -> Result<(), StorageError> {
        self.backend().send_part(instance, part, out)
    }

    /// Takes one part of a plan: what was changed in the copy since is lost. The copy is in use by nobody.
    ///
    /// # Errors
    /// When it is no such stream, the copy lacks what it begins from, or space runs out.
    pub fn receive_part(&self, instance: InstanceUuid, part: &Part, stream: &mut dyn Read) -> Result<(), StorageError> {
        check_place(&part.place)?;
        self.backend().receive_part(instance, part, stream)
    }

    /// Gives the datasets of a copy that has all its parts their properties, and mounts them.
    ///
    /// # Errors
    /// What ZFS says.
    pub fn complete_copy(&self, instance: InstanceUuid, options: &CloneOptions, data: Option<&DataOptions>) -> Result<(), StorageError> {
        self.backend().complete_copy(instance, options, data)
    }
}

/// A place comes from another node: it is one of those that there are.
fn check_place(place: &str) -> Result<(), StorageError> {
    let volume = place.strip_prefix("volumes/").is_some_and(|name| name.parse::<VolumeUuid>().is_ok());
    if place.is_empty() || place == DATA_PLACE || volume {
        return Ok(());
    }
    Err(StorageError::Content(format!("the stream is of {place:?}, which no instance has").into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(of: &[(&str, &[u64])]) -> Points {
        let point = |guid: &u64| Point { name: format!("s{guid}"), guid: *guid };
        of.iter().map(|(place, guids)| ((*place).to_owned(), guids.iter().map(point).collect())).collect()
    }

    fn steps(plan: &Plan) -> Vec<(&str, Option<u64>, u64)> {
        plan.parts.iter().map(|part| (part.place.as_str(), part.from.as_ref().map(|from| from.guid), part.to.guid)).collect()
    }

    #[test]
    fn a_first_copy_has_every_snapshot_and_begins_from_the_image_if_both_have_it() {
        let image = ImageUuid::random();
        let original = points(&[("", &[1, 2, 3]), ("data", &[7, 8]), ("volumes/v", &[3])]);
        for image in [None, Some(image)] {
            let plan = plan(&original, &Points::new(), image);
            let wanted = [("", None, 1), ("", Some(1), 2), ("", Some(2), 3), ("data", None, 8), ("volumes/v", None, 3)];
            assert_eq!((steps(&plan), plan.anew), (wanted.to_vec(), false));
            let origins: Vec<_> = plan.parts.iter().map(|part| part.origin).collect();
            assert_eq!(origins, [image, None, None, None, None]);
        }
    }

    #[test]
    fn a_later_copy_has_what_came_after_the_newest_snapshot_that_both_have() {
        let copy = points(&[("", &[1, 2, 3, 99]), ("data", &[7])]);
        let original = points(&[("", &[1, 3, 4, 5]), ("data", &[7, 8, 9]), ("volumes/v", &[5])]);
        let plan = plan(&original, &copy, Some(ImageUuid::random()));
        let wanted = [("", Some(3), 4), ("", Some(4), 5), ("data", Some(7), 9), ("volumes/v", None, 5)];
        assert_eq!((steps(&plan), plan.anew), (wanted.to_vec(), false), "a volume that is new goes whole");
        assert!(plan.parts.iter().all(|part| part.origin.is_none()));
    }

    #[test]
    fn a_copy_that_has_nothing_in_common_with_the_original_goes() {
        let original = points(&[("", &[4, 5]), ("volumes/v", &[5])]);
        for copy in
            [points(&[("", &[1, 2])]), points(&[("", &[])]), points(&[("", &[4]), ("volumes/v", &[77])]), points(&[("volumes/v", &[5])])]
        {
            let plan = plan(&original, &copy, None);
            assert_eq!((steps(&plan)[0], plan.anew), (("", None, 4), true), "{copy:?}");
        }
    }

    #[test]
    fn places_of_a_stream_are_those_of_an_instance() {
        for good in ["", "data", "volumes/6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c12"] {
            assert!(check_place(good).is_ok(), "{good}");
        }
        for bad in ["..", "data/x", "volumes", "volumes/x", "volumes/../y", "/", "@s"] {
            assert!(check_place(bad).is_err(), "{bad}");
        }
    }
}
