//! The NoCloud seed by which stock cloud-init images configure themselves (instances.md section 7.5).
//!
//! Kept beside the instance's root, never in it, and shown to the guest by a read-only bind that only its root can read
//! (ruling 10). Rendered at creation, after each update and at each boot (ruling 30). Pure but for [`write()`].

use std::{fs, os::unix::fs::DirBuilderExt, path::Path};

use serde_json::{Value, json};
use triton_files::{FileError, SafeRoot, SafeRootError};
use triton_types::{IdRange, JsonMap, NicAddress, VmConfig};

use crate::{guest_files::hostname, names::guest_link, network};

/// The key of internal metadata that chooses how cloud-init learns, as upstream has it (metadata.md section 4.6).
pub const DATA_SOURCE_KEY: &str = "cloudinit_datasource";

/// How cloud-init in the guest learns what to do. Exactly one way: two would both be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// The seed.
    NoCloud,
    /// The metadata service over HTTP, in the shape of OpenStack.
    OpenStack,
    /// The same in the shape of EC2, for images that are set to it: cloud-init never chooses it by itself in a container.
    Ec2,
}

impl DataSource {
    /// By its word; every other is the usual one.
    pub fn of(word: &str) -> Self {
        match word {
            "openstack" => Self::OpenStack,
            "ec2" => Self::Ec2,
            _ => Self::NoCloud,
        }
    }

    /// What an operator chose for an instance.
    pub(crate) fn chosen(config: &VmConfig) -> Self {
        Self::of(text_of(&config.internal_metadata, DATA_SOURCE_KEY).unwrap_or_default())
    }

    /// The service answers over HTTP.
    pub fn is_http(self) -> bool {
        self != Self::NoCloud
    }
}

/// Where cloud-init looks for the seed.
pub const GUEST_PATH: &str = "var/lib/cloud/seed/nocloud-net";

/// The one file that may be absent.
const NETWORK_CONFIG: &str = "network-config";
/// The key of a network configuration of the customer's own.
const NETWORK_KEY: &str = "cloud-init:network-config";

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

/// What the guest runs at each boot.
const BOOT_SCRIPT: &str = include_str!("seed_boot.sh");
/// Where cloud-init looks for such scripts.
const BOOT_SCRIPT_PATH: &str = "/var/lib/cloud/scripts/per-boot/50-triton";

/// A text that the operator or the customer wants in the place of ours.
fn wanted<'a>(config: &'a VmConfig, key: &str) -> Option<&'a str> {
    text_of(&config.customer_metadata, key).or_else(|| text_of(&config.internal_metadata, key))
}

/// The files of the seed: name and content. JSON is YAML, so nothing has to be escaped by hand.
pub fn files(config: &VmConfig) -> Vec<(&'static str, String)> {
    let keys = text_of(&config.customer_metadata, "root_authorized_keys").unwrap_or_default();
    let keys: Vec<&str> = keys.lines().filter(|line| !line.trim().is_empty()).collect();
    let named = [&config.hostname, &config.alias].into_iter().flatten().find(|name| !name.is_empty()).cloned();
    let mut meta = json!({"instance-id": config.uuid, "local-hostname": named.unwrap_or_else(|| hostname(config))});
    if !keys.is_empty() {
        meta["public-keys"] = json!(keys);
    }
    let user_data = wanted(config, "cloud-init:user-data").unwrap_or("#cloud-config\n{}\n").to_owned();
    let vendor_data = wanted(config, "cloud-init:vendor-data").map_or_else(vendor_data, str::to_owned);
    let mut files = vec![("meta-data", format!("{meta:#}\n")), ("user-data", user_data), ("vendor-data", vendor_data)];
    match wanted(config, NETWORK_KEY) {
        Some(text) => files.push((NETWORK_CONFIG, text.to_owned())),
        None if config.nics.is_empty() => {}
        None => files.push((NETWORK_CONFIG, format!("{:#}\n", network_config(config)))),
    }
    files
}

