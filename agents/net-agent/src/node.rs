//! What the agent asks of its node: a seam for tests, with the real node behind it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use triton_agent::{Environment, ProcessEnvironment, chain};
use triton_files::{Layout, read_json, write_json};
use triton_instance::{Inventory, Loaded, Look, RealInventory};
use triton_netconf::Networking;
use triton_sysinfo::{Sysinfo, SysinfoOptions};
use triton_types::{InstanceUuid, JsonMap, Mac};

use crate::{core::Kept, local::PROPERTIES};

/// The node. Calls block.
pub trait Node: Inventory {
    /// Gives an instance this payload of `vmadm update`.
    ///
    /// # Errors
    /// When it was not taken; nothing is changed then.
    fn update(&self, uuid: InstanceUuid, payload: JsonMap) -> Result<(), String>;

    /// Reboots an instance that runs.
    ///
    /// # Errors
    /// When it did not.
    fn reboot(&self, uuid: InstanceUuid) -> Result<(), String>;

    /// The sysinfo document, and the tags of the machine's further NICs by address.
    ///
    /// # Errors
    /// When it is not to be had.
    fn machine(&self) -> Result<(JsonMap, BTreeMap<Mac, String>), String>;

    /// The instances that this node is known to have destroyed itself.
    fn gone(&self) -> BTreeSet<InstanceUuid>;

    /// Keeps this over restarts.
    ///
    /// # Errors
    /// When it cannot be written.
    fn keep(&self, kept: &Kept) -> Result<(), String>;
}

/// The node below a root.
pub struct RealNode {
    layout: Layout,
    inventory: RealInventory,
}

/// The file of what is kept.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeptFile {
    format: u32,
    #[serde(default)]
    hidden: BTreeSet<InstanceUuid>,
    #[serde(default)]
    reboots: BTreeMap<InstanceUuid, String>,
}

fn kept_path(layout: &Layout) -> PathBuf {
    layout.at("/var/triton/net-agent.json")
}

/// What an earlier agent kept.
///
/// # Errors
/// When the file is there and cannot be used: hidden instances would lose their NICs.
pub fn load_kept(layout: &Layout) -> Result<Kept, String> {
    let path = kept_path(layout);
    let file: Option<KeptFile> = read_json(&path).map_err(|error| chain(&error).to_string())?;
    match file {
        None => Ok(Kept::default()),
        Some(file) if file.format == 1 => Ok(Kept { hidden: file.hidden, reboots: file.reboots }),
        Some(file) => Err(format!("{} has format {}, made by a newer net-agent", path.display(), file.format)),
    }
}

impl RealNode {
    /// That of `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), inventory: RealInventory::of_properties(layout, &PROPERTIES) }
    }
}

impl Inventory for RealNode {
    fn load(&self, uuid: InstanceUuid) -> Result<Loaded, String> {
        self.inventory.load(uuid)
    }

    fn each(&self, take: &mut dyn FnMut(InstanceUuid, Loaded)) -> Result<(), String> {
        self.inventory.each(take)
    }

    fn look_around(&self) -> Result<Vec<(InstanceUuid, Look)>, String> {
        self.inventory.look_around()
    }

    fn forget(&self) {
        self.inventory.forget();
    }
}

impl Node for RealNode {
    fn gone(&self) -> BTreeSet<InstanceUuid> {
        triton_instance::gone(&self.layout)
    }

    fn update(&self, uuid: InstanceUuid, payload: JsonMap) -> Result<(), String> {
        let outcome = self.inventory.instances()?.update(uuid, payload).map_err(|error| chain(&error).to_string())?;
        for warning in outcome.warnings {
            tracing::warn!(vm_uuid = %uuid, warning, "an instance follows NAPI");
        }
        Ok(())
    }

    fn reboot(&self, uuid: InstanceUuid) -> Result<(), String> {
        self.inventory.instances()?.reboot(uuid, false).map_err(|error| chain(&error).to_string())
    }

    fn machine(&self) -> Result<(JsonMap, BTreeMap<Mac, String>), String> {
        // As cn-agent has it: a node of a test bed may be told its address.
        let admin_ip = ProcessEnvironment.get("ADMIN_IP").and_then(|ip| ip.parse().ok());
        let sysinfo = Sysinfo::collect(&self.layout, &SysinfoOptions { admin_ip, ..SysinfoOptions::default() })
            .map_err(|error| chain(&error).to_string())?;
        let document: Option<JsonMap> =
            read_json(&self.layout.config().join("triton-networking.json")).map_err(|error| chain(&error).to_string())?;
        let (networking, _) = Networking::of_document(document.unwrap_or_default());
        let tags = networking.vnics.iter().map(|vnic| (vnic.mac, vnic.tag.to_string())).collect();
        Ok((sysinfo.into_map(), tags))
    }

    fn keep(&self, kept: &Kept) -> Result<(), String> {
        let file = KeptFile { format: 1, hidden: kept.hidden.clone(), reboots: kept.reboots.clone() };
        write_json(&kept_path(&self.layout), &file, 0o600).map_err(|error| chain(&error).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_again_and_what_cannot_be_read_is_not_nothing() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        std::fs::create_dir_all(layout.at("/var/triton")).unwrap();
        assert_eq!(load_kept(&layout).unwrap(), Kept::default());
        let kept = Kept { hidden: [InstanceUuid::random()].into(), reboots: [(InstanceUuid::random(), "t".to_owned())].into() };
        RealNode::new(&layout).keep(&kept).unwrap();
        assert_eq!(load_kept(&layout).unwrap(), kept);
        for text in ["{", r#"{"format":2}"#, r#"{"format":1,"hidden":["x"]}"#] {
            std::fs::write(kept_path(&layout), text).unwrap();
            assert!(load_kept(&layout).is_err(), "{text}");
        }
    }
}
