//! What the kernel says about this machine.

use std::{fs, path::Path};

use triton_types::Mac;

/// The MAC addresses that the physical NICs were built with. None if there is no such NIC (yet), or it cannot be told.
pub(super) fn nics(sysfs: &Path) -> Option<Vec<Mac>> {
    let mut nics: Vec<Mac> = Vec::new();
    for entry in fs::read_dir(sysfs.join("class/net")).ok()?.flatten() {
        let link = entry.path();
        if !link.join("device").exists() {
            continue;
        }
        // A NIC in a bond shows the bond's address.
        let address = |file: &str| -> Option<Mac> { fs::read_to_string(link.join(file)).ok()?.trim().parse().ok() };
        nics.extend(address("bonding_slave/perm_hwaddr").or_else(|| address("address")));
    }
    nics.sort_unstable();
    Some(nics).filter(|nics| !nics.is_empty())
}
