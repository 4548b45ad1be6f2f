//! The status message (cn-agent.md section 5.2). Pure: from figures to JSON.
//!
//! CNAPI's allocator silently leaves out a node whose numbers are not integers of at least 0, or whose instances lack an owner or a size.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use triton_types::{InstanceUuid, JsonMap, Packed, Timestamp};

/// Exactly these keys of an instance are sent, each only when it is set.
const VM_KEYS: [&str; 9] =
    ["brand", "cpu_cap", "last_modified", "max_physical_memory", "owner_uuid", "quota", "state", "uuid", "zone_state"];

/// Space of a pool's top dataset, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// `used`.
    pub used: u64,
    /// `available`.
    pub available: u64,
}

/// Memory of the node, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Physical memory.
    pub total: u64,
    /// What programs may still take.
    pub available: u64,
    /// What ZFS caches.
    pub arc: u64,
}

/// Everything that a status is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Instances with what is told of them, hidden ones left out.
    pub vms: BTreeMap<InstanceUuid, Packed>,
    /// Every imported pool.
    pub pools: BTreeMap<String, PoolFigures>,
    /// The pool of instances and images.
    pub system_pool: String,
    /// Memory.
    pub memory: MemoryFigures,
    /// Sum of the instances' enforced quotas, in bytes.
    pub quota: u64,
    /// Sum of what the instances use, in bytes.
    pub quota_used: u64,
    /// Sum of what installed images use, in bytes.
    pub images_used: u64,
    /// When the node was booted.
    pub boot_time: Option<Timestamp>,
}

/// The message: instances first, as they are kept, without making objects of thousands of them again.
#[derive(Serialize)]
struct Status<'a> {
    vms: &'a BTreeMap<InstanceUuid, Packed>,
    #[serde(flatten)]
    node: Value,
}

/// The message.
///
/// # Errors
/// When the system pool is not among the pools: its figures would be wrong, not zero.
pub fn status(figures: &Figures, now: Timestamp) -> Result<Packed, String> {
    let system = figures.pools.get(&figures.system_pool).ok_or_else(|| format!("pool {} is not there", figures.system_pool))?;
    let pools: JsonMap = figures
        .pools
        .iter()
        .map(|(name, pool)| (name.clone(), json!({"bytes_available": pool.available, "bytes_used": pool.used})))
        .collect();
    let accounted = figures.quota_used.saturating_add(figures.images_used);
    let mut node = json!({
        "zpoolStatus": pools,
        "meminfo": {
            "availrmem_bytes": figures.memory.available,
            "arcsize_bytes": figures.memory.arc,
            "total_bytes": figures.memory.total,
        },
        "diskinfo": {
            "kvm_zvol_used_bytes": 0,
            "kvm_zvol_volsize_bytes": 0,
            "kvm_quota_bytes": 0,
            "kvm_quota_used_bytes": 0,
            "zone_quota_bytes": figures.quota,
            "zone_quota_used_bytes": figures.quota_used,
            "cores_quota_bytes": 0,
            "cores_quota_used_bytes": 0,
            "installed_images_used_bytes": figures.images_used,
            "pool_size_bytes": system.used.saturating_add(system.available),
            "pool_alloc_bytes": system.used,
            "system_used_bytes": system.used.saturating_sub(accounted),
        },
    });
    if let Some(time) = figures.boot_time {
        node["boot_time"] = json!(time);
    }
    node["timestamp"] = json!(now);
    Packed::of(&Status { vms: &figures.vms, node }).map_err(|error| format!("the status cannot be written: {error}"))
}

/// What of a VM object is told; nothing else is kept.
pub(crate) fn told(mut vm: JsonMap) -> Packed {
    let keys = VM_KEYS.iter().filter_map(|key| Some(((*key).to_owned(), vm.remove(*key).filter(|value| !value.is_null())?)));
    Packed::from(&keys.collect::<JsonMap>())
}