/// What cloud-init does by itself for a guest of Triton: its root may log in with the keys of the metadata, and the scripts of
/// the metadata run at each boot. User data may say otherwise.
pub fn vendor_data() -> String {
    let hook = format!(
        "#!/bin/sh\nmkdir -p /var/lib/cloud/scripts/per-boot\ncat > {BOOT_SCRIPT_PATH} << 'END-OF-SCRIPT'\n{BOOT_SCRIPT}END-OF-SCRIPT\nchmod 755 \
         {BOOT_SCRIPT_PATH}\n"
    );
    let parts = json!([
        {"type": "text/cloud-config", "content": "#cloud-config\n{\"disable_root\": false}\n"},
        {"type": "text/cloud-boothook", "content": hook},
    ]);
    format!("#cloud-config-archive\n{parts:#}\n")
}

/// Network configuration version 2, every NIC matched by its MAC. Routes without a gateway have no form there that every
/// cloud-init understands: they are the host's alone, who sets them before init runs.
fn network_config(config: &VmConfig) -> Value {
    let mut ethernets = JsonMap::new();
    let routes = network::routes(config);
    for nic in &config.nics {
        let name = guest_link(&nic.interface);
        let addresses: Vec<String> = nic.ips.iter().filter_map(NicAddress::net).map(|net| net.to_string()).collect();
        let addrconf = nic.ips.contains(&NicAddress::Addrconf);
        let mut entry = json!({
            "match": {"macaddress": nic.mac},
            "set-name": name,
            "dhcp4": nic.ips.contains(&NicAddress::Dhcp),
            "dhcp6": addrconf,
            "accept-ra": addrconf,
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
        let via = routes.iter().filter(|route| route.interface == name);
        let via = via.filter_map(|route| Some(json!({"to": route.destination?, "via": route.gateway?})));
        let via: Vec<Value> = via.collect();
        if !via.is_empty() {
            entry["routes"] = json!(via);
        }
        if nic.primary && !config.resolvers.is_empty() {
            entry["nameservers"] = json!({"addresses": config.resolvers, "search": config.dns_domain.iter().collect::<Vec<_>>()});
        }
        ethernets.insert(name, entry);
    }
    json!({"version": 2, "ethernets": ethernets})
}

/// Writes the seed to `directory`, readable by the guest's root alone (`owner` is its range on the host). Files that are
/// right already are left alone; none is waited for, since every boot writes again what is not right. The guest sees the directory while this writes, and owns it: nothing in it is followed.
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
            root.place(name, content.as_bytes(), 0o400)?;
        }
    }
    if !wanted.iter().any(|(name, _)| *name == NETWORK_CONFIG) {
        root.remove(NETWORK_CONFIG)?;
    }
    Ok(std::os::unix::fs::lchown(directory, Some(owner.base), Some(owner.base)).map_err(error)?)
}

#[cfg(test)]
mod tests {
    use triton_types::{InstanceUuid, Nic};

    use super::*;

    fn file(config: &VmConfig, name: &str) -> Option<String> {
        files(config).into_iter().find(|(file, _)| *file == name).map(|(_, content)| content)
    }

