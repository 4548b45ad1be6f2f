//! The elements that a NIC has in the sets. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use triton_nft::{Element, Key};

use crate::{
    Protection,
    table::{Reason, links, pairs},
};

/// Sets of links in which this one is, and those in which it is not.
pub(crate) fn of_link(protection: &Protection) -> (Vec<&'static str>, Vec<&'static str>) {
    let mut all = vec![(links::KNOWN, true)];
    all.push((links::ANY_MAC, protection.any_mac));
    all.push((links::ANY_TYPE, protection.any_type));
    all.push((links::ANY_ADDRESS, protection.any_address));
    all.push((links::DHCP_SERVER, protection.dhcp_server));
    all.extend([links::ASKS4, links::TOLD4].map(|name| (name, protection.dhcp)));
    all.extend([links::ASKS6, links::TOLD6].map(|name| (name, protection.addrconf)));
    all.extend(Reason::ALL.map(|reason| (reason.name(), true)));
    let names = |is: bool| all.iter().filter(|(_, has)| *has == is).map(|(name, _)| *name).collect();
    (names(true), names(false))
}

/// All sets of links.
pub(crate) fn all_link_sets() -> Vec<&'static str> {
    let mut all = vec![links::KNOWN, links::ANY_MAC, links::ANY_TYPE, links::ANY_ADDRESS, links::DHCP_SERVER];
    all.extend(links::COPIED);
    all.extend(Reason::ALL.map(Reason::name));
    all
}

/// The element of a link in one of these sets.
pub(crate) fn link(name: &str) -> Element {
    Element::new(Key::name(name))
}

/// The elements of a link in [`pairs::DERIVED`].
pub(crate) fn derived(protection: &Protection) -> Vec<(&'static str, Element)> {
    let name = || Key::name(&protection.link);
    let mut elements = vec![(pairs::MAC, Element::new(name().and(&protection.mac.0)))];
    for address in &protection.addresses {
        let set = if address.is_ipv4() { pairs::ADDRESS4 } else { pairs::ADDRESS6 };
        elements.push((set, Element::new(name().and_address(*address))));
    }
    for network in &protection.networks {
        let (set, first, last) = match network {
            IpNet::V4(net) => (pairs::NETWORK4, IpAddr::V4(net.network()), IpAddr::V4(net.broadcast())),
            IpNet::V6(net) => (pairs::NETWORK6, IpAddr::V6(net.network()), IpAddr::V6(net.broadcast())),
        };
        elements.push((set, Element::range(name().and_address(first), name().and_address(last))));
    }
    for port in &protection.blocked_ports {
        elements.push((pairs::PORT, Element::new(name().and(&port.to_be_bytes()))));
    }
    merge_ranges(elements)
}

/// Ranges that lie in others of the same NIC are left out: the kernel takes no overlapping ones.
fn merge_ranges(mut elements: Vec<(&'static str, Element)>) -> Vec<(&'static str, Element)> {
    let ranges: Vec<_> =
        elements.iter().filter_map(|(set, element)| Some((*set, element.first().clone(), element.last()?.clone()))).collect();
    elements.retain(|(set, element)| {
        let Some(last) = element.last() else { return true };
        !ranges
            .iter()
            .any(|(other, begin, end)| other == set && (begin, end) != (element.first(), last) && begin <= element.first() && end >= last)
    });
    elements
}
