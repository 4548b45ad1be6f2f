//! The NoCloud seed by which stock cloud-init images configure themselves (instances.md section 7.5).
//!
//! Kept beside the instance's root, never in it, and shown to the guest by a read-only bind that only its root can read
//! (ruling 10). Pure but for [`write()`].

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use serde_json::{Value, json};
use triton_files::{FileError, write_atomic};
use triton_types::{IdRange, JsonMap, NicAddress, VmConfig};

use crate::{guest_files::hostname, names::guest_link};

/// Where cloud-init looks for the seed.
pub const GUEST_PATH: &str = "var/lib/cloud/seed/nocloud-net";

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
        files.push(("vendor-data", vendor.to_owned()));
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

/// Writes the seed to `directory`, readable by the guest's root alone (`owner` is its range on the host).
///
/// # Errors
/// Names the file that could not be written.
pub fn write(directory: &Path, config: &VmConfig, owner: IdRange) -> Result<(), FileError> {
    let error = |e| FileError::new("create directory", directory, e);
    fs::DirBuilder::new().recursive(true).mode(0o500).create(directory).map_err(error)?;
    for (name, content) in files(config) {
        let path = directory.join(name);
        write_atomic(&path, content.as_bytes(), 0o400)?;
        std::os::unix::fs::chown(&path, Some(owner.base), Some(owner.base)).map_err(|e| FileError::new("give to the guest", &path, e))?;
    }
    std::os::unix::fs::chown(directory, Some(owner.base), Some(owner.base)).map_err(error)
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
}
