//! Lists of an instance's snapshots without a process for each: a file system's own `.zfs/snapshot` names its snapshots, and its time is
//! that of their last change (OpenZFS 2.1 to 2.3: `zpl_snapdir_getattr`, kept over imports by pools with `extensible_dataset`).
//!
//! An agent asks at every change of an instance. Most have no snapshots of Triton's, which the names tell; of the others the list is kept
//! until names or time are others.

use std::{
    collections::HashMap,
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use triton_types::InstanceUuid;

use crate::{SnapshotInfo, StorageError, model::SNAPSHOT_PREFIX};

/// What the directory of snapshots says: when they changed last, and the names of those that are Triton's.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    changed: (i64, i64),
    names: Vec<String>,
}

impl Said {
    /// Of the file system that is mounted at `zonepath`.
    ///
    /// # Errors
    /// When it is not mounted, or keeps the directory to itself (`snapdir=disabled`).
    fn by(zonepath: &Path) -> io::Result<Self> {
        // The time first: what changes from here on is another one's.
        let found = fs::metadata(directory_of(zonepath))?;
        let changed = (found.mtime(), found.mtime_nsec());
        let mut names = Vec::new();
        for name in names_in(zonepath)? {
            names.extend(name?.to_str().filter(|name| name.starts_with(SNAPSHOT_PREFIX)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(Self { changed, names })
    }
}

fn directory_of(zonepath: &Path) -> PathBuf {
    zonepath.join(".zfs/snapshot")
}

/// Names are read, never looked up: that would mount the snapshot.
fn names_in(zonepath: &Path) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
    Ok(fs::read_dir(directory_of(zonepath))?.map(|entry| Ok(entry?.file_name())))
}

/// Whether the file system that is mounted at `zonepath` has a snapshot of this name.
///
/// # Errors
/// As [`Said::by`]: then somebody else has to be asked.
pub(super) fn has(zonepath: &Path, snapshot: &str) -> io::Result<bool> {
    names_in(zonepath)?.try_fold(false, |found, name| Ok(found || name? == snapshot))
}

/// The lists that were asked for, of instances that have snapshots.
#[derive(Debug, Default)]
pub(super) struct Lists(Mutex<HashMap<InstanceUuid, (Said, Vec<SnapshotInfo>)>>);

impl Lists {
    /// The snapshots of an instance; `list` is asked if it must be.
    ///
    /// # Errors
    /// Those of `list`.
    pub(super) fn of(
        &self,
        instance: InstanceUuid,
        zonepath: &Path,
        list: impl FnOnce() -> Result<Vec<SnapshotInfo>, StorageError>,
    ) -> Result<Vec<SnapshotInfo>, StorageError> {
        let Ok(said) = Said::by(zonepath) else { return list() };
        if said.names.is_empty() {
            self.lists().remove(&instance);
            return Ok(Vec::new());
        }
        if let Some((before, known)) = self.lists().get(&instance)
            && *before == said
        {
            return Ok(known.clone());
        }
        let listed = list()?;
        self.lists().insert(instance, (said, listed.clone()));
        Ok(listed)
    }

    /// Forgets those that are not among `present`.
    pub(super) fn keep(&self, present: impl Fn(&InstanceUuid) -> bool) {
        self.lists().retain(|instance, _| present(instance));
    }

    fn lists(&self) -> std::sync::MutexGuard<'_, HashMap<InstanceUuid, (Said, Vec<SnapshotInfo>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, time::SystemTime};

    use triton_types::Timestamp;

    use super::*;

    struct Root(PathBuf);
    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// A directory stands for ZFS's here; the real one is asked by `kernel_zfs`.
    #[test]
    fn a_list_is_asked_for_when_names_or_time_are_others_and_only_then() {
        let root = Root(std::env::temp_dir().join(format!("triton-snapdir-{}", std::process::id())));
        let (lists, instance, asked) = (Lists::default(), InstanceUuid::random(), Cell::new(0));
        let of = || {
            lists
                .of(instance, &root.0, || {
                    asked.set(asked.get() + 1);
                    let info = SnapshotInfo { name: "a".parse().unwrap(), created_at: Timestamp::from_millis(asked.get()), size_bytes: 1 };
                    Ok(vec![info])
                })
                .unwrap()
                .len()
        };
        assert_eq!((of(), of(), asked.get()), (1, 1, 2), "not mounted: nothing is known without asking");
        assert!(has(&root.0, "install").is_err(), "nor whether there is one of a name");
        let directory = root.0.join(".zfs/snapshot");
        fs::create_dir_all(directory.join("install")).unwrap();
        assert!(has(&root.0, "install").unwrap() && !has(&root.0, "instal").unwrap());
        assert_eq!((of(), asked.get()), (0, 2), "none is Triton's");
        fs::create_dir(directory.join(format!("{SNAPSHOT_PREFIX}a"))).unwrap();
        assert_eq!((of(), of(), asked.get()), (1, 1, 3), "once");
        // Destroyed and made anew under its name.
        fs::File::open(&directory).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((of(), of(), asked.get()), (1, 1, 4), "the time");
        fs::create_dir(directory.join(format!("{SNAPSHOT_PREFIX}b"))).unwrap();
        fs::File::open(&directory).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert_eq!((of(), of(), asked.get()), (1, 1, 5), "the names");
        lists.keep(|_| false);
        assert_eq!((of(), asked.get()), (1, 6), "forgotten");
        assert!(lists.of(instance, &root.0.join("gone"), || Err(StorageError::NoRoot(String::new()))).is_err(), "no list is not none");
    }
}
