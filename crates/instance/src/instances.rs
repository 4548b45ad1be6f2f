//! The instances of one node: what every caller holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use triton_cgroup::Cgroups;
use triton_files::{Holder, Identity, Layout, Lock, LockError};
use triton_storage::{Storage, StorageError};
use triton_types::{InstanceUuid, JsonMap, Lifecycle, RunState, StorageKind, VmObject, VmState};

use crate::{
    InstanceError, Machines, RunStates,
    launch::Launcher,
    machines::{Damage, Machine, Readable},
    object::{self, NodeFacts, Parts},
    observe::Presence,
};

/// How long a change waits for another change of the same instance.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// Snapshots of all instances when they were listed.
#[derive(Debug, Default)]
pub struct AllSnapshots(BTreeMap<InstanceUuid, Vec<triton_types::Snapshot>>);

impl AllSnapshots {
    /// Those of one instance, newest first.
    pub(crate) fn of(&self, uuid: InstanceUuid) -> &[triton_types::Snapshot] {
        self.0.get(&uuid).map_or(&[], Vec::as_slice)
    }
}

/// Where the snapshots of a VM object come from.
enum SnapshotsOf<'a> {
    Nothing,
    These(Vec<triton_types::Snapshot>),
    Listed(&'a AllSnapshots),
}

/// Instances of one compute node: changes take the instance's lock, readers take none.
#[derive(Debug)]
pub struct Instances {
    pub(crate) layout: Layout,
    pub(crate) identity: Identity,
    pub(crate) machines: Machines,
    pub(crate) runs: RunStates,
    pub(crate) storage: Arc<Storage>,
    pub(crate) cgroups: Cgroups,
    pub(crate) launcher: Launcher,
    pub(crate) facts: NodeFacts,
}

impl Instances {
    /// Opens the instances below `layout`.
    ///
    /// # Errors
    /// When the node is not set up: no state directory, no storage chosen, its pool not there, no control groups.
    pub fn open(layout: &Layout) -> Result<Self, InstanceError> {
        layout.check_store()?;
        // The first after a boot finds nothing below `/run`.
        layout.prepare_run()?;
        let node = |e: &dyn std::error::Error| InstanceError::Node(crate::error::chain_text(e));
        let facts = triton_sysinfo::HostFacts::load(layout).map(NodeFacts::from).unwrap_or_default();
        Ok(Self {
            identity: Identity::load_or_create(layout)?,
            machines: Machines::new(layout),
            runs: RunStates::new(layout),
            storage: Arc::new(Storage::open(layout).map_err(|e| node(&e))?),
            cgroups: Cgroups::probe().map_err(|e| node(&e))?,
            launcher: Launcher::detect(layout),
            facts,
            layout: layout.clone(),
        })
    }

