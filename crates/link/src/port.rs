//! Ports of bridges: flags, VLANs, static forwarding entries.

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{
        AfSpecBridge, AfSpecInet6, AfSpecUnspec, BridgeVlanInfo, BridgeVlanInfoFlags, In6AddrGenMode, InfoBridgePort, InfoPortData,
        InfoPortKind, LinkAttribute, LinkExtentMask, LinkInfo, LinkMessage,
    },
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use crate::{
    Cause, ErrorKind, LinkError, Links,
    links::{NEW_LINK, named},
};

/// Flags of a bridge's port; absent ones are left as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// The bridge learns the MAC addresses behind the port.
    pub learning: Option<bool>,
    /// Frames to unknown MAC addresses are sent to the port.
    pub flood: Option<bool>,
    /// Multicast frames are sent to the port; IPv6 needs it.
    pub multicast_flood: Option<bool>,
    /// Broadcast frames are sent to the port; ARP needs it.
    pub broadcast_flood: Option<bool>,
    /// The port exchanges no frames with other isolated ports.
    pub isolated: Option<bool>,
}

impl PortFlags {
    /// For a guest: nothing learned, nothing unknown sent to it; its own address needs a static entry (ruling 62).
    pub const GUEST: Self =
        Self { learning: Some(false), flood: Some(false), multicast_flood: Some(true), broadcast_flood: Some(true), isolated: None };
    /// For a way out: learns and gets everything.
    pub const UPLINK: Self =
        Self { learning: Some(true), flood: Some(true), multicast_flood: Some(true), broadcast_flood: Some(true), isolated: None };

    /// For what carries frames to other nodes: nothing is learned there, and only what has a static entry is sent there.
    pub const TUNNEL: Self = Self {
        learning: Some(false),
        flood: Some(false),
        multicast_flood: Some(false),
        broadcast_flood: Some(false),
        isolated: Some(true),
    };
    /// For a program that answers what the bridge does not know: it gets all that is flooded, but nothing from, and nothing to, a
    /// tunnel.
    pub const ORACLE: Self =
        Self { learning: Some(false), flood: Some(true), multicast_flood: Some(true), broadcast_flood: Some(true), isolated: Some(true) };

    pub(crate) fn attribute(&self) -> LinkAttribute {
        let flags = [
            self.learning.map(InfoBridgePort::Learning),
            self.flood.map(InfoBridgePort::UnicastFlood),
            self.multicast_flood.map(InfoBridgePort::MulticastFlood),
            self.broadcast_flood.map(InfoBridgePort::BroadcastFlood),
            self.isolated.map(InfoBridgePort::Isolated),
        ];
        let flags = flags.into_iter().flatten().collect();
        LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(InfoPortData::BridgePort(flags))])
    }
}

/// One VLAN of a bridge's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeVlan {
    /// 1 to 4094.
    pub vid: u16,
    /// Frames that come in without a tag belong to it.
    pub pvid: bool,
    /// Its frames go out without a tag.
    pub untagged: bool,
}

/// A static forwarding entry of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdbEntry {
    /// The MAC address behind the port.
    pub mac: [u8; 6],
    /// The VLAN that the entry is for, on a bridge that filters VLANs.
    pub vlan: Option<u16>,
    /// Stays at its port whatever source addresses are seen elsewhere (ruling 15).
    pub sticky: bool,
}

/// No link-local address of its own: for links that only carry frames. The kernel refuses it in the request that makes
/// a link, and for links that have no IPv6 at all.
pub(crate) fn no_ipv6_address() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])])
}

impl Links {
    /// Sets flags of the bridge's port `name`.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Unsupported` or `Other(EINVAL)` if it is no port of a bridge.
    pub async fn set_port(&self, name: &str, flags: PortFlags) -> Result<(), LinkError> {
        let set = async {
            let mut message = named(name)?;
            message.attributes.push(flags.attribute());
            self.change(RouteNetlinkMessage::NewLink(message), 0).await
        };
        set.await.map_err(|cause| LinkError::new("set the flags of the bridge port", name, cause))
    }

    /// Makes the port `name` a member of a VLAN; a member already is changed.
    ///
    /// # Errors
    /// `Unsupported` if the kernel has no VLAN filtering; `NoDevice` if there is no such link.
    pub async fn add_vlan(&self, name: &str, vlan: BridgeVlan) -> Result<(), LinkError> {
        let add = async {
            let message = self.vlan_message(name, vlan).await?;
            self.change(RouteNetlinkMessage::SetLink(message), 0).await
        };
        add.await.map_err(|cause| LinkError::new("add a VLAN to the bridge port", format!("{name} (VLAN {})", vlan.vid), cause))
    }

