//! Taking the status sample of the node (cn-agent.md section 5.2).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::json;
use triton_agent::chain;
use triton_instance::{InstanceError, Instances, is_hidden, to_json};
use triton_sysinfo::Source;
use triton_types::{InstanceUuid, JsonMap, Packed, Timestamp, VmState};

use super::{
    Node,
    stale::{Again, Stale},
};
use crate::{
    Numbers,
    report::payload::{Figures, MemoryFigures, PoolFigures, memory, status, told},
};

/// Takes samples. Remembers the last good entry of each instance: it is read again when it has changed, and stands for it when its
/// machine file cannot be used (ruling 1).
#[derive(Debug)]
pub struct Inventory {
    node: Arc<Node>,
    stale: Arc<Stale>,
    numbers: Numbers,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// As text: only all of them together are looked at.
    entries: BTreeMap<InstanceUuid, Packed>,
    unreadable: BTreeSet<InstanceUuid>,
    /// Those without `cpu_cap`.
    uncapped: BTreeSet<InstanceUuid>,
    /// How many of them were warned of.
    warned: usize,
}

impl Known {
    /// Takes what was read of an instance; `None` for one that is gone, or not to be told of.
    fn note(&mut self, uuid: InstanceUuid, vm: Option<JsonMap>) {
        self.unreadable.remove(&uuid);
        self.uncapped.remove(&uuid);
        if vm.as_ref().is_some_and(|vm| vm.get("cpu_cap").is_none_or(serde_json::Value::is_null)) {
            self.uncapped.insert(uuid);
        }
        match vm {
            Some(vm) => drop(self.entries.insert(uuid, told(vm))),
            None => drop(self.entries.remove(&uuid)),
        }
    }
}

impl Inventory {
    /// The inventory of `node`, that reads everything at each sample.
    pub fn new(node: Arc<Node>, numbers: Numbers) -> Self {
        Self::watched(node, Arc::default(), numbers)
    }

    /// The inventory of `node`, that reads what `stale` says.
    pub(super) fn watched(node: Arc<Node>, stale: Arc<Stale>, numbers: Numbers) -> Self {
        Self { node, stale, numbers, known: Mutex::default() }
    }

    /// Takes a sample, blocking.
    ///
    /// # Errors
    /// When any part of it cannot be had: half a sample would make CNAPI believe in what is not so.
    pub fn sample(&self) -> Result<Packed, String> {
        self.take().inspect_err(|_| self.stale.all())
    }