    /// Where the node's files are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The storage that holds the instances.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.storage
    }

    /// The instances that exist, readable or not, in the order of uuids.
    ///
    /// # Errors
    /// When their store is not there: that is not "none" (design section 9, invariant 1).
    pub fn uuids(&self) -> Result<Vec<InstanceUuid>, InstanceError> {
        Ok(self.machines.uuids()?)
    }

    /// True if the instance exists, readable or not.
    pub fn exists(&self, uuid: InstanceUuid) -> bool {
        self.machines.exists(uuid)
    }

    /// The VM object of one instance, as it is now.
    ///
    /// # Errors
    /// [`InstanceError::NotFound`], [`InstanceError::Unreadable`]; the latter also when its snapshots are not known: that is not "none".
    pub fn load(&self, uuid: InstanceUuid) -> Result<VmObject, InstanceError> {
        let machine = self.read_mounted(uuid)?;
        let snapshots = match self.storage.snapshots(uuid) {
            Ok(all) => all.into_iter().map(Into::into).collect(),
            // It has no dataset, or none any more.
            Err(StorageError::NotFound { .. }) => Vec::new(),
            Err(error) => {
                let reason = format!("its snapshots cannot be listed: {}", crate::error::chain_text(&error));
                return Err(InstanceError::Unreadable { uuid, reason });
            }
        };
        Ok(self.object_of(machine, SnapshotsOf::These(snapshots)))
    }

    /// As [`Instances::load`], with snapshots of [`Instances::all_snapshots`].
    ///
    /// # Errors
    /// As [`Instances::load`].
    pub fn load_with(&self, uuid: InstanceUuid, snapshots: &AllSnapshots) -> Result<VmObject, InstanceError> {
        if self.storage.kind() == StorageKind::Dir {
            return self.load(uuid);
        }
        Ok(self.object_of(self.read_mounted(uuid)?, SnapshotsOf::Listed(snapshots)))
    }

    /// The snapshots of all instances, in one question: for readers of all of them.
    ///
    /// # Errors
    /// When they cannot be listed: that is not "none".
    pub fn all_snapshots(&self) -> Result<AllSnapshots, InstanceError> {
        if self.storage.kind() == StorageKind::Dir {
            // They are files beside the instance's, and read with them.
            return Ok(AllSnapshots::default());
        }
        let all = self.storage.all_snapshots().map_err(|error| InstanceError::Node(crate::error::chain_text(&error)))?;
        Ok(AllSnapshots(all.into_iter().map(|(uuid, list)| (uuid, list.into_iter().map(Into::into).collect())).collect()))
    }

    /// The VM object without its snapshots, whose list costs a question to storage: for readers that come often.
    ///
    /// # Errors
    /// As [`Instances::load`].
    pub fn view(&self, uuid: InstanceUuid) -> Result<VmObject, InstanceError> {
        Ok(self.object_of(self.read_mounted(uuid)?, SnapshotsOf::Nothing))
    }

    /// The VM object as [`Instances::view`] has it, as far as the instance's documents can be used: what a damaged one would say is
    /// `null` (metadata.md section 10, attack 28).
    ///
    /// # Errors
    /// [`InstanceError::NotFound`]; [`InstanceError::Unreadable`] when the machine file itself cannot be used.
    pub fn view_what_can_be(&self, uuid: InstanceUuid) -> Result<(JsonMap, Vec<Damage>), InstanceError> {
        let Readable { machine, damaged } = self.read_mounted_what_can_be(uuid)?;
        let mut vm = to_json(&self.object_of(machine, SnapshotsOf::Nothing));
        for property in damaged.iter().flat_map(|damage| damage.properties) {
            vm.insert((*property).to_owned(), Value::Null);
        }
        Ok((vm, damaged))
    }

    /// The range of host ids that an instance has; none before its storage is chosen.
    ///
    /// # Errors
    /// As [`Instances::load`].
    pub fn ids(&self, uuid: InstanceUuid) -> Result<Option<triton_types::IdRange>, InstanceError> {
        Ok(self.machines.read_alone(uuid)?.storage.map(|storage| storage.ids))
    }

    /// Reads an instance whose documents are on its dataset: mounted first, or they would seem to be empty after a boot of the node.
    fn read_mounted(&self, uuid: InstanceUuid) -> Result<Machine, InstanceError> {
        self.read_mounted_what_can_be(uuid)?.entire()
    }

    fn read_mounted_what_can_be(&self, uuid: InstanceUuid) -> Result<Readable, InstanceError> {
        let read = self.machines.read_what_can_be(uuid)?;
        let file = &read.machine.file;
        let documents = self.machines.zonepath(file).join("config");
        if self.storage.kind() == StorageKind::Dir || file.lifecycle != Lifecycle::Installed || documents.is_dir() {
            return Ok(read);
        }
        let unreadable = |reason: String| InstanceError::Unreadable { uuid, reason };
        match self.storage.instance_exists(uuid) {
            // The dataset was destroyed by somebody: there is nothing that could be read.
            Ok(false) => Ok(read),
            Ok(true) => {
                let mounted = self.storage.mount_instance(uuid);
                mounted.map_err(|error| unreadable(format!("its dataset cannot be mounted: {}", crate::error::chain_text(&error))))?;
                self.machines.read_what_can_be(uuid)
            }
            Err(error) => Err(unreadable(crate::error::chain_text(&error))),
        }
    }

    /// All VM objects in the order of uuids; those whose files cannot be used have the state `unreadable`. Instances with
    /// `do_not_inventory` are left out unless `include_dni` (instances.md section 4.4).
    ///
    /// # Errors
    /// As [`Instances::uuids`].
    pub fn list(&self, include_dni: bool) -> Result<Vec<VmObject>, InstanceError> {
        let mut objects = Vec::new();
        for uuid in self.machines.uuids()? {
            match self.read_mounted(uuid) {
                Ok(machine) if machine.file.config.do_not_inventory && !include_dni => {}
                Ok(machine) => objects.push(self.object_of(machine, SnapshotsOf::Nothing)),
                Err(InstanceError::NotFound { .. }) => {}
                Err(error) => {
                    tracing::warn!(vm_uuid = %uuid, error = %crate::error::chain_text(&error), "machine file cannot be used");
                    objects.push(object::unreadable(uuid, &self.facts));
                }
            }
        }
        Ok(objects)
    }

    /// [`Instances::list`] as JSON, for filters and tables.
    ///
    /// # Errors
    /// As [`Instances::list`].
    pub fn list_json(&self, include_dni: bool) -> Result<Vec<JsonMap>, InstanceError> {
        Ok(self.list(include_dni)?.iter().map(to_json).collect())
    }

    fn object_of(&self, machine: Machine, from: SnapshotsOf<'_>) -> VmObject {
        let uuid = machine.file.config.uuid;
        let (run, mut presence) = self.run_of(uuid);
        let holder = self.holder(uuid);
        if presence == Presence::Stopping && holder.is_none() {
            // Whoever asked it to stop was killed: it goes on running.
            presence = Presence::Running;
        }
        let zonepath = self.machines.zonepath(&machine.file);
        // A node that lost /run knows the last end from the instance's own files (ruling 43); a run that was adopted has none.
        let last_exit = run.last_exit.or_else(|| object::last_exited(&zonepath));
        let dataset = zonepath.join("root").is_dir();
        let reprovisioning = holder.as_ref().is_some_and(|holder| holder.action == crate::reprovision::ACTION);
        let creating =
            !presence.has_init() && holder.is_some_and(|holder| holder.action == "create") && machine.file.lifecycle != Lifecycle::Deleting;
        // On ZFS a list of snapshots can be a command of its own: too dear for every instance of a list.
        let snapshots = match from {
            _ if !dataset => Vec::new(),
            SnapshotsOf::These(all) => all,
            SnapshotsOf::Listed(all) => all.of(uuid).to_vec(),
            SnapshotsOf::Nothing if self.storage.kind() == StorageKind::Dir => self.snapshots(uuid),
            SnapshotsOf::Nothing => Vec::new(),
        };
        let mut machine = machine;
        if dataset && self.storage.kind() == StorageKind::Zfs {
            // A hold that somebody put or released by hand is what counts (instances.md section 6.6).
            let stored = machine.file.config.indestructible_zoneroot;
            machine.file.config.indestructible_zoneroot = self.storage.indestructible(uuid).unwrap_or(stored);
        }
        let mut object = object::build(Parts { machine, run, presence, dataset, creating, snapshots, last_exit, facts: &self.facts });
        if reprovisioning {
            object.state = VmState::Provisioning;
        }
        object
    }

    /// Those that can be listed, for looks that something better follows.
    pub(crate) fn snapshots(&self, uuid: InstanceUuid) -> Vec<triton_types::Snapshot> {
        self.storage.snapshots(uuid).unwrap_or_default().into_iter().map(Into::into).collect()
    }

    /// Who changes the instance now, if anybody does.
    pub fn holder(&self, uuid: InstanceUuid) -> Option<Holder> {
        let path = self.layout.instance_lock(uuid);
        if Lock::is_free(&path) { None } else { Lock::holder(&path) }
    }

    /// The run-state and what of it is true. Where the file was lost or cannot be used, the processes decide (ruling 43).
    pub(crate) fn run_of(&self, uuid: InstanceUuid) -> (RunState, Presence) {
        let run = match self.runs.find(uuid) {
            Ok(Some(run)) => run,
            Ok(None) | Err(_) => self.run_of_processes(uuid).unwrap_or_else(|| RunState::stopped(uuid)),
        };
        let presence = Presence::of(&run);
        (run, presence)
    }

    /// Takes the lock of an existing instance for `action`, and settles what a killed change left. Deletion needs none of that.
    pub(crate) fn lock(&self, uuid: InstanceUuid, action: &str, patience: Duration) -> Result<Lock, InstanceError> {
        let lock = self.lock_as_it_is(uuid, action, patience)?;
        if action != "delete" {
            self.settle(uuid)?;
        }
        Ok(lock)
    }

    /// Takes the lock of an existing instance. One that does not exist has none: its file would stay behind.
    pub(crate) fn lock_as_it_is(&self, uuid: InstanceUuid, action: &str, patience: Duration) -> Result<Lock, InstanceError> {
        self.require(uuid)?;
        let lock = Lock::take(&self.layout.instance_lock(uuid), action, patience).map_err(|source| match source {
            LockError::Held { .. } => InstanceError::Busy { uuid, source },
            LockError::File(error) => InstanceError::File(error),
        })?;
        match self.require(uuid) {
            Ok(()) => Ok(lock),
            // It was deleted while this waited.
            Err(error) => {
                if matches!(error, InstanceError::NotFound { .. }) {
                    lock.remove();
                }
                Err(error)
            }
        }
    }

    /// That the instance exists, readable or not.
    fn require(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        if self.exists(uuid) {
            return Ok(());
        }
        self.layout.check_store()?;
        Err(InstanceError::NotFound { uuid })
    }

    /// The cgroup of the instance, relative to the hierarchies' roots: its supervisor, monitor and payload are leaves of it.
    pub(crate) fn cgroup(&self, uuid: InstanceUuid) -> String {
        cgroup_path(&self.layout, &self.identity, uuid)
    }

    /// The state in words, for errors.
    pub(crate) fn state_word(&self, machine: &Machine) -> String {
        self.object_of(machine.clone(), SnapshotsOf::Nothing).state.to_string()
    }

    /// Uuids of the instances that are running now.
    ///
    /// # Errors
    /// As [`Instances::uuids`].
    pub fn running(&self) -> Result<BTreeSet<InstanceUuid>, InstanceError> {
        Ok(self.list(true)?.into_iter().filter(|vm| vm.state == VmState::Running).map(|vm| vm.zonename).collect())
    }
}

/// Where an instance's cgroups are: below its own unit on a compute node (ruling 38), else below the node's prefix.
pub(crate) fn cgroup_path(layout: &Layout, identity: &Identity, uuid: InstanceUuid) -> String {
    match Launcher::detect(layout) {
        Launcher::Systemd => format!("triton.slice/triton-instance@{uuid}.service"),
        Launcher::Direct { .. } => format!("{}/{uuid}", identity.prefix),
    }
}

/// A VM object as a JSON map.
pub fn to_json(object: &VmObject) -> JsonMap {
    match serde_json::to_value(object) {
        Ok(Value::Object(map)) => map,
        _ => JsonMap::new(),
    }
}

impl From<triton_sysinfo::HostFacts> for NodeFacts {
    fn from(facts: triton_sysinfo::HostFacts) -> Self {
        Self {
            server_uuid: Some(facts.server_uuid),
            datacenter_name: facts.datacenter_name,
            platform_buildstamp: Some(facts.platform_stamp),
            headnode_id: facts.headnode_id,
        }
    }
}
