//! Overlay networks on this node (net-agent.md section 17): a bridge for each, made when the first NIC comes and removed with the last.
//!
//! Beside the guests' ports a bridge has two: a VXLAN device, which carries the frames of known addresses to their nodes, and a tap, to which
//! the bridge sends what it knows no port for: questions for addresses, and frames to unknown ones. A program answers there ([`fabric_parts`]
//! tells it which there are). Neither port is flooded to or learns, and neither hears the other: no frame from another node reaches the
//! program, and no broadcast leaves the node. Frames of VLANs within the network keep their tags at both.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, Lock};
use triton_link::{BridgeSpec, BridgeVlan, Link, LinkKind, Links, PortFlags, Tap, VxlanSpec};
use triton_netconf::{Provider, bridge_of, fabric_ports};
use triton_types::NicTag;

use crate::{NicTagError, further, kernel::INSTANCE_LINK, vlan_support};

/// Bytes around a frame on its way to another node: Ethernet, IPv4 or IPv6, UDP, VXLAN, and the VLAN tag within.
const AROUND_V4: u32 = 14 + 20 + 8 + 8 + 4;
const AROUND_V6: u32 = AROUND_V4 + 20;
/// The alias of a bridge and a device begins with this, and the tag follows.
const ALIAS: &str = "fabric ";
/// How long another's making or removing of a network is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// An overlay network as it is on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fabric {
    /// Its tag, `<overlay>/<number>`.
    pub tag: NicTag,
    /// Its number, 24 bits.
    pub vnet: u32,
    /// This node's address for encapsulated frames.
    pub underlay: IpAddr,
    /// Their UDP port.
    pub port: u16,
    /// The network's MTU.
    pub mtu: u32,
}

impl Fabric {
    /// Its bridge.
    pub fn bridge(&self) -> String {
        bridge_of(&Provider::Nothing, &self.tag)
    }

    fn alias(&self) -> String {
        format!("{ALIAS}{}", self.tag)
    }
}

/// While it lives the network is not removed: for a NIC that is not a port of it yet.
#[derive(Debug)]
pub struct FabricHold {
    _lock: Lock,
}

/// An overlay network that is on this node now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricPart {
    /// Its tag.
    pub tag: NicTag,
    /// Its bridge.
    pub bridge: String,
    /// Whether its bridge keeps VLANs apart.
    pub vlans: bool,
    /// Its VXLAN device.
    pub vxlan: String,
    /// Its tap.
    pub tap: String,
    /// The tap's number: another one is another tap.
    pub tap_index: u32,
}

/// The overlay networks of one overlay that are on this node now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FabricParts {
    /// Those that have all their links.
    pub whole: Vec<FabricPart>,
    /// Those of which only the bridge is as it should be: on their way to come or go, or [`mend_fabric`] has to.
    pub broken: Vec<NicTag>,
}

fn hold(layout: &Layout, patience: Duration) -> Result<FabricHold, NicTagError> {
    let locks = layout.locks();
    std::fs::create_dir_all(&locks).map_err(|e| FileError::new("create directory", &locks, e))?;
    Ok(FabricHold { _lock: Lock::take(&locks.join("fabrics.lock"), "change an overlay network", patience)? })
}

/// Makes the network's bridge and its two ports, where they are missing. It stays at least until the answer is dropped: make the NIC a port
/// of the bridge before.
///
/// # Errors
/// [`NicTagError::Fabric`] if no link of this node has the underlay address, or the one that has carries smaller frames than would have to go
/// through it; otherwise names the link that the kernel refused.
pub async fn ensure_fabric(links: &Links, layout: &Layout, fabric: &Fabric) -> Result<FabricHold, NicTagError> {
    let hold = hold(layout, PATIENCE)?;
    let vlan_filtering = vlan_support()?;
    check_underlay(links, fabric).await?;
    let (bridge, alias) = (fabric.bridge(), fabric.alias());
    if is_made(links, fabric, &bridge).await? {
        return Ok(hold);
    }
    let spec = BridgeSpec {
        mtu: Some(fabric.mtu),
        vlan_filtering,
        alias: Some(&alias),
        // Nobody would say here what members on other nodes listen to.
        multicast_snooping: false,
        ..BridgeSpec::new(&bridge)
    };
    links.ensure_bridge(&spec).await?;
    ensure_ports(links, fabric, &bridge).await?;
    tracing::info!(tag = %fabric.tag, %bridge, "an overlay network is on this node");
    Ok(hold)
}

/// Makes what is missing of the network's two ports, in all VLANs of its guests.
async fn ensure_ports(links: &Links, fabric: &Fabric, bridge: &str) -> Result<(), NicTagError> {
    let [vxlan, tap] = fabric_ports(bridge);
    let alias = fabric.alias();
    let device =
        VxlanSpec { name: &vxlan, vni: fabric.vnet, local: fabric.underlay, port: fabric.port, mtu: fabric.mtu, alias: Some(&alias) };
    links.ensure_vxlan(&device).await?;
    Tap::ensure(links.netns(), &tap)?;
    links.set_mtu(&tap, fabric.mtu).await?;
    let mut vlans = BTreeSet::new();
    if vlan_support()? {
        for guest in guests(links, &bridges(links, bridge).await?).await? {
            // Untagged frames have the bridge's own VLAN, in which every port is (ruling 19).
            vlans.extend(links.vlans(&guest).await?.into_iter().map(|vlan| vlan.vid).filter(|vid| *vid != 1));
        }
    }
    for (port, flags) in [(&vxlan, PortFlags::TUNNEL), (&tap, PortFlags::ORACLE)] {
        links.disable_ipv6(port)?;
        links.set_bridge(port, Some(bridge)).await?;
        links.set_port(port, flags).await?;
        for vid in &vlans {
            links.add_vlan(port, BridgeVlan { vid: *vid, pvid: false, untagged: false }).await?;
        }
        links.set_up(port).await?;
    }
    Ok(())
}

