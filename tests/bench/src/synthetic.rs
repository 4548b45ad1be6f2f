//! Many instances that exist only as files.

use std::fs;

use triton_e2e::{IMAGE_UUID, Node};
use triton_instance::Machines;
use triton_types::{IdRange, InstanceUuid, Lifecycle, Mac, MachineFile, Nic, NicAddress, Ownership, StorageKind, StorageRecord, VmConfig};

/// Whose they are.
const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";

/// Writes `count` stopped instances with metadata and one NIC each.
pub fn instances(node: &Node, count: usize) {
    let machines = Machines::new(node.layout());
    for number in 0..count {
        let uuid = InstanceUuid::random();
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
