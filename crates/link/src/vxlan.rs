//! VXLAN devices, and what they know about other nodes.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkInfo},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use crate::{Cause, ErrorKind, LinkError, LinkKind, Links, links::named};

/// A device that carries the frames of one network between nodes, in UDP. It learns nothing by itself and floods nothing: it knows
/// the addresses that it is told ([`Links::add_remote`]), and a frame to another one goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VxlanSpec<'a> {
    /// Its name.
    pub name: &'a str,
    /// The network's number, 24 bits.
    pub vni: u32,
    /// This node's address for it.
    pub local: IpAddr,
    /// The UDP port, here and at other nodes.
    pub port: u16,
    /// Its MTU.
    pub mtu: u32,
    /// `ifalias`.
    pub alias: Option<&'a str>,
}

/// Where an address of the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remote {
    /// The address.
    pub mac: [u8; 6],
    /// The node.
    pub ip: IpAddr,
    /// Its UDP port, if it is not the device's own.
    pub port: Option<u16>,
}

impl Links {
    /// Makes the device. One of its name that is there stays as it is, apart from MTU and alias. It is down at first.
    ///
    /// # Errors
    /// `Unsupported` if the kernel has no VXLAN; `Exists` if a link of another kind has the name, or another device carries this
    /// network.
    pub async fn ensure_vxlan(&self, spec: &VxlanSpec<'_>) -> Result<(), LinkError> {
        let make = async {
            if spec.vni >= 1 << 24 {
                return Err(Cause::Invalid("the number of a VXLAN network has 24 bits"));
            }
            let mut message = named(spec.name)?;
            let local = match spec.local {
                IpAddr::V4(ip) => InfoVxlan::Local(ip),
                IpAddr::V6(ip) => InfoVxlan::Local6(ip),
            };
            let data = vec![InfoVxlan::Id(spec.vni), local, InfoVxlan::Port(spec.port), InfoVxlan::Learning(false)];
            message.attributes.push(LinkAttribute::Mtu(spec.mtu));
            let info = vec![LinkInfo::Kind(InfoKind::Vxlan), LinkInfo::Data(InfoData::Vxlan(data))];
            message.attributes.push(LinkAttribute::LinkInfo(info));
            match self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await {
                Err(cause) if cause.kind() == ErrorKind::Exists => match self.find(spec.name).await {
                    Ok(found) if found.kind == LinkKind::Other("vxlan".to_owned()) => Ok(found),
                    _ => Err(cause),
                },
                result => {
                    result?;
                    self.find(spec.name).await
                }
            }
        };
        let subject = || format!("{} (network {})", spec.name, spec.vni);
        let found = make.await.map_err(|cause| LinkError::new("make the VXLAN device", subject(), cause))?;
        if found.mtu != spec.mtu {
            self.set_mtu(spec.name, spec.mtu).await?;
        }
        if let Some(alias) = spec.alias.filter(|alias| found.alias.as_deref() != Some(alias)) {
            self.set_alias(spec.name, alias).await?;
        }
        Ok(())
    }

    /// Tells the device `name` where an address is; what it knew of that address is forgotten.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Unsupported` if it is no VXLAN device.
    pub async fn add_remote(&self, name: &str, remote: Remote) -> Result<(), LinkError> {
        let add = async {
            let mut message = self.remote_message(name, remote.mac).await?;
            message.attributes.push(NeighbourAttribute::Destination(remote.ip.into()));
            message.attributes.extend(remote.port.map(NeighbourAttribute::Port));
            self.change(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE).await
        };
        add.await.map_err(|cause| LinkError::new("tell where an address is to the VXLAN device", name, cause))
    }

    /// Makes the device `name` forget an address; that it does not know it, or is gone, is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_remote(&self, name: &str, mac: [u8; 6]) -> Result<(), LinkError> {
        let remove = async {
            let message = self.remote_message(name, mac).await?;
            self.change(RouteNetlinkMessage::DelNeighbour(message), 0).await
        };
        match remove.await {
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NoDevice) => {
                Err(LinkError::new("forget an address of the VXLAN device", name, cause))
            }
            _ => Ok(()),
        }
    }

    async fn remote_message(&self, name: &str, mac: [u8; 6]) -> Result<NeighbourMessage, Cause> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = self.index(name).await?;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        Ok(message)
    }

    /// What the device `name` knows.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn remotes(&self, name: &str) -> Result<Vec<Remote>, LinkError> {
        let list = async {
            let mut message = NeighbourMessage::default();
            message.header.family = AddressFamily::Bridge;
            message.header.ifindex = self.index(name).await?;
            let index = message.header.ifindex;
            let parse = |_, payload: &[u8]| parse_remote(payload, index);
            self.exchange(&RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, parse).await
        };
        list.await.map_err(|cause| LinkError::new("list the addresses that are known to the VXLAN device", name, cause))
    }
}

fn parse_remote(payload: &[u8], index: u32) -> Result<Option<Remote>, DecodeError> {
    let message = NeighbourMessage::parse(payload)?;
    if message.header.ifindex != index || !message.header.flags.contains(NeighbourFlags::Own) {
        return Ok(None);
    }
    let (mut mac, mut ip, mut port) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(address) => ip = address_of(address),
            NeighbourAttribute::Port(number) => port = Some(*number),
            _ => {}
        }
    }
    Ok(mac.zip(ip).map(|(mac, ip)| Remote { mac, ip, port }))
}

/// In a list of the bridge family an address is bytes.
fn address_of(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        NeighbourAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        NeighbourAddress::Other(bytes) => match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(four) => Some(IpAddr::from(four)),
            Err(_) => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
        },
        _ => None,
    }
}
