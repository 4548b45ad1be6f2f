//! The NoCloud seed by which stock cloud-init images configure themselves (instances.md section 7.5).
//!
//! Kept beside the instance's root, never in it, and shown to the guest by a read-only bind that only its root can read
//! (ruling 10). Rendered at creation, after each update and at each boot (ruling 30). Pure but for [`write()`].

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use serde_json::{Value, json};
use triton_files::{FileError, SafeRoot, SafeRootError};
use triton_types::{IdRange, JsonMap, NicAddress, VmConfig};

use crate::{guest_files::hostname, names::guest_link};

/// Where cloud-init looks for the seed.
pub const GUEST_PATH: &str = "var/lib/cloud/seed/nocloud-net";

const VENDOR_DATA: &str = "vendor-data";

/// The seed could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// Its directory.
    #[error(transparent)]
    Directory(#[from] FileError),
    /// A file in it.
    #[error(transparent)]
    File(#[from] SafeRootError),
}

fn text_of<'a>(map: &'a JsonMap, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str)
}

/// The files of the seed: name and content. JSON is YAML, so nothing has to be escaped by hand.
pub fn files(config: &VmConfig) -> Vec<(&'static str, String)> {
    let metadata = &config.customer_metadata;
    let mut meta = json!({"instance-id": config.uuid, "local-hostname": hostname(config)});
    let keys: Vec<&str> = text_of(metadata, "root_authorized_keys").unwrap_or_default().lines().filter(|l| !l.trim().is_empty()).collect();
    if !keys.is_empty() {
        meta["public-keys"] = json!(keys);
    }
    let user_data = match (text_of(metadata, "cloud-init:user-data"), text_of(metadata, "user-script")) {
        (Some(data), _) => data.to_owned(),
        (None, Some(script)) if script.starts_with("#!") => script.to_owned(),
        (None, Some(script)) => format!("#!/bin/sh\n{script}"),
        (None, None) => "#cloud-config\n{}\n".to_owned(),
    };
    let mut files =
        vec![("meta-data", format!("{meta:#}\n")), ("user-data", user_data), ("network-config", format!("{:#}\n", network_config(config)))];
    if let Some(vendor) = text_of(&config.internal_metadata, "cloud-init:vendor-data") {
        files.push((VENDOR_DATA, vendor.to_owned()));
    }
    files
}

/// Network configuration version 2, every NIC matched by its MAC.
fn network_config(config: &VmConfig) -> Value {
    let mut ethernets = JsonMap::new();
    for nic in &config.nics {
        let name = guest_link(&nic.interface);
        let addresses: Vec<String> = nic.ips.iter().filter_map(NicAddress::net).map(|net| net.to_string()).collect();
        let mut entry = json!({
            "match": {"macaddress": nic.mac},
            "set-name": name,
            "dhcp4": nic.ips.contains(&NicAddress::Dhcp),
            "accept-ra": nic.ips.contains(&NicAddress::Addrconf),
        });
        if !addresses.is_empty() {
            entry["addresses"] = json!(addresses);
        }
        if let Some(mtu) = nic.mtu {
            entry["mtu"] = json!(mtu);
        }
        if let Some(gateway) = nic.gateways.first().filter(|_| nic.primary) {
            entry["gateway4"] = json!(gateway);
        }
        if !config.resolvers.is_empty() {
            entry["nameservers"] = json!({"addresses": config.resolvers, "search": config.dns_domain.iter().collect::<Vec<_>>()});
        }
        ethernets.insert(name, entry);
    }
    json!({"version": 2, "ethernets": ethernets})
}

