//! What an instance finds in its own files before its first boot (instances.md section 7.5).
//!
//! Pure: configuration in, files out. They are written through `SafeRoot`, so that no link in an image diverts them.
//! Links, addresses and routes are set from the host; here the guest's own network software is told to leave them alone.

use std::borrow::Cow;

use ipnet::IpNet;
use triton_files::{SafeRoot, SafeRootError};
use triton_types::{NicAddress, VmConfig};

use crate::{names::guest_link, seed::DataSource};

const RESOLV_CONF: &str = "etc/resolv.conf";

/// One file of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFile {
    /// Path inside the guest.
    pub path: Cow<'static, str>,
    /// Content.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
    /// Written only if this directory of the guest exists.
    pub only_beside: Option<&'static str>,
}

impl GuestFile {
    fn new(path: impl Into<Cow<'static, str>>, content: String) -> Self {
        Self { path: path.into(), content, mode: 0o644, only_beside: None }
    }

    fn beside(self, directory: &'static str) -> Self {
        Self { only_beside: Some(directory), ..self }
    }
}

/// The host name that the guest gets: `hostname`, else its uuid.
pub fn hostname(config: &VmConfig) -> String {
    config.hostname.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| config.uuid.to_string())
}

/// Text from the headnode with everything left out that could begin a new line or field of a file.
fn word(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && !c.is_whitespace()).collect()
}

/// Identity and resolvers: written at creation, whatever the image holds.
pub fn identity_files(config: &VmConfig) -> Vec<GuestFile> {
    let mut files =
        vec![GuestFile::new("etc/hostname", format!("{}\n", word(&hostname(config)))), GuestFile::new("etc/hosts", hosts(config))];
    if !config.resolvers.is_empty() {
        files.push(GuestFile::new(RESOLV_CONF, resolv_conf(config)));
    }
    files
}

fn hosts(config: &VmConfig) -> String {
    let name = word(&hostname(config));
    let names = match config.dns_domain.as_deref().map(word).filter(|domain| !domain.is_empty()) {
        Some(domain) => format!("{name}.{domain} {name}"),
        None => name,
    };
    let mut text = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    let address = config.primary_nic().into_iter().flat_map(|nic| &nic.ips).find_map(|ip| match ip {
        NicAddress::Static(IpNet::V4(net)) => Some(net.addr().to_string()),
        _ => None,
    });
    text.push_str(&format!("{}\t{names}\n", address.as_deref().unwrap_or("127.0.1.1")));
    text
}

/// `/etc/resolv.conf`: three servers are what resolvers read, the rest is kept for those that read more.
pub fn resolv_conf(config: &VmConfig) -> String {
    let mut text = String::new();
    if let Some(domain) = config.dns_domain.as_deref().map(word).filter(|domain| !domain.is_empty()) {
        text.push_str(&format!("search {domain}\n"));
    }
    for resolver in &config.resolvers {
        text.push_str(&format!("nameserver {resolver}\n"));
    }
    text
}

/// Tells the guest's network software to keep what the host has set. For images without cloud-init: with it, the seed's
/// network-config is the one writer (ruling 30).
pub fn network_files(config: &VmConfig) -> Vec<GuestFile> {
    let mut interfaces =
        String::from("# Addresses and routes are set by the compute node before init runs.\nauto lo\niface lo inet loopback\n");
    let mut networkd = String::from("# Addresses and routes are set by the compute node before init runs.\n[Match]\nName=");
    let mut unmanaged = Vec::new();
    for nic in &config.nics {
        let name = guest_link(&nic.interface);
        if nic.ips.iter().any(|ip| matches!(ip, NicAddress::Dhcp)) {
            interfaces.push_str(&format!("auto {name}\niface {name} inet dhcp\n"));
        } else {
            interfaces.push_str(&format!("iface {name} inet manual\n"));
            unmanaged.push(name);
        }
    }
    let mut files = vec![GuestFile::new("etc/network/interfaces", interfaces).beside("etc/network")];
    if !unmanaged.is_empty() {
        networkd.push_str(&format!("{}\n\n[Link]\nUnmanaged=yes\n", unmanaged.join(" ")));
        files.push(GuestFile::new("etc/systemd/network/05-triton.network", networkd).beside("etc/systemd/network"));
        let list: Vec<_> = unmanaged.iter().map(|name| format!("interface-name:{name}")).collect();
        let text = format!("[keyfile]\nunmanaged-devices={}\n", list.join(";"));
        files.push(GuestFile::new("etc/NetworkManager/conf.d/05-triton.conf", text).beside("etc/NetworkManager/conf.d"));
    }
    for name in unmanaged {
        files.push(sysconfig(&name, "etc/sysconfig/network-scripts", "ONBOOT=no\nNM_CONTROLLED=no\nBOOTPROTO=none\n"));
        // The Red Hat family has a file of this name.
        files.push(sysconfig(&name, "etc/sysconfig/network", "STARTMODE=off\nBOOTPROTO=none\n"));
    }
    files
}

