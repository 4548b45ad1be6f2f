//! Whether an instance is as it was: so that a look at all of them costs little when nothing has changed (design section 11).

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use triton_types::{InstanceUuid, StorageKind, Timestamp};

use crate::{AllSnapshots, Instances};

/// What tells one state of a file from every other. Files of instances are replaced, never written into: each state has an inode of its own,
/// or at least another time.
type FileState = Option<(u64, u64, i64, i64, u64)>;

fn file_state(path: &Path) -> FileState {
    let found = fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.ctime(), found.ctime_nsec(), found.size()))
}

/// All that an instance's VM object is made of, as it was before the object was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    machine: FileState,
    zonepath: PathBuf,
    rest: u64,
}

impl Instances {
    /// Looks at an instance without reading it, given the look `before`. `None` when somebody changes it just now, or it cannot be used:
    /// then there is nothing to be held against a later look.
    ///
    /// Two equal looks mean equal objects: the files are the same, and so are run-state, processes, snapshots and holds.
    pub(crate) fn glance(&self, uuid: InstanceUuid, before: Option<&Glance>, snapshots: Option<&AllSnapshots>) -> Option<Glance> {
        let machine = file_state(&self.layout.machine(uuid));
        machine?;
        let zonepath = match before.filter(|before| before.machine == machine) {
            Some(before) => before.zonepath.clone(),
            None => self.machines.zonepath(&self.machines.read_alone(uuid).ok()?),
        };
        if self.machines.pending_path(uuid).exists() || self.holder(uuid).is_some() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        let config = zonepath.join("config");
        for path in [config.join("metadata.json"), config.join("tags.json"), config.join("routes.json"), zonepath.join("lastexited")] {
            file_state(&path).hash(&mut hasher);
        }
        let has_root = zonepath.join("root").is_dir();
        has_root.hash(&mut hasher);
        // A process that ended, or that is another's by now, makes another presence of the same run-state.
        let (mut run, presence) = self.run_of(uuid);
        // A run-state that was never written has that of the look itself.
        run.updated = Timestamp::from_millis(0);
        format!("{run:?} {presence:?}").hash(&mut hasher);
        if let Some(all) = snapshots.filter(|_| has_root) {
            match self.storage.kind() {
                StorageKind::Dir => format!("{:?}", self.snapshots(uuid)).hash(&mut hasher),
                StorageKind::Zfs => format!("{:?}", all.of(uuid)).hash(&mut hasher),
            }
        }
        if has_root && self.storage.kind() == StorageKind::Zfs {
            self.storage.indestructible(uuid).ok().hash(&mut hasher);
        }
        Some(Glance { machine, zonepath, rest: hasher.finish() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use triton_files::Layout;
    use triton_types::{Lifecycle, MachineFile, VmConfig};

    use super::*;
    use crate::{Inventory, Loaded, Look, Machines, RealInventory};

    struct Root(PathBuf);
    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn same(look: &Look) -> bool {
        matches!(look, Look::Same)
    }

    /// Every way in which an instance can become another, one after the other: each is seen once.
    #[test]
    fn what_changed_is_read_and_nothing_else_is() {
        let root = Root(std::env::temp_dir().join(format!("triton-glance-{}", std::process::id())));
        let layout = Layout::new(&root.0);
        layout.prepare().unwrap();
        layout.prepare_run().unwrap();
        triton_storage::Storage::choose(&layout, StorageKind::Dir, "zones").unwrap();
        let (machines, uuid, other) = (Machines::new(&layout), InstanceUuid::random(), InstanceUuid::random());
        let mut file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: None, config: VmConfig::bare(uuid) };
        let zonepath = layout.at("/zones").join(uuid.to_string());
        for (file, path) in [
            (file.clone(), zonepath.clone()),
            (MachineFile { config: VmConfig::bare(other), ..file.clone() }, layout.at("/zones").join(other.to_string())),
        ] {
            fs::create_dir_all(path.join("root")).unwrap();
            machines.write(&file).unwrap();
            machines.write_documents(&file).unwrap();
        }
        let inventory = RealInventory::new(&layout);
        let look = |what: &str| {
            let mut seen = inventory.look_around().unwrap();
            seen.sort_by_key(|(seen, _)| *seen != uuid);
            assert_eq!(seen.len(), 2, "{what}");
            assert!(same(&seen[1].1), "{what}: the other one");
            seen.remove(0).1
        };
        inventory.each(&mut |_, _| {}).unwrap();
        assert!(same(&look("nothing")));
        inventory.forget();
        assert!(inventory.look_around().unwrap().iter().all(|(_, look)| matches!(look, Look::Now(Loaded::Object(_)))), "all anew");

        let changed = |what: &str| {
            let Look::Now(Loaded::Object(vm)) = look(what) else { panic!("{what} was not seen") };
            assert!(same(&look(what)), "{what} was seen twice");
            vm
        };
        file.config.alias = Some("new".to_owned());
        machines.write(&file).unwrap();
        assert_eq!(changed("the machine file")["alias"], "new");
        file.config.tags.insert("a".to_owned(), json!(1));
        machines.write_documents(&file).unwrap();
        assert_eq!(changed("a document")["tags"], json!({"a": 1}));
        fs::write(zonepath.join("lastexited"), "1700000000 3328\n").unwrap();
        assert_eq!(changed("the last end")["exit_status"], 13);
        fs::create_dir_all(layout.run_states()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let runs = crate::RunStates::new(&layout);
        let process = triton_process::reference(child.id() as i32);
        runs.update(uuid, |run| (run.phase, run.init, run.supervisor) = (triton_types::RunPhase::Running, process, process)).unwrap();
        assert_eq!(changed("the run-state")["state"], "running");
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(changed("the end of its init")["state"], "stopped");
        fs::remove_dir(zonepath.join("root")).unwrap();
        assert_eq!(changed("its root went")["state"], "configured");

        // Snapshots that are not known are not "none" (ruling 1).
        fs::create_dir(zonepath.join("root")).unwrap();
        assert_eq!(changed("its root is back")["snapshots"], json!([]));
        let storage = triton_storage::Storage::open(&layout).unwrap();
        storage.snapshot(uuid, &"one".parse().unwrap()).unwrap();
        assert_eq!(changed("a snapshot")["snapshots"][0]["name"], "one");
        let info = layout.at("/zones").join(format!(".snapshots/{uuid}/vmsnap-one/snapshot.json"));
        let good = fs::read(&info).unwrap();
        fs::write(&info, "{").unwrap();
        assert!(matches!(look("a damaged snapshot"), Look::Now(Loaded::Unreadable(reason)) if reason.contains("snapshots")));
        fs::write(&info, good).unwrap();
        assert_eq!(changed("the snapshot again")["snapshots"][0]["name"], "one");

        // Somebody changes it: what it is now is no measure for later.
        let lock = triton_files::Lock::take(&layout.instance_lock(uuid), "update", Duration::from_secs(1)).unwrap();
        assert!(!same(&look("a lock")) && !same(&look("a lock, still")));
        drop(lock);
        assert!(!same(&look("the lock is free")) && same(&look("and it is as it was")));

        fs::write(layout.machine(uuid), "{").unwrap();
        assert!(matches!(look("damage"), Look::Now(Loaded::Unreadable(_))));
        assert!(matches!(look("damage, still"), Look::Now(Loaded::Unreadable(_))));
        fs::remove_file(layout.machine(uuid)).unwrap();
        assert_eq!(inventory.look_around().unwrap().len(), 1, "one that is gone is not there");
    }
}
