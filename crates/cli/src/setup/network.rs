//! What the node is told of its network, in the form in which a headnode would tell it: networking.json and node.config. The
//! boot's own code judges it, so that what is accepted here is configured there.

use std::{fs, net::IpAddr, path::Path};

use serde_json::{Value, json};
use triton_files::Layout;
use triton_netconf::{Facts, Networking, plan};
use triton_types::Mac;

use super::args::Setup;

/// The files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Network {
    /// networking.json; None: the node's own is left as it is.
    pub(crate) networking: Option<Value>,
    /// Lines of node.config; empty: the file is left as it is.
    pub(crate) node_config: String,
    /// For the operator.
    pub(crate) words: String,
}

/// One NIC of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nic {
    pub(crate) name: String,
    pub(crate) mac: Mac,
}

/// The physical NICs, by name.
pub(crate) fn nics(sysfs: &Path) -> Vec<Nic> {
    let mut nics = Vec::new();
    for entry in fs::read_dir(sysfs.join("class/net")).into_iter().flatten().flatten() {
        let (folder, Ok(name)) = (entry.path(), entry.file_name().into_string()) else { continue };
        // 1: Ethernet.
        let ethernet = fs::read_to_string(folder.join("type")).map_or(true, |kind| kind.trim() == "1");
        let mac = fs::read_to_string(folder.join("address")).ok().and_then(|text| text.trim().parse().ok());
        if let (true, true, Some(mac)) = (folder.join("device").exists(), ethernet, mac) {
            nics.push(Nic { name, mac });
        }
    }
    nics.sort_by(|one: &Nic, other| one.name.cmp(&other.name));
    nics
}

impl Network {
    /// Decides on the files.
    ///
    /// # Errors
    /// Every reason why the network cannot be as it was asked for.
    pub(crate) fn of(layout: &Layout, nics: &[Nic], wanted: &Setup) -> Result<Self, Vec<String>> {
        let node_config = node_config(wanted);
        let asked = wanted.dhcp || wanted.address.is_some();
        let keep = |words: &str| Ok(Self { networking: None, node_config: node_config.clone(), words: words.to_owned() });
        if wanted.no_network {
            return keep("is left as it is");
        }
        if !asked && layout.config().join("triton-networking.json").exists() {
            return keep("networking.json is there already and stays");
        }
        let admin = admin(nics, wanted).map_err(|error| vec![error])?;
        let Some(admin) = admin else { return keep("this machine has no NIC: nothing is configured") };
        let document = document(admin.mac, wanted);
        judge(&document, nics)?;
        let how = wanted.address.map_or_else(|| "by DHCP".to_owned(), |address| address.to_string());
        let vlan = if wanted.vlan == 0 { String::new() } else { format!(" on VLAN {}", wanted.vlan) };
        let words = format!("{} ({}) is the admin NIC, with an address {how}{vlan}", admin.name, admin.mac);
        Ok(Self { networking: Some(document), node_config, words })
    }
}

fn admin<'a>(nics: &'a [Nic], wanted: &Setup) -> Result<Option<&'a Nic>, String> {
    let list = || nics.iter().map(|nic| format!("{} ({})", nic.mac, nic.name)).collect::<Vec<_>>().join(", ");
    match (wanted.admin_nic, nics) {
        (Some(mac), _) => match nics.iter().find(|nic| nic.mac == mac) {
            Some(nic) => Ok(Some(nic)),
            None => Err(format!("no NIC of this machine has the address {mac}; it has: {}", list())),
        },
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (None, _) => Err(format!("say with --admin-nic which NIC is the admin network's: {}", list())),
    }
}

fn document(mac: Mac, wanted: &Setup) -> Value {
    let mut tags = vec![json!({"name": "admin", "mac": mac, "mtu": 1500})];
    tags.extend(wanted.nic_tag.iter().map(|(tag, mac)| json!({"name": tag, "mac": mac, "mtu": 1500})));
    let mut vnic = json!({"mac": mac, "nic_tag": "admin", "vlan_id": wanted.vlan, "mtu": 1500, "primary": true});
    match wanted.address {
        Some(address) => vnic["ips"] = json!([address]),
        None => vnic["ip"] = json!("dhcp"),
    }
    // SmartOS writes the plain forms, and what reads them here and elsewhere knows both.
    if let Some(ipnet::IpNet::V4(address)) = wanted.address {
        vnic["ip"] = json!(address.addr());
        vnic["netmask"] = json!(address.netmask());
        _ = vnic.as_object_mut().map(|map| map.remove("ips"));
    }
    if let Some(gateway) = wanted.gateway {
        vnic["gateway"] = json!(gateway);
    }
    let mut document = json!({
        "admin_tag": "admin", "nictags": tags, "vnics": [vnic], "resolvers": wanted.resolver, "aggregations": [], "routes": {},
    });
    for (key, value) in [("hostname", &wanted.hostname), ("datacenter_name", &wanted.datacenter), ("dns_domain", &wanted.domain)] {
        if let Some(value) = value {
            document[key] = json!(value);
        }
    }
    document
}

