//! Disks of the machine.

use serde_json::json;
use triton_types::JsonMap;

use crate::Source;

/// Names of block devices that are no disks of the machine: made of files, of other devices, of memory or of datasets, or removable media.
const NO_DISK: [&str; 12] = ["loop", "zd", "sr", "scd", "nbd", "ram", "zram", "dm-", "md", "fd", "rbd", "drbd"];

/// `{"sda":{"Size in GB":480}}`, in units of 10^9 bytes, rounded down. Only devices with hardware (or a hypervisor) behind them.
pub(crate) fn disks(source: &Source) -> Option<JsonMap> {
    if !source.exists("/sys/block") {
        return None;
    }
    let mut disks = JsonMap::new();
    for name in source.names("/sys/block") {
        if NO_DISK.iter().any(|prefix| name.starts_with(prefix)) || !source.exists(&format!("/sys/block/{name}/device")) {
            continue;
        }
        // The kernel counts in units of 512 bytes, whatever the disk's own block size.
        let sectors: u64 = source.read_number(&format!("/sys/block/{name}/size")).unwrap_or(0);
        if sectors > 0 {
            disks.insert(name, json!({"Size in GB": sectors.saturating_mul(512) / 1_000_000_000}));
        }
    }
    Some(disks)
}