    /// metadata case 73
    #[test]
    fn every_nic_is_in_the_seed_and_only_the_primary_routes_and_resolves() {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        assert_eq!(file(&config, "network-config"), None, "without NICs there is none");
        for index in 0..3u8 {
            let mac = triton_types::Mac([2, 8, 0x20, 0, 0, index]);
            let mut nic = Nic::new(format!("net{index}"), mac, "external".parse().unwrap());
            nic.ips = match index {
                2 => vec![NicAddress::Dhcp, NicAddress::Addrconf],
                _ => vec![format!("10.0.{index}.5/24").parse().unwrap(), "fd00::5/64".parse().unwrap()],
            };
            nic.gateways = vec!["10.0.1.1".parse().unwrap()];
            nic.primary = index == 1;
            config.nics.push(nic);
        }
        config.routes.insert("10.9.0.0/16".into(), "10.0.0.7".into());
        config.routes.insert("10.8.0.0/16".into(), "nics[0]".into());
        let network = network_config(&config);
        let nic = |index: usize| &network["ethernets"][format!("eth{index}")];
        assert_eq!(nic(0)["match"]["macaddress"], "02:08:20:00:00:00");
        assert_eq!((nic(0).get("gateway4"), nic(0)["routes"].clone()), (None, json!([{"to": "10.9.0.0/16", "via": "10.0.0.7"}])));
        assert_eq!((&nic(1)["gateway4"], &nic(1)["addresses"][1]), (&json!("10.0.1.1"), &json!("fd00::5/64")));
        assert_eq!((&nic(2)["dhcp4"], &nic(2)["dhcp6"], nic(2).get("addresses")), (&json!(true), &json!(true), None));
        assert!(!network.to_string().contains("nameservers"), "without resolvers there are none");
        config.resolvers = vec!["192.0.2.53".parse().unwrap()];
        config.dns_domain = Some("local".into());
        let network = network_config(&config);
        assert_eq!(network["ethernets"]["eth1"]["nameservers"], json!({"addresses": ["192.0.2.53"], "search": ["local"]}));
        assert!(network["ethernets"]["eth0"].get("nameservers").is_none());
        assert!(file(&config, "network-config").unwrap().ends_with("}\n"));
        config.customer_metadata.insert("cloud-init:network-config".into(), "version: 1\n".into());
        assert_eq!(file(&config, "network-config").as_deref(), Some("version: 1\n"));
    }

    /// metadata case 73
    #[test]
    fn names_keys_and_data_come_from_the_instance_and_its_metadata() {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        let meta = |config: &VmConfig| serde_json::from_str::<Value>(&file(config, "meta-data").unwrap()).unwrap();
        assert_eq!(meta(&config)["local-hostname"], InstanceUuid::NIL.to_string());
        config.alias = Some("web0".into());
        assert_eq!(meta(&config)["local-hostname"], "web0");
        config.hostname = Some("www".into());
        assert_eq!(meta(&config)["local-hostname"], "www");
        assert_eq!(file(&config, "user-data").as_deref(), Some("#cloud-config\n{}\n"));
        config.customer_metadata.insert("root_authorized_keys".into(), "ssh-ed25519 AAAA a\n\nssh-rsa BBBB b\n".into());
        config.customer_metadata.insert("user-script".into(), "echo hi".into());
        assert_eq!(meta(&config)["public-keys"], json!(["ssh-ed25519 AAAA a", "ssh-rsa BBBB b"]));
        let vendor = file(&config, "vendor-data").unwrap();
        let parts: Value = serde_json::from_str(vendor.strip_prefix("#cloud-config-archive\n").unwrap()).unwrap();
        assert!(parts[1]["content"].as_str().unwrap().contains("fetch sdc:operator-script"));
        config.customer_metadata.insert("cloud-init:user-data".into(), "#!/bin/sh\nx\n".into());
        config.customer_metadata.insert("cloud-init:vendor-data".into(), "#cloud-config\n".into());
        assert_eq!(file(&config, "user-data").as_deref(), Some("#!/bin/sh\nx\n"));
        assert_eq!(file(&config, "vendor-data").as_deref(), Some("#cloud-config\n"));
    }

    #[test]
    fn the_seed_is_written_again_over_whatever_a_guest_put_in_its_place() {
        let directory = std::env::temp_dir().join(format!("triton-seed-{}", std::process::id()));
        let victim = directory.with_extension("victim");
        fs::write(&victim, "mine").unwrap();
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.internal_metadata.insert(NETWORK_KEY.into(), "version: 2".into());
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
        assert!(!seed.join(NETWORK_CONFIG).exists());
        let meta = fs::metadata(&victim).unwrap();
        assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), std::os::unix::fs::MetadataExt::uid(&meta)), ("mine", 0));
        fs::remove_file(&victim).unwrap();
        fs::remove_dir_all(&directory).unwrap();
    }
}