/// As a boot would judge it.
fn judge(document: &Value, nics: &[Nic]) -> Result<(), Vec<String>> {
    let (networking, problems) = Networking::parse(document.to_string().as_bytes());
    let facts = Facts { nics: Some(nics.iter().map(|nic| nic.mac).collect()), ..Facts::default() };
    let (_, more) = plan(networking.as_ref(), &facts);
    let reasons: Vec<String> = problems.iter().chain(&more).map(ToString::to_string).collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn node_config(wanted: &Setup) -> String {
    let joined = |list: &[IpAddr]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let values = [
        ("datacenter_name", wanted.datacenter.clone().unwrap_or_default()),
        ("dns_domain", wanted.domain.clone().unwrap_or_default()),
        ("dns_resolvers", joined(&wanted.resolver)),
        ("ntp_hosts", wanted.ntp.join(",")),
    ];
    values.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| format!("{key}='{value}'\n")).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::setup::args::Args;

    fn nics(count: u8) -> Vec<Nic> {
        (1..=count).map(|n| Nic { name: format!("eth{n}"), mac: format!("00:50:56:00:00:0{n}").parse().unwrap() }).collect()
    }

    fn network(count: u8, words: &[&str]) -> Result<Network, Vec<String>> {
        let root = tempfile::tempdir().unwrap();
        let args = Args::try_parse_from(std::iter::once(&"cn-setup").chain(words)).unwrap();
        Network::of(&Layout::new(root.path()), &nics(count), &args.setup)
    }

    #[test]
    fn the_only_nic_asks_for_an_address_unless_one_is_given() {
        let found = network(1, &[]).unwrap();
        assert_eq!(found.networking.unwrap()["vnics"][0]["ip"], "dhcp");
        let words = ["--address", "10.0.0.5/16", "--gateway", "10.0.0.1", "--resolver", "10.0.0.2", "--ntp", "10.0.0.3", "--vlan", "7"];
        let found = network(1, &words).unwrap();
        let vnic = &found.networking.as_ref().unwrap()["vnics"][0];
        assert_eq!((&vnic["ip"], &vnic["netmask"], &vnic["vlan_id"]), (&json!("10.0.0.5"), &json!("255.255.0.0"), &json!(7)));
        assert_eq!(found.node_config, "dns_resolvers='10.0.0.2'\nntp_hosts='10.0.0.3'\n");
    }

    #[test]
    fn what_a_boot_could_not_configure_is_refused_by_name() {
        assert!(network(2, &[]).unwrap_err()[0].contains("--admin-nic"));
        assert!(network(1, &["--admin-nic", "02:00:00:00:00:01"]).unwrap_err()[0].contains("02:00:00:00:00:01"));
        assert!(network(1, &["--vlan", "1"]).unwrap_err()[0].contains("is no VLAN"));
        assert!(network(1, &["--address", "127.0.0.1/8"]).unwrap_err()[0].contains("cannot be a host's address"));
        let unknown = network(1, &["--nic-tag", "external=02:00:00:00:00:09"]).unwrap_err();
        assert!(unknown[0].contains("no physical nic") && unknown[0].contains("external"), "{unknown:?}");
    }

    #[test]
    fn an_ipv6_address_keeps_its_prefix_and_a_machine_without_nics_has_no_network() {
        let found = network(1, &["--address", "fd00::5/64"]).unwrap();
        assert_eq!(found.networking.unwrap()["vnics"][0]["ips"][0], "fd00::5/64");
        assert_eq!(network(0, &[]).unwrap().networking, None);
        assert_eq!(network(2, &["--no-network"]).unwrap().networking, None);
    }
}
