//! Taking the status sample of the node (cn-agent.md section 5.2).

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::{Value, json};
use triton_agent::chain;
use triton_instance::to_json;
use triton_types::{JsonMap, Timestamp, VmState};

use super::Node;
use crate::{
    Numbers,
    report::payload::{Figures, MemoryFigures, PoolFigures, memory, status},
};

/// Takes samples. Remembers the last good entry of each instance, for when its machine file cannot be used (ruling 1).
#[derive(Debug)]
pub struct Inventory {
    node: Arc<Node>,
    numbers: Numbers,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    entries: BTreeMap<String, JsonMap>,
    uncapped: usize,
}

impl Inventory {
    /// The inventory of `node`.
    pub fn new(node: Arc<Node>, numbers: Numbers) -> Self {
        Self { node, numbers, known: Mutex::default() }
    }

    /// Takes a sample, blocking.
    ///
    /// # Errors
    /// When any part of it cannot be had: half a sample would make CNAPI believe in what is not so.
    pub fn sample(&self) -> Result<Value, String> {
        let instances = self.node.instances().map_err(|error| error.message)?;
        let images = self.node.images().map_err(|error| error.message)?;
        let storage = instances.storage();
        let text = |error: &dyn std::error::Error| chain(error).to_string();
        let vms = instances.list(false).map_err(|error| text(&error))?;
        let usages = storage.usages().map_err(|error| text(&error))?;
        let pools = storage.pools().map_err(|error| text(&error))?;
        let installed = images.list().map_err(|error| text(&error))?;
        let mut unreadable = Vec::new();
        let mut entries = Vec::new();
        for vm in &vms {
            if vm.state == VmState::Unreadable { unreadable.push(vm.zonename.to_string()) } else { entries.push(to_json(vm)) }
        }
        let figures = Figures {
            vms: self.complete(entries, &unreadable),
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

    /// Adds the last known entries of instances whose machine files cannot be used: they exist, and leaving them out would report them
    /// as destroyed. One that was never readable has no owner and no size, for which CNAPI's allocator would leave out the whole node;
    /// it is counted and logged instead.
    fn complete(&self, entries: Vec<JsonMap>, unreadable: &[String]) -> Vec<JsonMap> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let uuid = |entry: &JsonMap| entry.get("uuid").and_then(Value::as_str).map(str::to_owned);
        let mut now: BTreeMap<String, JsonMap> = entries.into_iter().filter_map(|entry| Some((uuid(&entry)?, entry))).collect();
        for uuid in unreadable {
            match known.entries.get(uuid) {
                Some(entry) => {
                    let mut entry = entry.clone();
                    entry.insert("state".to_owned(), json!(VmState::Unreadable));
                    now.insert(uuid.clone(), entry);
                }
                None => tracing::warn!(vm_uuid = uuid, "an instance is left out of the status: its machine file cannot be used"),
            }
        }
        self.numbers.set_unreadable(unreadable.len());
        let uncapped = now.values().filter(|entry| entry.get("cpu_cap").is_none_or(Value::is_null)).count();
        if uncapped > 0 && uncapped != known.uncapped {
            tracing::warn!(uncapped, "instances without cpu_cap: CNAPI places no further instance with a cpu_cap on this node");
        }
        known.uncapped = uncapped;
        known.entries = now.clone();
        now.into_values().collect()
    }
}

fn node_memory() -> Result<MemoryFigures, String> {
    let meminfo = fs::read_to_string("/proc/meminfo").map_err(|error| format!("/proc/meminfo: {error}"))?;
    let arcstats = fs::read_to_string("/proc/spl/kstat/zfs/arcstats").ok();
    memory(&meminfo, arcstats.as_deref()).ok_or_else(|| "/proc/meminfo has no MemTotal".to_owned())
}

/// The kernel's time of boot, which does not drift.
fn boot_time() -> Option<Timestamp> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let seconds: i64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(Timestamp::from_millis(seconds.checked_mul(1000)?))
}

#[cfg(test)]
mod tests {
    use triton_files::Layout;

    use super::*;

    #[test]
    fn an_instance_whose_file_breaks_keeps_its_last_entry_and_is_gone_when_it_is_gone() {
        let node = Arc::new(Node::new(&Layout::new("/nonexistent"), triton_image::Platform::default()));
        let inventory = Inventory::new(node, Numbers::default());
        let entry = json!({"uuid": "a", "state": "running", "owner_uuid": "o", "cpu_cap": 1}).as_object().unwrap().clone();
        assert_eq!(inventory.complete(vec![entry], &[]).len(), 1);
        for _ in 0..2 {
            let after = inventory.complete(Vec::new(), &["a".into(), "never-seen".into()]);
            assert_eq!(Value::from(after[0].clone()).to_string(), r#"{"uuid":"a","state":"unreadable","owner_uuid":"o","cpu_cap":1}"#);
            assert_eq!(after.len(), 1);
        }
        assert!(inventory.complete(Vec::new(), &[]).is_empty());
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
        let status = Inventory::new(node, Numbers::default()).sample().unwrap();
        assert_eq!(status["vms"], json!({}));
        for (group, key) in [("meminfo", "total_bytes"), ("meminfo", "availrmem_bytes"), ("diskinfo", "pool_size_bytes")] {
            assert!(status[group][key].as_u64().is_some_and(|bytes| bytes > 0), "{key}: {status}");
        }
        assert!(status["diskinfo"].as_object().unwrap().values().all(Value::is_u64), "{status}");
        assert!(status["zpoolStatus"]["zones"]["bytes_available"].is_u64(), "{status}");
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
