//! The instances of this node, read again only when one changed.
//!
//! Whatever changes an instance ends by replacing a file in one of two folders (ruling 2), whose times tell. Edits by hand inside a file show
//! in neither: the watcher of instances finds them by looking at all every minute, and [`Instances::read`] reads whatever is remembered.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use triton_files::Layout;
use triton_firewall::LocalVm;
use triton_instance::firewall::local_vms;

/// Times of folders that are younger than this may stay the same when something changes again: the kernel's clock of files ticks.
const TICK: Duration = Duration::from_millis(100);

/// Identity and time of a folder or file; none where there is none.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

/// What was read last, and what the folders were then.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    known: Option<([Stamp; 3], Vec<LocalVm>)>,
}

impl Instances {
    /// The instances as they are now.
    ///
    /// # Errors
    /// When the list is not known to be complete.
    pub(crate) fn get(&mut self, layout: &Layout) -> Result<Vec<LocalVm>, String> {
        if let Some((stamps, vms)) = &self.known
            && *stamps == self::stamps(layout)
            && layout.check_store().is_ok()
        {
            return Ok(vms.clone());
        }
        self.read(layout)
    }

    /// The next [`Instances::get`] reads them.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }

    /// As [`Instances::get`], and reads each of them.
    ///
    /// # Errors
    /// As [`Instances::get`].
    pub(crate) fn read(&mut self, layout: &Layout) -> Result<Vec<LocalVm>, String> {
        self.known = None;
        let (stamps, now) = (stamps(layout), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let vms = local_vms(layout)?;
        let settled = |stamp: &Stamp| stamp.is_none_or(|(_, _, seconds, nanoseconds, _)| age(now, seconds, nanoseconds) > Some(TICK));
        if stamps[..2].iter().all(Option::is_some) && stamps.iter().all(settled) {
            self.known = Some((stamps, vms.clone()));
        }
        Ok(vms)
    }
}

/// Folders of machine files and run-states, and the file of NIC tags.
fn stamps(layout: &Layout) -> [Stamp; 3] {
    [layout.machines(), layout.run_states(), layout.config().join("triton-networking.json")].map(|path| stamp(&path))
}

fn stamp(path: &Path) -> Stamp {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
}

/// How long ago that was; none if it is still to come.
fn age(now: Duration, seconds: i64, nanoseconds: i64) -> Option<Duration> {
    let then = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    now.checked_sub(then)
}

#[cfg(test)]
mod tests {
    use triton_instance::{Machines, RunStates};
    use triton_types::{IdRange, InstanceUuid, Lifecycle, MachineFile, Ownership, StorageKind, StorageRecord, VmConfig};

    use super::*;

    const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";
    const OTHER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c014";

    fn written(layout: &Layout) -> InstanceUuid {
        let (uuid, machines) = (InstanceUuid::random(), Machines::new(layout));
        let mut config = VmConfig::bare(uuid);
        config.owner_uuid = Some(OWNER.to_owned());
        config.zpool = Some("zones".to_owned());
        let ids = IdRange { base: 1_000_000, size: 65_536 };
        let storage = StorageRecord { kind: StorageKind::Dir, ids, ownership: Some(Ownership::Idmapped) };
        fs::create_dir_all(layout.at(&format!("/zones/{uuid}/root"))).unwrap();
        let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: Some(storage), config };
        machines.write(&file).unwrap();
        machines.write_documents(&file).unwrap();
        uuid
    }

    #[test]
    fn a_change_of_an_instance_is_seen_at_once_and_without_one_nothing_is_read() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        fs::create_dir_all(layout.run_states()).unwrap();
        let first = written(&layout);
        let mut instances = Instances::default();
        // What is younger might change once more in the same tick, and is not remembered.
        std::thread::sleep(TICK * 2);
        let owner = |vms: Result<Vec<LocalVm>, String>| vms.unwrap()[0].facts.owner.map(|owner| owner.to_string());
        assert_eq!(owner(instances.get(&layout)).as_deref(), Some(OWNER));
        // An edit inside a file shows nowhere: it is found by reading.
        let text = fs::read_to_string(layout.machine(first)).unwrap();
        fs::write(layout.machine(first), text.replace(OWNER, OTHER)).unwrap();
        assert_eq!(owner(instances.get(&layout)).as_deref(), Some(OWNER));
        assert_eq!(owner(instances.read(&layout)).as_deref(), Some(OTHER));
        // The end of any change is one of the run-state.
        fs::write(layout.machine(first), &text).unwrap();
        assert_eq!(owner(instances.get(&layout)).as_deref(), Some(OTHER));
        RunStates::new(&layout).update(first, |_| ()).unwrap();
        assert_eq!(owner(instances.get(&layout)).as_deref(), Some(OWNER));
        written(&layout);
        assert_eq!(instances.get(&layout).unwrap().len(), 2);
        // A store that is not there is not an empty one.
        std::thread::sleep(TICK * 2);
        instances.get(&layout).unwrap();
        fs::remove_dir_all(layout.machines()).unwrap();
        assert!(instances.get(&layout).is_err());
    }
}
