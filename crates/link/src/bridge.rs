//! Bridges.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{BridgeStpState, InfoBridge, InfoData, InfoKind, LinkAttribute, LinkInfo},
};

use crate::{Cause, ErrorKind, Family, Link, LinkError, LinkKind, Links, links::named};

/// A bridge as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MTU, kept whatever the MTU of its ports; absent: the smallest of its ports.
    pub mtu: Option<u32>,
    /// Its MAC address, kept whatever its ports; absent: the kernel's choice.
    pub mac: Option<[u8; 6]>,
    /// Whether ports belong to VLANs. VLAN 1 is then the untagged one.
    pub vlan_filtering: bool,
    /// `ifalias`.
    pub alias: Option<&'a str>,
    /// Whether multicast goes only to ports that asked for it; false: to all that take it. Nobody answers for members of an overlay network
    /// that are on other nodes.
    pub multicast_snooping: bool,
    /// Whether it may have IPv6 addresses of its own; false turns IPv6 off, true leaves it as it is.
    pub ipv6: bool,
}

impl<'a> BridgeSpec<'a> {
    /// A bridge that does not filter VLANs, all else left to the kernel.
    pub fn new(name: &'a str) -> Self {
        Self { name, mtu: None, mac: None, vlan_filtering: false, alias: None, multicast_snooping: true, ipv6: false }
    }
}

impl Links {
    /// Makes the bridge, or makes it as `spec` says if it is there, and brings it up. It has no spanning tree, no IPv6
    /// unless `spec` allows it, and answers ARP for no address but its own (ruling 8).
    ///
    /// # Errors
    /// `Exists` if a link of another kind has the name; `Unsupported` if VLANs are asked for and the kernel has no VLAN
    /// filtering.
    pub async fn ensure_bridge(&self, spec: &BridgeSpec<'_>) -> Result<Link, LinkError> {
        let error = |cause: Cause| LinkError::new("make the bridge", spec.name, cause);
        match self.change(RouteNetlinkMessage::NewLink(creation(spec).map_err(error)?), NLM_F_CREATE | NLM_F_EXCL).await {
            Err(cause) if cause.kind() != ErrorKind::Exists => return Err(error(cause)),
            _ => {}
        }
        let found = self.find(spec.name).await.map_err(error)?;
        if found.kind != LinkKind::Bridge {
            return Err(error(Cause::Kernel { errno: libc::EEXIST, detail: Some("a link of another kind has this name".to_owned()) }));
        }
        if !spec.ipv6 {
            self.disable_ipv6(spec.name)?;
        }
        self.set_sysctl(Family::Ipv4, spec.name, "arp_ignore", "1")?;
        self.set_sysctl(Family::Ipv4, spec.name, "arp_announce", "2")?;
        if found.vlan_filtering.unwrap_or(false) != spec.vlan_filtering {
            self.set_vlan_filtering(spec.name, spec.vlan_filtering).await.map_err(error)?;
        }
        if let Some(mac) = spec.mac.filter(|mac| found.mac != Some(*mac)) {
            self.set_mac(spec.name, mac).await?;
        }
        if let Some(mtu) = spec.mtu.filter(|mtu| found.mtu != *mtu) {
            self.set_mtu(spec.name, mtu).await?;
        }
        if let Some(alias) = spec.alias.filter(|alias| found.alias.as_deref() != Some(alias)) {
            self.set_alias(spec.name, alias).await?;
        }
        if !found.up {
            self.set_up(spec.name).await?;
        }
        self.find(spec.name).await.map_err(error)
    }

    async fn set_vlan_filtering(&self, name: &str, on: bool) -> Result<(), Cause> {
        let mut message = named(name)?;
        let data = vec![InfoBridge::VlanFiltering(on)];
        message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))]));
        self.change(RouteNetlinkMessage::NewLink(message), 0).await
    }
}

fn creation(spec: &BridgeSpec<'_>) -> Result<netlink_packet_route::link::LinkMessage, Cause> {
    let mut message = named(spec.name)?;
    let mut data = vec![InfoBridge::StpState(BridgeStpState::Disabled)];
    if spec.vlan_filtering {
        data.push(InfoBridge::VlanFiltering(true));
    }
    if !spec.multicast_snooping {
        data.push(InfoBridge::MulticastSnooping(false));
    }
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(data))]));
    if let Some(mac) = spec.mac {
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
    }
    if let Some(mtu) = spec.mtu {
        // Another value than the wanted one: only a later change of it tells the kernel to keep it when ports come and go.
        message.attributes.push(LinkAttribute::Mtu(mtu.saturating_sub(1).max(68)));
    }
    Ok(message)
}
