//! A NIC or aggregation with its bridge.

use triton_types::{Mac, NicTag};

use super::{File, network_file, text::Unit};
use crate::{Device, HostNic, HostNicKind, LacpMode, Uplink, plan::Addressing};

pub(super) fn render(uplink: &Uplink, nics: &[HostNic]) -> Vec<File> {
    let mut files = vec![bridge(uplink), bridge_network(uplink, nics)];
    match &uplink.device {
        Device::Nic => files.push(nic(uplink.mac, uplink.mtu, &format!("the uplink of {}", uplink.bridge), |unit| port(unit, uplink))),
        Device::Bond { link, macs, mode } => {
            files.push(bond(uplink, link, *mode));
            let network = Unit::about(&format!("the uplink of {}", uplink.bridge))
                .with(|unit| link_section(unit.section("Match").set("Name", link), uplink.mtu, false))
                .with(|unit| port(unit, uplink));
            files.push(network_file(link, "network", network));
            for mac in macs {
                // The bond has to take the address of one of its NICs: that makes no difference to which they are.
                files.push(nic(*mac, uplink.mtu, &format!("part of {link}"), |unit| {
                    unit.section("Network").set("Bond", link).protocols(&Addressing::default())
                }));
            }
            if *mode == LacpMode::Passive {
                files.push(passive(link));
            }
        }
    }
    files
}

fn tags(tags: &[NicTag]) -> String {
    if tags.is_empty() {
        return "no nic tag".to_owned();
    }
    tags.iter().map(NicTag::as_str).collect::<Vec<_>>().join(", ")
}

fn link_section(unit: Unit, mtu: u32, required: bool) -> Unit {
    unit.section("Link").set("MTUBytes", mtu).set("RequiredForOnline", if required { "yes" } else { "no" })
}

/// The bridge: VLAN-aware, without a spanning tree, with its uplink's address for good.
fn bridge(uplink: &Uplink) -> File {
    let unit = Unit::about(&format!("the bridge of {}", tags(&uplink.tags)))
        .section("NetDev")
        .set("Name", &uplink.bridge)
        .set("Kind", "bridge")
        .set("MACAddress", uplink.mac)
        .section("Bridge")
        .set("STP", "no")
        .set("VLANFiltering", "yes")
        .set("DefaultPVID", 1)
        .set("MulticastSnooping", "no");
    network_file(&uplink.bridge, "netdev", unit)
}

fn bridge_network(uplink: &Uplink, nics: &[HostNic]) -> File {
    let own: Vec<&HostNic> = nics.iter().filter(|nic| nic.bridge == uplink.bridge && nic.kind == HostNicKind::Vlan).collect();
    let addressing = &uplink.addressing;
    let required = uplink.admin && !addressing.is_empty();
    let mut unit = Unit::about(&format!("the bridge of {}", tags(&uplink.tags))).section("Match").set("Name", &uplink.bridge);
    unit = link_section(unit, uplink.mtu, required).section("Network").protocols(addressing).set("ConfigureWithoutCarrier", "yes");
    for nic in &own {
        unit = unit.set("VLAN", &nic.name);
    }
    unit = unit.addressing(addressing);
    if !own.is_empty() {
        unit = unit.vlans(1, &own.iter().map(|nic| nic.vlan_id).collect::<Vec<_>>());
    }
    network_file(&uplink.bridge, "network", unit)
}

/// The uplink's device as a port of the bridge. Its VLANs are stated only where the host needs them at boot: those of
/// instances come and go with the instances.
fn port(unit: Unit, uplink: &Uplink) -> Unit {
    let unit = unit.section("Network").set("Bridge", &uplink.bridge).protocols(&Addressing::default());
    if uplink.vlans.is_empty() { unit } else { unit.vlans(1, &uplink.vlans) }
}

/// A physical NIC, known by the address that it was built with: bridges, VLANs and bonds have that address too, but no
/// permanent one, and a kind.
fn nic(mac: Mac, mtu: u32, what: &str, rest: impl FnOnce(Unit) -> Unit) -> File {
    let unit = Unit::about(what).section("Match").set("PermanentMACAddress", mac).set("Type", "ether").set("Kind", "!*");
    let unit = link_section(unit, mtu, false).with(rest);
    network_file(&format!("nic-{}", mac.to_string().replace(':', "")), "network", unit)
}

fn bond(uplink: &Uplink, link: &str, mode: LacpMode) -> File {
    let mode = match mode {
        LacpMode::Active | LacpMode::Passive => "802.3ad",
        LacpMode::Off => "balance-xor",
    };
    let unit = Unit::about(&format!("the aggregation below {}", uplink.bridge))
        .section("NetDev")
        .set("Name", link)
        .set("Kind", "bond")
        .set("MACAddress", uplink.mac)
        .section("Bond")
        .set("Mode", mode)
        .set("TransmitHashPolicy", "layer3+4")
        .set("MIIMonitorSec", "100ms");
    let unit = if mode == "802.3ad" { unit.set("LACPTransmitRate", "fast") } else { unit };
    network_file(link, "netdev", unit)
}

/// systemd-networkd has no word for a side that only answers; the kernel takes it while the bond is still down, which is
/// when udev sees it.
fn passive(link: &str) -> File {
    let text = format!(
        "# Made by triton-netconf from networking.json at every boot: {link} speaks LACP only when spoken to.\n\
         ACTION==\"add\", SUBSYSTEM==\"net\", KERNEL==\"{link}\", RUN+=\"/sbin/ip link set dev {link} type bond lacp_active off\"\n"
    );
    File { path: format!("etc/udev/rules.d/70-triton-{link}.rules"), text }
}