/// Reads `/proc/meminfo` and, where ZFS is, `arcstats`. Memory that the ARC would give back counts as available.
pub fn memory(meminfo: &str, arcstats: Option<&str>) -> Option<MemoryFigures> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let row = |name: &str| -> Option<u64> {
        let mut words = arcstats?.lines().map(str::split_whitespace).find(|words| words.clone().next() == Some(name))?;
        words.nth(2)?.parse().ok()
    };
    let total = kib("MemTotal")?;
    let arc = row("size").unwrap_or(0);
    let reclaimable = arc.saturating_sub(row("c_min").unwrap_or(arc));
    let available = kib("MemAvailable").or_else(|| kib("MemFree"))?;
    Some(MemoryFigures { total, available: available.saturating_add(reclaimable).min(total), arc })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: &str = "7f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f";

    fn figures() -> Figures {
        let vm = json!({"uuid": VM, "alias": "web", "brand": "lx", "cpu_cap": 100, "nics": [],
            "last_modified": "2024-05-02T10:00:00.000Z", "max_physical_memory": 1024, "quota": 25, "state": "running",
            "owner_uuid": "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013", "zone_state": "running", "customer_metadata": {"a": "b"}});
        Figures {
            vms: [(VM.parse().unwrap(), told(vm.as_object().unwrap().clone()))].into(),
            pools: [("zones".to_owned(), PoolFigures { used: 9_663_676_416, available: 412_316_860_416 })].into(),
            system_pool: "zones".to_owned(),
            memory: MemoryFigures { total: 17_179_869_184, available: 11_811_160_064, arc: 2_147_483_648 },
            quota: 26_843_545_600,
            quota_used: 734_003_200,
            images_used: 419_430_400,
            boot_time: Some("2024-05-02T08:45:01.000Z".parse().unwrap()),
        }
    }

    /// cn-agent case 49
    #[test]
    fn the_contracts_example_is_reproduced() {
        let now = "2024-05-02T10:31:07.420Z".parse().unwrap();
        let expected = r#"{"vms":{"7f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f":{"brand":"lx","cpu_cap":100,"last_modified":"2024-05-02T10:00:00.000Z","max_physical_memory":1024,"owner_uuid":"5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013","quota":25,"state":"running","uuid":"7f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f","zone_state":"running"}},"zpoolStatus":{"zones":{"bytes_available":412316860416,"bytes_used":9663676416}},"meminfo":{"availrmem_bytes":11811160064,"arcsize_bytes":2147483648,"total_bytes":17179869184},"diskinfo":{"kvm_zvol_used_bytes":0,"kvm_zvol_volsize_bytes":0,"kvm_quota_bytes":0,"kvm_quota_used_bytes":0,"zone_quota_bytes":26843545600,"zone_quota_used_bytes":734003200,"cores_quota_bytes":0,"cores_quota_used_bytes":0,"installed_images_used_bytes":419430400,"pool_size_bytes":421980536832,"pool_alloc_bytes":9663676416,"system_used_bytes":8510242816},"boot_time":"2024-05-02T08:45:01.000Z","timestamp":"2024-05-02T10:31:07.420Z"}"#;
        assert_eq!(serde_json::to_string(&status(&figures(), now).unwrap()).unwrap(), expected);
    }

    /// cn-agent case 49
    #[test]
    fn nothing_is_negative_and_unset_keys_are_absent() {
        let mut figures = figures();
        figures.quota_used = u64::MAX;
        for vm in figures.vms.values_mut() {
            let mut object = vm.unpack();
            object.remove("cpu_cap");
            object.insert("quota".into(), Value::Null);
            *vm = told(object);
        }
        let status = status(&figures, Timestamp::now()).unwrap().unpack();
        assert_eq!(status["diskinfo"]["system_used_bytes"], 0);
        let vm = status["vms"][VM].as_object().unwrap();
        assert_eq!(vm.len(), 7);
        assert!(!vm.contains_key("cpu_cap") && !vm.contains_key("quota"));
    }

    #[test]
    fn a_missing_system_pool_is_an_error_and_not_an_empty_disk() {
        let mut figures = figures();
        figures.system_pool = "tank".into();
        assert!(status(&figures, Timestamp::now()).unwrap_err().contains("tank"));
    }

    #[test]
    fn memory_that_the_arc_gives_back_is_available() {
        let meminfo = "MemTotal:       16384 kB\nMemFree:  1024 kB\nMemAvailable:    4096 kB\n";
        let arcstats = "13 1 0x01 147 39984 1 2\nname type data\nhits 4 10\nc_min 4 1048576\nsize 4 3145728\n";
        let mib = |n: u64| n << 20;
        assert_eq!(memory(meminfo, Some(arcstats)), Some(MemoryFigures { total: mib(16), available: mib(6), arc: mib(3) }));
        assert_eq!(memory(meminfo, None), Some(MemoryFigures { total: mib(16), available: mib(4), arc: 0 }));
        assert_eq!(memory("", None), None);
    }
}
