//! Routes of the main table.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, Parseable};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use crate::{Cause, ErrorKind, LinkError, Links};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where to; absent: everywhere, in the gateway's family (IPv4 without a gateway).
    pub destination: Option<IpNet>,
    /// The next router; absent: the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The link.
    pub interface: String,
}

impl Route {
    fn net(&self) -> Result<IpNet, Cause> {
        let everywhere = match self.gateway {
            Some(IpAddr::V6(_)) => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
            _ => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        };
        let net = self.destination.unwrap_or(everywhere).trunc();
        match self.gateway {
            Some(gateway) if gateway.is_ipv4() != net.addr().is_ipv4() => {
                Err(Cause::Invalid("gateway and destination are of two families"))
            }
            _ => Ok(net),
        }
    }

    fn subject(&self) -> String {
        let destination = self.destination.map_or_else(|| "default".to_owned(), |net| net.to_string());
        let via = self.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("{destination}{via} on {}", self.interface)
    }
}

impl Links {
    /// Makes the route, in place of another to the same destination. The link must be up. A gateway that no prefix of the
    /// link holds is taken to be on the link nevertheless.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Other(ENETDOWN)` or `Other(ENETUNREACH)` if it is down.
    pub async fn add_route(&self, route: &Route) -> Result<(), LinkError> {
        let add = async {
            let mut message = self.route_message(route).await?;
            message.header.protocol = RouteProtocol::Static;
            message.header.kind = RouteType::Unicast;
            if route.gateway.is_none() && message.header.address_family == AddressFamily::Inet {
                message.header.scope = RouteScope::Link;
            }
            self.change(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE).await
        };
        add.await.map_err(|cause| LinkError::new("add the route", route.subject(), cause))
    }

    /// Removes the route; that it is not there, or the link is gone, is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn remove_route(&self, route: &Route) -> Result<(), LinkError> {
        let remove = async {
            let mut message = self.route_message(route).await?;
            message.header.scope = RouteScope::NoWhere;
            self.change(RouteNetlinkMessage::DelRoute(message), 0).await
        };
        match remove.await {
            Err(cause) if !matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::NoDevice) => {
                Err(LinkError::new("remove the route", route.subject(), cause))
            }
            _ => Ok(()),
        }
    }

    /// The unicast routes of the main table, IPv4 first. Default routes have no destination.
    ///
    /// # Errors
    /// When the list could not be read whole.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let list = async {
            let mut found = Vec::new();
            for family in [AddressFamily::Inet, AddressFamily::Inet6] {
                let mut message = RouteMessage::default();
                message.header.address_family = family;
                message.header.table = RouteHeader::RT_TABLE_MAIN;
                match self.exchange(&RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, parse_route).await {
                    // No table means no route was ever made in it; no family, none can be.
                    Err(cause) if matches!(cause.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
                    routes => found.extend(routes?),
                }
            }
            Ok::<_, Cause>(found)
        };
        let found = list.await.map_err(|cause| LinkError::new("list", "routes", cause))?;
        let names: HashMap<u32, String> = self.list().await?.into_iter().map(|link| (link.index, link.name)).collect();
        let named = found.into_iter().filter_map(|(destination, gateway, index)| {
            let interface = names.get(&index)?.clone();
            Some(Route { destination, gateway, interface })
        });
        Ok(named.collect())
    }

    async fn route_message(&self, route: &Route) -> Result<RouteMessage, Cause> {
        let net = route.net()?;
        let index = self.index(&route.interface).await?;
        let mut message = RouteMessage::default();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.destination_prefix_length = net.prefix_len();
        message.header.address_family = if net.addr().is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        if net.prefix_len() > 0 {
            message.attributes.push(RouteAttribute::Destination(address(net.addr())));
        }
        message.attributes.push(RouteAttribute::Oif(index));
        if let Some(gateway) = route.gateway {
            message.attributes.push(RouteAttribute::Gateway(address(gateway)));
            let reachable = self.addresses_of(index).await?.iter().any(|own| own.net.contains(&gateway));
            if !reachable {
                message.header.flags = RouteFlags::Onlink;
            }
        }
        Ok(message)
    }
}

fn address(ip: IpAddr) -> RouteAddress {
    match ip {
        IpAddr::V4(ip) => RouteAddress::Inet(ip),
        IpAddr::V6(ip) => RouteAddress::Inet6(ip),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

type Parsed = (Option<IpNet>, Option<IpAddr>, u32);

fn parse_route(_: u16, payload: &[u8]) -> Result<Option<Parsed>, DecodeError> {
    let message = RouteMessage::parse(payload)?;
    if message.header.table != RouteHeader::RT_TABLE_MAIN || message.header.kind != RouteType::Unicast {
        return Ok(None);
    }
    let (mut destination, mut gateway, mut link) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => {
                destination = ip(to).and_then(|ip| IpNet::new(ip, message.header.destination_prefix_length).ok());
            }
            RouteAttribute::Gateway(via) => gateway = ip(via),
            RouteAttribute::Oif(index) => link = Some(*index),
            _ => {}
        }
    }
    Ok(link.map(|link| (destination, gateway, link)))
}
