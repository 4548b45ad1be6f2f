//! Addresses of links.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
};

use crate::{Cause, ErrorKind, LinkError, Links};

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the link.
    pub link: u32,
    /// The address and the length of its prefix.
    pub net: IpNet,
}

impl Links {
    /// The addresses of `name`, or of all links.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn addresses(&self, name: Option<&str>) -> Result<Vec<Address>, LinkError> {
        let list = async {
            let index = match name {
                Some(name) => self.index(name).await?,
                None => 0,
            };
            self.addresses_of(index).await
        };
        list.await.map_err(|cause| LinkError::new("list the addresses of", name.unwrap_or("all links"), cause))
    }

    pub(crate) async fn addresses_of(&self, index: u32) -> Result<Vec<Address>, Cause> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        let mut addresses = self.exchange(&RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP, parse_address).await?;
        addresses.retain(|address| index == 0 || address.link == index);
        Ok(addresses)
    }

    /// Gives `name` an address; that it has it is success. An IPv6 address is used at once, without asking the network
    /// whether somebody else has it.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Exists` if it has the address with another prefix.
    pub async fn add_address(&self, name: &str, net: IpNet) -> Result<(), LinkError> {
        let add = async {
            let index = self.index(name).await?;
            match self.change(RouteNetlinkMessage::NewAddress(address_message(index, net)), NLM_F_CREATE | NLM_F_EXCL).await {
                Err(cause) if cause.kind() == ErrorKind::Exists => {
                    let present = self.addresses_of(index).await?.iter().any(|address| address.net == net);
                    if present { Ok(()) } else { Err(cause) }
                }
                result => result,
            }
        };
        add.await.map_err(|cause| LinkError::new("add an address to", format!("{name} ({net})"), cause))
    }

    /// Takes an address from `name`; that it has none, or is gone, is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_address(&self, name: &str, net: IpNet) -> Result<(), LinkError> {
        let remove = async {
            let index = self.index(name).await?;
            self.change(RouteNetlinkMessage::DelAddress(address_message(index, net)), 0).await
        };
        match remove.await {
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NoDevice) => {
                Err(LinkError::new("remove an address from", format!("{name} ({net})"), cause))
            }
            _ => Ok(()),
        }
    }
}

fn address_message(index: u32, net: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = net.prefix_len();
    message.attributes.push(AddressAttribute::Local(net.addr()));
    message.attributes.push(AddressAttribute::Address(net.addr()));
    match net {
        IpNet::V4(net) => {
            message.header.family = AddressFamily::Inet;
            if net.prefix_len() < 31 {
                message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
            }
        }
        IpNet::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.flags = AddressHeaderFlags::Nodad;
        }
    }
    message
}

fn parse_address(_: u16, payload: &[u8]) -> Result<Option<Address>, DecodeError> {
    let message = AddressMessage::parse(payload)?;
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip: Option<IpAddr> = local.or(address);
    let net = ip.and_then(|ip| IpNet::new(ip, message.header.prefix_len).ok());
    Ok(net.map(|net| Address { link: message.header.index, net }))
}