    fn take(&self) -> Result<Packed, String> {
        let instances = self.node.instances().map_err(|error| error.message)?;
        let images = self.node.images().map_err(|error| error.message)?;
        let storage = instances.storage();
        let text = |error: &dyn std::error::Error| chain(error).to_string();
        self.read(&instances).map_err(|error| text(&error))?;
        let usages = storage.usages().map_err(|error| text(&error))?;
        let pools = storage.pools().map_err(|error| text(&error))?;
        let installed = images.list().map_err(|error| text(&error))?;
        let figures = Figures {
            vms: self.complete(),
            pools: pools
                .into_iter()
                .map(|(name, pool)| (name, PoolFigures { used: pool.used_bytes, available: pool.available_bytes }))
                .collect(),
            system_pool: storage.pool().to_owned(),
            memory: node_memory()?,
            quota: usages.values().map(triton_storage::Usage::enforced_quota_bytes).sum(),
            quota_used: usages.values().map(|usage| usage.used_bytes).sum(),
            images_used: installed.iter().filter(|image| image.has_manifest()).map(|image| image.used_bytes).sum(),
            boot_time: boot_time(),
        };
        status(&figures, Timestamp::now())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what has to be read.
    fn read(&self, instances: &Instances) -> Result<(), InstanceError> {
        let mut known = self.known();
        let uuids = match self.stale.take(Instant::now()) {
            Again::All => {
                let there: BTreeSet<InstanceUuid> = instances.uuids()?.into_iter().collect();
                known.entries.retain(|uuid, _| there.contains(uuid));
                known.uncapped.retain(|uuid| there.contains(uuid));
                known.unreadable.clear();
                there
            }
            Again::These(uuids) => uuids,
        };
        // Invariant 1: nothing is gone because its store is.
        self.node.layout().check_store()?;
        // One after the other: whole objects of thousands of instances are much memory.
        for uuid in uuids {
            match instances.view(uuid).map(|vm| to_json(&vm)) {
                Ok(vm) => known.note(uuid, Some(vm).filter(|vm| !is_hidden(vm))),
                Err(InstanceError::NotFound { .. }) => known.note(uuid, None),
                Err(error) => {
                    tracing::warn!(vm_uuid = %uuid, error = %chain(&error), "machine file cannot be used");
                    known.unreadable.insert(uuid);
                }
            }
        }
        Ok(())
    }

    /// All entries. Instances whose machine files cannot be used have their last known one: they exist, and leaving them out would
    /// report them as destroyed. One that was never readable has no owner and no size, for which CNAPI's allocator would leave out the
    /// whole node; it is counted and logged instead.
    fn complete(&self) -> BTreeMap<InstanceUuid, Packed> {
        let mut known = self.known();
        let mut all = known.entries.clone();
        for uuid in &known.unreadable {
            match all.get_mut(uuid) {
                Some(entry) => {
                    let mut vm = entry.unpack();
                    vm.insert("state".to_owned(), json!(VmState::Unreadable));
                    *entry = Packed::from(&vm);
                }
                None => tracing::warn!(vm_uuid = %uuid, "an instance is left out of the status: its machine file cannot be used"),
            }
        }
        self.numbers.set_unreadable(known.unreadable.len());
        let uncapped = known.uncapped.len();
        if uncapped > 0 && uncapped != known.warned {
            tracing::warn!(uncapped, "instances without cpu_cap: CNAPI places no further instance with a cpu_cap on this node");
        }
        known.warned = uncapped;
        all
    }
}

fn node_memory() -> Result<MemoryFigures, String> {
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let arcstats = fs::read_to_string("/proc/spl/kstat/zfs/arcstats").ok();
    memory(&meminfo, arcstats.as_deref()).ok_or_else(|| "/proc/meminfo has no MemTotal".to_owned())
}

/// The same time of boot as in sysinfo.
fn boot_time() -> Option<Timestamp> {
    let seconds = i64::try_from(triton_sysinfo::boot_time(&Source::kernel())?).ok()?;
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use triton_files::Layout;

    use triton_types::MachineFile;

    use super::*;

    fn machine(layout: &Layout) -> MachineFile {
        let mut config = triton_types::VmConfig::bare(InstanceUuid::random());
        config.zpool = Some("zones".to_owned());
        (config.owner_uuid, config.cpu_cap, config.max_physical_memory) = (Some(uuid::Uuid::new_v4().to_string()), Some(100), Some(256));
        let ids = triton_types::IdRange { base: 1_000_000, size: 65_536 };
        let (kind, ownership) = (triton_types::StorageKind::Dir, Some(triton_types::Ownership::Idmapped));
        let storage = Some(triton_types::StorageRecord { kind, ids, ownership });
        std::fs::create_dir_all(layout.at("/zones").join(config.uuid.to_string()).join("root")).unwrap();
        let file = MachineFile { format: 1, lifecycle: triton_types::Lifecycle::Installed, storage, config };
        triton_instance::Machines::new(layout).write(&file).unwrap();
        file
    }

    /// cn-agent case 49; ruling 1
    #[test]
    fn only_what_changed_is_read_again_and_one_whose_file_breaks_keeps_its_last_entry_until_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        triton_storage::Storage::choose(&layout, triton_types::StorageKind::Dir, "zones").unwrap();
        let node = Arc::new(Node::new(&layout, triton_image::Platform::default()));
        let stale = Arc::new(Stale::default());
        let inventory = Inventory::watched(node, stale.clone(), Numbers::default());
        let (mut one, two) = (machine(&layout), machine(&layout));
        let uuid = one.config.uuid;
        let vm = |uuid: InstanceUuid| inventory.sample().unwrap().unpack()["vms"][uuid.to_string()].clone();
        assert_eq!((&vm(uuid)["cpu_cap"], &vm(two.config.uuid)["state"]), (&json!(100), &json!("stopped")));
        let machines = triton_instance::Machines::new(&layout);
        one.config.cpu_cap = Some(200);
        machines.write(&one).unwrap();
        assert_eq!(vm(uuid)["cpu_cap"], 100, "nobody has said that it changed");
        stale.add([uuid]);
        assert_eq!(vm(uuid)["cpu_cap"], 200);
        std::fs::write(layout.machine(uuid), "{").unwrap();
        for broken in 0..2 {
            if broken == 0 {
                stale.add([uuid]);
            } else {
                stale.all();
            }
            assert_eq!((&vm(uuid)["state"], &vm(uuid)["cpu_cap"]), (&json!("unreadable"), &json!(200)));
        }
        one.config.do_not_inventory = true;
        machines.write(&one).unwrap();
        stale.add([uuid]);
        assert_eq!(vm(uuid), Value::Null);
        std::fs::remove_file(layout.machine(two.config.uuid)).unwrap();
        stale.add([two.config.uuid]);
        assert_eq!(inventory.sample().unwrap().unpack()["vms"], json!({}));
        // Without the store nothing is gone, also when nothing has changed; afterwards all is read.
        std::fs::remove_file(layout.marker()).unwrap();
        assert!(inventory.sample().is_err());
        assert_eq!(stale.take(Instant::now()), Again::All);
    }

