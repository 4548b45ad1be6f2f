//! A further NIC of the host.

use super::{File, network_file, text::Unit};
use crate::{HostNic, HostNicKind, plan::Addressing};

pub(super) fn render(nic: &HostNic) -> Vec<File> {
    let vlan = if nic.vlan_id == 0 { String::new() } else { format!(", VLAN {}", nic.vlan_id) };
    let what = format!("the host on {}{vlan}", nic.tag);
    let mut files = vec![alias(nic, &what), netdev(nic, &what), network(nic, &what)];
    if let HostNicKind::Veth { port } = &nic.kind {
        files.push(port_network(nic, port));
    }
    files
}

/// `ifalias` keeps the whole tag, however its name had to be shortened; udev gives the link no other address.
fn alias(nic: &HostNic, what: &str) -> File {
    let alias = format!("nictag: {} vlan {}", nic.tag, nic.vlan_id);
    let unit = Unit::about(what).section("Match").set("OriginalName", &nic.name).section("Link").set("Alias", alias);
    network_file(&nic.name, "link", unit.set("MACAddressPolicy", "none"))
}

fn netdev(nic: &HostNic, what: &str) -> File {
    let unit = Unit::about(what).section("NetDev").set("Name", &nic.name);
    let unit = match &nic.kind {
        HostNicKind::Vlan => unit.set("Kind", "vlan").section("VLAN").set("Id", nic.vlan_id),
        HostNicKind::Veth { port } => unit.set("Kind", "veth").set("MACAddress", nic.mac).section("Peer").set("Name", port),
    };
    network_file(&nic.name, "netdev", unit)
}

fn network(nic: &HostNic, what: &str) -> File {
    let unit = Unit::about(what).section("Match").set("Name", &nic.name).section("Link").set("MTUBytes", nic.mtu);
    let unit = unit.set("RequiredForOnline", if nic.admin { "yes" } else { "no" });
    let unit = unit.section("Network").protocols(&nic.addressing).set("ConfigureWithoutCarrier", "yes");
    network_file(&nic.name, "network", unit.addressing(&nic.addressing))
}

fn port_network(nic: &HostNic, port: &str) -> File {
    let unit = Unit::about(&format!("the bridge's end of {}", nic.name)).section("Match").set("Name", port);
    let unit = unit.section("Link").set("MTUBytes", nic.mtu).set("RequiredForOnline", "no");
    let unit = unit.section("Network").set("Bridge", &nic.bridge).protocols(&Addressing::default());
    let unit = if nic.vlan_id == 0 { unit } else { unit.vlans(nic.vlan_id, &[]) };
    network_file(port, "network", unit)
}