    /// Takes the port `name` out of a VLAN; that it is not in it, or gone, is success.
    ///
    /// # Errors
    /// `Unsupported` if the kernel has no VLAN filtering.
    pub async fn remove_vlan(&self, name: &str, vid: u16) -> Result<(), LinkError> {
        let remove = async {
            let message = self.vlan_message(name, BridgeVlan { vid, pvid: false, untagged: false }).await?;
            self.change(RouteNetlinkMessage::DelLink(message), 0).await
        };
        match remove.await {
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NoDevice) => {
                Err(LinkError::new("remove a VLAN from the bridge port", format!("{name} (VLAN {vid})"), cause))
            }
            _ => Ok(()),
        }
    }

    async fn vlan_message(&self, name: &str, vlan: BridgeVlan) -> Result<LinkMessage, Cause> {
        if !(1..=4094).contains(&vlan.vid) {
            return Err(Cause::Invalid("a VLAN is 1 to 4094"));
        }
        let mut flags = BridgeVlanInfoFlags::empty();
        flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
        flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = self.index(name).await?;
        message.attributes.push(LinkAttribute::AfSpecBridge(vec![AfSpecBridge::VlanInfo(BridgeVlanInfo { vid: vlan.vid, flags })]));
        Ok(message)
    }

    /// The VLANs of the port `name`, by number.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn vlans(&self, name: &str) -> Result<Vec<BridgeVlan>, LinkError> {
        let list = async {
            let index = self.index(name).await?;
            let mut message = LinkMessage::default();
            message.header.interface_family = AddressFamily::Bridge;
            message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
            let parse = |kind, payload: &[u8]| parse_vlans(kind, payload, index);
            let lists = self.exchange(&RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, parse).await?;
            Ok::<_, Cause>(lists.into_iter().flatten().collect())
        };
        list.await.map_err(|cause| LinkError::new("list the VLANs of the bridge port", name, cause))
    }

    /// Makes the static entry at the port `name`, taking it from another port if it is there.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Unsupported` if the kernel lacks such entries.
    pub async fn add_fdb(&self, name: &str, entry: FdbEntry) -> Result<(), LinkError> {
        let add = async {
            let message = self.fdb_message(name, entry).await?;
            self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).await
        };
        add.await.map_err(|cause| LinkError::new("add a forwarding entry to the bridge port", name, cause))
    }

    /// Makes the static entry at the port `name`, unless the bridge knows the address at another port, which then keeps it. True if
    /// the entry is there now.
    ///
    /// # Errors
    /// As [`Links::add_fdb`].
    pub async fn offer_fdb(&self, name: &str, entry: FdbEntry) -> Result<bool, LinkError> {
        let offer = async {
            let message = self.fdb_message(name, entry).await?;
            self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_EXCL).await
        };
        match offer.await {
            Err(cause) if cause.kind() == ErrorKind::Exists => Ok(self.fdb(name).await?.contains(&entry)),
            result => result.map(|()| true).map_err(|cause| LinkError::new("add a forwarding entry to the bridge port", name, cause)),
        }
    }

    /// Removes the entry at the port `name`; that it is not there, or the port is gone, is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_fdb(&self, name: &str, entry: FdbEntry) -> Result<(), LinkError> {
        let remove = async {
            let message = self.fdb_message(name, entry).await?;
            self.change(RouteNetlinkMessage::DelNeighbour(message), 0).await
        };
        match remove.await {
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NoDevice) => {
                Err(LinkError::new("remove a forwarding entry from the bridge port", name, cause))
            }
            _ => Ok(()),
        }
    }

    async fn fdb_message(&self, name: &str, entry: FdbEntry) -> Result<NeighbourMessage, Cause> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.index(name).await?;
        // The bridge's word for a static entry; a permanent one would be an address of the host.
        message.header.state = NeighbourState::Noarp;
        message.header.flags = NeighbourFlags::Controller;
        message.header.flags.set(NeighbourFlags::Sticky, entry.sticky);
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()));
        message.attributes.extend(entry.vlan.map(NeighbourAttribute::Vlan));
        Ok(message)
    }

    /// The static entries at the port `name`.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn fdb(&self, name: &str) -> Result<Vec<FdbEntry>, LinkError> {
        let list = async {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = self.index(name).await?;
            let index = message.header.ifindex;
            let parse = |_, payload: &[u8]| parse_fdb(payload, index);
            self.exchange(&RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, parse).await
        };
        list.await.map_err(|cause| LinkError::new("list the forwarding entries of the bridge port", name, cause))
    }
}

fn parse_vlans(kind: u16, payload: &[u8], index: u32) -> Result<Option<Vec<BridgeVlan>>, DecodeError> {
    let message = LinkMessage::parse(payload)?;
    if kind != NEW_LINK || message.header.index != index {
        return Ok(None);
    }
    let infos = message.attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::AfSpecBridge(infos) => Some(infos),
        _ => None,
    });
    let vlans = infos.flatten().filter_map(|info| match info {
        AfSpecBridge::VlanInfo(info) => Some(BridgeVlan {
            vid: info.vid,
            pvid: info.flags.contains(BridgeVlanInfoFlags::Pvid),
            untagged: info.flags.contains(BridgeVlanInfoFlags::Untagged),
        }),
        _ => None,
    });
    Ok(Some(vlans.collect()))
}

fn parse_fdb(payload: &[u8], index: u32) -> Result<Option<FdbEntry>, DecodeError> {
    let message = NeighbourMessage::parse(payload)?;
    if message.header.ifindex != index || message.header.state != NeighbourState::Noarp {
        return Ok(None);
    }
    let mut mac = None;
    let mut vlan = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Vlan(vid) => vlan = Some(*vid),
            _ => {}
        }
    }
    let sticky = message.header.flags.contains(NeighbourFlags::Sticky);
    Ok(mac.map(|mac| FdbEntry { mac, vlan, sticky }))
}