    #[test]
    fn a_node_that_is_not_set_up_gives_no_sample_rather_than_an_empty_one() {
        let root = tempfile::tempdir().unwrap();
        let node = Arc::new(Node::new(&Layout::new(root.path()), triton_image::Platform::default()));
        assert!(Inventory::new(node, Numbers::default()).sample().is_err());
    }

    /// cn-agent case 49
    #[test]
    fn a_node_without_instances_gives_a_sample_that_the_allocator_accepts() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        layout.prepare().unwrap();
        triton_storage::Storage::choose(&layout, triton_types::StorageKind::Dir, "zones").unwrap();
        let node = Arc::new(Node::new(&layout, triton_image::Platform::default()));
        let status = Inventory::new(node, Numbers::default()).sample().unwrap().unpack();
        assert_eq!(status["vms"], json!({}));
        for (group, key) in [("meminfo", "total_bytes"), ("meminfo", "availrmem_bytes"), ("diskinfo", "pool_size_bytes")] {
            assert!(status[group][key].as_u64().is_some_and(|bytes| bytes > 0), "{key}: {status:?}");
        }
        assert!(status["diskinfo"].as_object().unwrap().values().all(Value::is_u64), "{status:?}");
        assert!(status["zpoolStatus"]["zones"]["bytes_available"].is_u64(), "{status:?}");
        for key in ["boot_time", "timestamp"] {
            let text = status[key].as_str().unwrap();
            assert!(text.len() == 24 && text.ends_with('Z') && text.parse::<Timestamp>().is_ok(), "{text}");
        }
        std::fs::remove_file(layout.marker()).unwrap();
        let again = Inventory::new(Arc::new(Node::new(&layout, triton_image::Platform::default())), Numbers::default());
        assert!(again.sample().is_err(), "a store that is not there is no empty store");
    }

    #[test]
    fn the_running_kernel_says_how_much_memory_there_is_and_when_it_booted() {
        let memory = node_memory().unwrap();
        assert!(memory.total > 0 && memory.available > 0 && memory.available <= memory.total);
        assert!(boot_time().unwrap() < Timestamp::now());
    }
}
