//! The port of a bridge that an instance's NIC is.

use triton_files::Layout;
use triton_link::{BridgeVlan, FdbEntry, Links, PortFlags};
use triton_netconf::{HOST_PORT_PREFIX, TRUNK_PREFIXES};

use crate::{
    NicTagError,
    further::{self, PORTS},
    kernel::INSTANCE_LINK,
};

/// A port as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// The node.
    pub layout: &'a Layout,
    /// The first bridge of the NIC's tag ([`crate::NicTags::bridge`]).
    pub bridge: &'a str,
    /// The link that is the port.
    pub host: &'a str,
    /// The MAC address behind it.
    pub mac: [u8; 6],
    /// Its VLAN; 0: untagged (ruling 19).
    pub vlan_id: u16,
    /// Whether the bridge learns further addresses there (`allow_mac_spoofing`, VRRP; ruling 24).
    pub learning: bool,
}

/// Makes `port.host` a port of the tag's first bridge that has room, and sets it up; the name of that bridge.
///
/// Without `learning` the bridge knows `mac` here and nothing else, whatever the guest or anybody sends (rulings 15, 69).
/// With it the bridge learns, and there is no static entry. Frames to unknown addresses never come here. On a bridge that
/// filters VLANs the port is untagged member of its VLAN only, and the ways out become members too.
///
/// # Errors
/// Names the link; of kind `Unsupported` if `vlan_id` is not 0 and the kernel does not filter VLANs.
pub async fn set_port(links: &Links, port: &Port<'_>) -> Result<String, NicTagError> {
    set_port_within(links, port, PORTS).await
}

/// As [`set_port`], where a bridge is full when it has `limit` ports.
///
/// # Errors
/// As [`set_port`].
pub async fn set_port_within(links: &Links, port: &Port<'_>, limit: u16) -> Result<String, NicTagError> {
    let placed = further::place(links, port, limit).await?;
    let Port { host, mac, vlan_id, learning, .. } = *port;
    let vid = if vlan_id == 0 { 1 } else { vlan_id };
    let filters = placed.bridge.vlan_filtering == Some(true);
    links.set_port(host, PortFlags { learning: Some(learning), ..PortFlags::GUEST }).await?;
    if filters || vlan_id != 0 {
        links.add_vlan(host, BridgeVlan { vid, pvid: true, untagged: true }).await?;
        for other in links.vlans(host).await?.into_iter().filter(|other| other.vid != vid) {
            links.remove_vlan(host, other.vid).await?;
        }
    }
    if filters && vlan_id != 0 {
        for way_out in ways_out(links, port.bridge, placed.number).await? {
            links.add_vlan(&way_out, BridgeVlan { vid, pvid: false, untagged: false }).await?;
        }
    }
    let entry = FdbEntry { mac, vlan: filters.then_some(vid), sticky: true };
    if learning {
        links.remove_fdb(host, entry).await?;
    } else {
        links.add_fdb(host, entry).await?;
    }
    Ok(placed.bridge.name)
}

/// The ports that a frame from bridge `number` of `first` leaves the node through: the uplink, and both ends of what joins
/// a further bridge to the first. Only VLANs need them, so only they pay for the list.
async fn ways_out(links: &Links, first: &str, number: u16) -> Result<Vec<String>, NicTagError> {
    let inner = [INSTANCE_LINK, HOST_PORT_PREFIX, TRUNK_PREFIXES[0]];
    let ports = links.ports(first).await?;
    let mut ways: Vec<String> =
        ports.into_iter().map(|port| port.name).filter(|name| !inner.iter().any(|prefix| name.starts_with(prefix))).collect();
    if number > 0 {
        ways.extend(further::trunk(first, number));
    }
    Ok(ways)
}