/// Writes the seed to `directory`, readable by the guest's root alone (`owner` is its range on the host). Files that are
/// right already are left alone. The guest sees the directory while this writes, and owns it: nothing in it is followed.
///
/// # Errors
/// Names the file that could not be written.
pub fn write(directory: &Path, config: &VmConfig, owner: IdRange) -> Result<(), SeedError> {
    let error = |e| FileError::new("create directory", directory, e);
    fs::DirBuilder::new().recursive(true).mode(0o500).create(directory).map_err(error)?;
    let root = SafeRoot::open(directory, (owner.base, owner.base))?;
    let wanted = files(config);
    for (name, content) in &wanted {
        // One byte more than is right shows a file that is too long.
        let found = root.read(name, content.len() as u64 + 1).ok().flatten();
        if found.as_deref() != Some(content.as_bytes()) {
            root.write(name, content.as_bytes(), 0o400)?;
        }
    }
    if !wanted.iter().any(|(name, _)| *name == VENDOR_DATA) {
        root.remove(VENDOR_DATA)?;
    }
    Ok(std::os::unix::fs::lchown(directory, Some(owner.base), Some(owner.base)).map_err(error)?)
}

#[cfg(test)]
mod tests {
    use triton_types::{InstanceUuid, Nic};

    use super::*;

    #[test]
    fn every_nic_is_in_the_seed_and_only_the_primary_routes() {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        for index in 0..2u8 {
            let mac = triton_types::Mac([2, 8, 0x20, 0, 0, index]);
            let mut nic = Nic::new(format!("net{index}"), mac, "external".parse().unwrap());
            nic.ips = vec![format!("10.0.{index}.5/24").parse().unwrap(), "fd00::5/64".parse().unwrap()];
            nic.gateways = vec!["10.0.0.1".parse().unwrap()];
            nic.primary = index == 1;
            config.nics.push(nic);
        }
        let network = network_config(&config);
        assert_eq!(network["ethernets"]["eth0"]["match"]["macaddress"], "02:08:20:00:00:00");
        assert!(network["ethernets"]["eth0"].get("gateway4").is_none());
        assert_eq!(network["ethernets"]["eth1"]["gateway4"], "10.0.0.1");
        assert_eq!(network["ethernets"]["eth1"]["addresses"][1], "fd00::5/64");
    }

    #[test]
    fn keys_and_user_data_come_from_metadata() {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.customer_metadata.insert("root_authorized_keys".into(), "ssh-ed25519 AAAA a\n\nssh-rsa BBBB b\n".into());
        config.customer_metadata.insert("user-script".into(), "echo hi".into());
        let files = files(&config);
        let meta: Value = serde_json::from_str(&files[0].1).unwrap();
        assert_eq!(meta["public-keys"], json!(["ssh-ed25519 AAAA a", "ssh-rsa BBBB b"]));
        assert_eq!(files[1].1, "#!/bin/sh\necho hi");
    }

    #[test]
    fn the_seed_is_written_again_over_whatever_a_guest_put_in_its_place() {
        let directory = std::env::temp_dir().join(format!("triton-seed-{}", std::process::id()));
        let victim = directory.with_extension("victim");
        fs::write(&victim, "mine").unwrap();
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.internal_metadata.insert("cloud-init:vendor-data".into(), "#!/bin/true".into());
        let owner = IdRange { base: 1_000_000, size: 65_536 };
        let seed = directory.join("seed");
        write(&seed, &config, owner).unwrap();
        let inode = |name: &str| std::os::unix::fs::MetadataExt::ino(&fs::symlink_metadata(seed.join(name)).unwrap());
        let before = inode("meta-data");
        fs::remove_file(seed.join("user-data")).unwrap();
        std::os::unix::fs::symlink(&victim, seed.join("user-data")).unwrap();
        config.internal_metadata.clear();
        write(&seed, &config, owner).unwrap();
        assert_eq!(inode("meta-data"), before, "what is right is left alone");
        assert!(fs::symlink_metadata(seed.join("user-data")).unwrap().is_file());
        assert!(!seed.join(VENDOR_DATA).exists());
        let meta = fs::metadata(&victim).unwrap();
        assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), std::os::unix::fs::MetadataExt::uid(&meta)), ("mine", 0));
        fs::remove_file(&victim).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }
}