/// An interface's file of the Red Hat and SUSE families, in a directory that only they have.
fn sysconfig(interface: &str, directory: &'static str, settings: &str) -> GuestFile {
    let text = format!("# Addresses and routes are set by the compute node before init runs.\nDEVICE={interface}\n{settings}");
    GuestFile::new(format!("{directory}/ifcfg-{interface}"), text).beside(directory)
}

/// The files that follow a change of a configuration from `old` to `new`. What the guest's people may have made of a file whose
/// properties did not change stays. `/etc/resolv.conf` follows only with `maintain_resolvers` (instances.md section 7.5).
pub fn changed_files(old: &VmConfig, new: &VmConfig, cloud_init: bool) -> Vec<GuestFile> {
    let before = all_files(old, cloud_init);
    let mut files: Vec<GuestFile> = all_files(new, cloud_init).into_iter().filter(|file| !before.contains(file)).collect();
    files.retain(|file| file.path != RESOLV_CONF);
    if new.maintain_resolvers && resolv_conf(old) != resolv_conf(new) {
        files.push(GuestFile::new(RESOLV_CONF, resolv_conf(new)));
    }
    files
}

fn all_files(config: &VmConfig, cloud_init: bool) -> Vec<GuestFile> {
    let mut files = identity_files(config);
    let by_ec2 = cloud_init && DataSource::chosen(config) == DataSource::Ec2;
    if !cloud_init || by_ec2 {
        files.extend(network_files(config));
    }
    if by_ec2 {
        // EC2 tells no addresses: cloud-init would ask for them by DHCP, over those that the host has set.
        let text = "# Addresses and routes are set by the compute node before init runs.\nnetwork: {config: disabled}\n".to_owned();
        files.push(GuestFile::new("etc/cloud/cloud.cfg.d/90-triton.cfg", text).beside("etc/cloud/cloud.cfg.d"));
    }
    files
}

/// True if the image brings cloud-init, which then gets a seed.
pub fn has_cloud_init(root: &SafeRoot) -> bool {
    root.exists("etc/cloud/cloud.cfg") || root.exists("usr/bin/cloud-init")
}

/// Writes the files for a first boot below `root`. Calling it again writes the same. They are durable when the caller has made the
/// instance so.
///
/// # Errors
/// Names the file that could not be written.
pub fn write(root: &SafeRoot, config: &VmConfig) -> Result<(), SafeRootError> {
    all_files(config, has_cloud_init(root))
        .iter()
        .filter(|file| has_place(root, file))
        .try_for_each(|file| root.place(file.path.as_ref(), file.content.as_bytes(), file.mode))
}

/// Writes `files` below `root`, each durably.
///
/// # Errors
/// Names the file that could not be written; those before it were.
pub fn write_files(root: &SafeRoot, files: &[GuestFile]) -> Result<(), SafeRootError> {
    files
        .iter()
        .filter(|file| has_place(root, file))
        .try_for_each(|file| root.write(file.path.as_ref(), file.content.as_bytes(), file.mode))
}

