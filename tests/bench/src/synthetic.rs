//! Many instances that exist only as files and, where that is asked for, as links.

use std::{fs, process::Command};

use triton_e2e::{IMAGE_UUID, Node};
use triton_guard::Guard;
use triton_instance::{Machines, guard::protections};
use triton_types::{IdRange, InstanceUuid, Lifecycle, Mac, MachineFile, Nic, NicAddress, Ownership, StorageKind, StorageRecord, VmConfig};

/// Whose they are.
const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";

/// They go with this: whoever ends them by `vmadm delete` waits for minutes.
pub struct Synthetic<'a> {
    node: &'a Node,
    uuids: Vec<InstanceUuid>,
    links: Vec<String>,
}

/// Writes `count` stopped instances with metadata and one NIC each.
#[must_use = "they are removed when this is dropped"]
pub fn instances(node: &Node, count: usize) -> Synthetic<'_> {
    let machines = Machines::new(node.layout());
    let mut all = Synthetic { node, uuids: Vec::with_capacity(count), links: Vec::new() };
    for number in 0..count {
        let uuid = InstanceUuid::random();
        all.uuids.push(uuid);
        let mut config = VmConfig::bare(uuid);
        config.alias = Some(format!("synthetic{number}"));
        config.image_uuid = IMAGE_UUID.parse().ok();
        config.zpool = Some("zones".to_owned());
        (config.max_physical_memory, config.max_swap, config.cpu_cap) = (Some(256), Some(512), Some(100));
        config.tags.insert("role".to_owned(), "bench".into());
        let [.., c, d] = (number as u32).to_be_bytes();
        let mut nic = Nic::new("net0", Mac([2, 8, 0x20, 1, c, d]), "external".parse().expect("a tag"));
        nic.ips = vec![NicAddress::Static(ipnet::IpNet::new([10, 64, c.wrapping_add(1), d].into(), 16).expect("a prefix"))];
        config.nics.push(nic);
        config.owner_uuid = Some(OWNER.to_owned());
        let ids = IdRange { base: 1_000_000 + 65_536 * (number as u32), size: 65_536 };
        let storage = StorageRecord { kind: StorageKind::Dir, ids, ownership: Some(Ownership::Idmapped) };
        fs::create_dir_all(node.layout().at("/zones").join(uuid.to_string()).join("root")).expect("disk");
        let file = MachineFile { format: 1, lifecycle: Lifecycle::Installed, storage: Some(storage), config };
        machines.write(&file).expect("disk");
        machines.write_documents(&file).expect("disk");
    }
    all
}

impl Synthetic<'_> {
    /// Makes a link for each NIC, named as the host's end of a guest's. Of a kind that has no other end: that would be a link of the
    /// machine's own.
    pub fn add_links(&mut self) {
        let machines = Machines::new(self.node.layout());
        for uuid in &self.uuids {
            let file = machines.read_alone(*uuid).expect("it was just written");
            self.links.extend(protections(&file.config).into_iter().map(|protection| protection.link));
        }
        assert!(self.change_links("add", " type bridge"), "the links could not be made");
    }

    /// Whether all could be changed; what cannot is passed over.
    fn change_links(&self, verb: &str, rest: &str) -> bool {
        let lines: String = self.links.iter().map(|link| format!("link {verb} {link}{rest}\n")).collect();
        let batch = self.node.layout().at("/var/tmp/links");
        let pin = format!("--net={}", self.node.layout().namespaces().join("net").display());
        let mut ip = Command::new("nsenter");
        ip.arg(pin).args(["ip", "-force", "-batch"]).arg(&batch);
        fs::write(&batch, lines).is_ok() && ip.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Synthetic<'_> {
    fn drop(&mut self) {
        let layout = self.node.layout();
        if !self.links.is_empty() {
            self.change_links("delete", "");
            // A node of its own goes with its namespace; a machine has no other, and its guard knew them for NICs of instances.
            if self.node.is_machine() && Guard::open(layout).and_then(|mut guard| guard.forget(&self.links)).is_err() {
                eprintln!("the guard still knows links of synthetic instances");
            }
        }
        for uuid in &self.uuids {
            // One that was changed has a run-state and a lock by now.
            for file in [layout.machine(*uuid), layout.run_state(*uuid), layout.instance_lock(*uuid)] {
                let _ = fs::remove_file(file);
            }
            let _ = fs::remove_dir_all(layout.at("/zones").join(uuid.to_string()));
        }
    }
}

/// Reads every file of every instance once, as the least that any list must do.
pub fn read_all(node: &Node) {
    for entry in fs::read_dir(node.layout().machines()).expect("disk").flatten() {
        let _ = fs::read(entry.path());
        let name = entry.file_name();
        let config = node.layout().at("/zones").join(name.to_string_lossy().trim_end_matches(".json")).join("config");
        for document in ["metadata.json", "tags.json", "routes.json"] {
            let _ = fs::read(config.join(document));
        }
    }
}
