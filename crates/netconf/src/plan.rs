//! What the links of the host should be.

use std::net::IpAddr;

use ipnet::IpNet;
use triton_types::{Mac, NicTag};

use crate::{LacpMode, Overlay};

/// The network of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whether there was a configuration. Without one no link is touched, and DHCP on all NICs stays possible.
    pub configured: bool,
    /// The node's name.
    pub hostname: Option<String>,
    /// Resolvers, the first asked first.
    pub resolvers: Vec<IpAddr>,
    /// Domains in which short names are looked up.
    pub domains: Vec<String>,
    /// Time servers.
    pub ntp: Vec<String>,
    /// NICs and aggregations with their bridges, in the order of the tags.
    pub uplinks: Vec<Uplink>,
    /// Further links of the host.
    pub nics: Vec<HostNic>,
    /// How the node takes part in overlay networks: their frames come by the link that has the underlay address.
    pub overlays: Vec<Overlay>,
}

/// A way out of the node, and its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// The bridge.
    pub bridge: String,
    /// What the bridge's frames leave through.
    pub device: Device,
    /// The MAC address of the device and of the bridge.
    pub mac: Mac,
    /// Bytes: the largest of the tags'.
    pub mtu: u32,
    /// The tags that it provides.
    pub tags: Vec<NicTag>,
    /// VLANs in which the host itself is, by number; those of instances are added when they start.
    pub vlans: Vec<u16>,
    /// Whether it carries the admin network.
    pub admin: bool,
    /// What the bridge has.
    pub addressing: Addressing,
}

/// The device below a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The physical NIC with the uplink's MAC address.
    Nic,
    /// An aggregation.
    Bond {
        /// Its link.
        link: String,
        /// Its NICs.
        macs: Vec<Mac>,
        /// How it finds its other side.
        mode: LacpMode,
    },
}

/// A link of the host beside the bridges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostNic {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
    /// Its network.
    pub tag: NicTag,
    /// Its VLAN; 0: untagged.
    pub vlan_id: u16,
    /// Bytes.
    pub mtu: u32,
    /// The bridge that it is on.
    pub bridge: String,
    /// What it is.
    pub kind: HostNicKind,
    /// Whether it is on the admin network.
    pub admin: bool,
    /// What it has.
    pub addressing: Addressing,
}

/// How a link of the host is on its bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostNicKind {
    /// A VLAN of the bridge itself, with the bridge's MAC address.
    Vlan,
    /// A pair with a MAC address of its own.
    Veth {
        /// The end that is a port of the bridge.
        port: String,
    },
}

/// Addresses and routes of one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addressing {
    /// Static addresses.
    pub addresses: Vec<Address>,
    /// It asks for an IPv4 address.
    pub dhcp: bool,
    /// It takes IPv6 addresses from router advertisements.
    pub autoconf: bool,
    /// Routes through it.
    pub routes: Vec<Route>,
}

/// A static address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address and its network.
    pub net: IpNet,
    /// Bytes: what may be sent to that network, if it is less than the link takes.
    pub mtu: Option<u32>,
}

/// A static route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; a prefix length of 0 is everywhere.
    pub destination: IpNet,
    /// The router; absent: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Whether the router is in none of the link's networks.
    pub on_link: bool,
    /// The smallest one counts where several routes lead to one destination; absent: the only one.
    pub metric: Option<u32>,
    /// Bytes, if less than the link takes.
    pub mtu: Option<u32>,
}

impl Addressing {
    /// Whether the link needs IPv6.
    pub fn has_ipv6(&self) -> bool {
        self.autoconf || self.addresses.iter().any(|address| matches!(address.net, IpNet::V6(_)))
    }

    /// Whether there is nothing to set.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.routes.is_empty() && !self.dhcp && !self.autoconf
    }
}