fn has_place(root: &SafeRoot, file: &GuestFile) -> bool {
    file.only_beside.is_none_or(|directory| root.is_directory(directory))
}

#[cfg(test)]
mod tests {
    use triton_types::{InstanceUuid, Nic};

    use super::*;

    fn config() -> VmConfig {
        let mut config = VmConfig::bare(InstanceUuid::NIL);
        config.hostname = Some("web0".into());
        config.dns_domain = Some("example.com".into());
        config.resolvers = vec!["8.8.8.8".parse().unwrap(), "2001:4860:4860::8888".parse().unwrap()];
        for (index, ip) in [(0, "10.0.0.5/24"), (1, "dhcp")] {
            let mut nic = Nic::new(format!("net{index}"), "2:8:20:0:0:1".parse().unwrap(), "external".parse().unwrap());
            nic.primary = index == 0;
            nic.ips = vec![ip.parse().unwrap()];
            config.nics.push(nic);
        }
        config
    }

    #[test]
    fn a_guest_knows_its_name_its_address_and_its_resolvers() {
        let files = identity_files(&config());
        let text: String = files.iter().map(|f| format!("--- {}\n{}", f.path, f.content)).collect();
        assert_eq!(
            &text,
            "--- etc/hostname\nweb0\n--- etc/hosts\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.0.0.5\tweb0.example.com \
             web0\n--- etc/resolv.conf\nsearch example.com\nnameserver 8.8.8.8\nnameserver 2001:4860:4860::8888\n",
        );
    }

    #[test]
    fn only_static_interfaces_are_left_alone_by_the_guest() {
        let files = network_files(&config());
        let networkd = files.iter().find(|f| f.path.ends_with(".network")).unwrap();
        assert!(networkd.content.contains("Name=eth0\n"), "{}", networkd.content);
        let red_hat = files.iter().find(|f| f.path == "etc/sysconfig/network-scripts/ifcfg-eth0").unwrap();
        assert!(red_hat.content.contains("DEVICE=eth0\nONBOOT=no\n"), "{}", red_hat.content);
        assert!(!files.iter().any(|f| f.path.contains("ifcfg-eth1")), "dhcp is the guest's own");
        let interfaces = &files[0].content;
        assert!(interfaces.contains("iface eth0 inet manual") && interfaces.contains("auto eth1\niface eth1 inet dhcp"), "{interfaces}");
    }

    #[test]
    fn only_files_whose_properties_changed_are_written_again() {
        let old = config();
        let paths = |new: &VmConfig| changed_files(&old, new, false).into_iter().map(|file| file.path.into_owned()).collect::<Vec<_>>();
        assert!(paths(&old).is_empty());
        assert_eq!(paths(&VmConfig { hostname: Some("db0".into()), ..old.clone() }), ["etc/hostname", "etc/hosts"]);
        let resolvers = vec!["9.9.9.9".parse().unwrap()];
        assert!(paths(&VmConfig { resolvers: resolvers.clone(), ..old.clone() }).is_empty());
        assert_eq!(paths(&VmConfig { resolvers, maintain_resolvers: true, ..old.clone() }), ["etc/resolv.conf"]);
        let mut more = old.clone();
        more.nics.push(Nic { ips: vec!["10.0.1.5/24".parse().unwrap()], mac: "2:8:20:0:0:2".parse().unwrap(), ..more.nics[0].clone() });
        more.nics[2].interface = "net2".into();
        assert!(paths(&more).contains(&"etc/network/interfaces".to_owned()));
        assert!(changed_files(&old, &more, true).is_empty(), "with cloud-init the seed is the one writer");
    }

    #[test]
    fn no_text_begins_a_new_line() {
        let mut config = config();
        config.hostname = Some("a\nevil 1.2.3.4".into());
        config.dns_domain = Some("b\nnameserver 6.6.6.6".into());
        let files = identity_files(&config);
        assert_eq!(files[0].content, "aevil1.2.3.4\n");
        assert!(!files[2].content.contains("\nnameserver 6"), "{}", files[2].content);
    }
}