/// Makes anew what somebody took away of the network's two ports while guests are on it. True if something had to be done.
///
/// # Errors
/// As [`ensure_fabric`]; [`NicTagError::Lock`], without waiting, while another changes a network: it may be on its way, and is to be looked
/// at again.
pub async fn mend_fabric(links: &Links, layout: &Layout, fabric: &Fabric) -> Result<bool, NicTagError> {
    let _hold = hold(layout, Duration::ZERO)?;
    let bridge = fabric.bridge();
    let bridges = bridges(links, &bridge).await?;
    if bridges.is_empty() || guests(links, &bridges).await?.is_empty() || is_made(links, fabric, &bridge).await? {
        return Ok(false);
    }
    check_underlay(links, fabric).await?;
    ensure_ports(links, fabric, &bridge).await?;
    tracing::warn!(tag = %fabric.tag, %bridge, "an overlay network had lost a link, which was made anew");
    Ok(true)
}

/// The network's bridges, the first of which is `first`.
async fn bridges(links: &Links, first: &str) -> Result<Vec<String>, NicTagError> {
    let mut bridges = Vec::new();
    while let Some(bridge) = links.get(&further::name(first, bridges.len())).await? {
        bridges.push(bridge.name);
    }
    Ok(bridges)
}

/// The guests' ports of these bridges.
async fn guests(links: &Links, bridges: &[String]) -> Result<Vec<String>, NicTagError> {
    let mut guests = Vec::new();
    for bridge in bridges {
        let ports = links.ports(bridge).await?;
        guests.extend(ports.into_iter().map(|port| port.name).filter(|name| name.starts_with(INSTANCE_LINK)));
    }
    Ok(guests)
}

async fn check_underlay(links: &Links, fabric: &Fabric) -> Result<(), NicTagError> {
    let error = |reason: String| NicTagError::Fabric { tag: fabric.tag.clone(), reason };
    let addresses = links.addresses(None).await?;
    let found = addresses.iter().find(|address| address.net.addr() == fabric.underlay);
    let Some(found) = found else {
        return Err(error(format!("no link of this node has the underlay address {}", fabric.underlay)));
    };
    let around = if fabric.underlay.is_ipv4() { AROUND_V4 } else { AROUND_V6 };
    let carrier = links.list().await?.into_iter().find(|link| link.index == found.link);
    let (name, carries) = carrier.map_or_else(Default::default, |link| (link.name, link.mtu));
    // The link's own header is no part of its MTU, but the frame's is.
    if carries < fabric.mtu + around {
        let needed = fabric.mtu + around;
        let mtu = fabric.mtu;
        return Err(error(format!("the underlay link {name} has an MTU of {carries}; frames of {mtu} bytes need {needed}")));
    }
    Ok(())
}

async fn is_made(links: &Links, fabric: &Fabric, bridge: &str) -> Result<bool, NicTagError> {
    let right = |link: &Link| link.up && link.mtu == fabric.mtu;
    let Some(found) = links.get(bridge).await?.filter(|link| right(link) && link.alias.as_deref() == Some(&fabric.alias())) else {
        return Ok(false);
    };
    for port in fabric_ports(bridge) {
        if links.get(&port).await?.is_none_or(|link| !right(&link) || link.master != Some(found.index)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes the network's bridge and ports if no guest's port is left. True if it is gone.
///
/// # Errors
/// When the kernel refuses.
pub async fn release_fabric(links: &Links, layout: &Layout, fabric: &Fabric) -> Result<bool, NicTagError> {
    let _hold = hold(layout, PATIENCE)?;
    let first = fabric.bridge();
    let bridges = bridges(links, &first).await?;
    if !guests(links, &bridges).await?.is_empty() {
        return Ok(false);
    }
    for (number, bridge) in bridges.iter().enumerate().rev() {
        if number > 0 {
            links.delete(&further::trunk(&first, number)[0]).await?;
        }
        for port in fabric_ports(bridge).iter().filter(|_| number == 0) {
            links.delete(port).await?;
        }
        links.delete(bridge).await?;
    }
    tracing::info!(tag = %fabric.tag, bridge = %first, "an overlay network is no longer on this node");
    Ok(true)
}

/// The overlay networks of `overlay` that are on this node now.
///
/// # Errors
/// When links cannot be listed.
pub async fn fabric_parts(links: &Links, overlay: &NicTag) -> Result<FabricParts, NicTagError> {
    let all = links.list().await?;
    let mut parts = FabricParts::default();
    for bridge in all.iter().filter(|link| link.kind == LinkKind::Bridge) {
        let Some(tag) = bridge.alias.as_deref().and_then(|alias| alias.strip_prefix(ALIAS)?.parse::<NicTag>().ok()) else { continue };
        let here = tag.as_str().split_once('/').is_some_and(|(name, _)| name == overlay.as_str());
        if !here || bridge_of(&Provider::Nothing, &tag) != bridge.name {
            continue;
        }
        let [vxlan, tap] = fabric_ports(&bridge.name);
        let port = |name: &str| all.iter().find(|link| link.name == name && link.master == Some(bridge.index) && link.up);
        match (port(&tap), port(&vxlan)) {
            (Some(Link { index: tap_index, .. }), Some(_)) => {
                let (bridge, vlans, tap_index) = (bridge.name.clone(), bridge.vlan_filtering == Some(true), *tap_index);
                parts.whole.push(FabricPart { tag, bridge, vlans, vxlan, tap, tap_index });
            }
            _ => parts.broken.push(tag),
        }
    }
    Ok(parts)
}
