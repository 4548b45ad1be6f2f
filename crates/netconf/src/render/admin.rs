//! The node's admin network, for the host firewall: by which links it comes, and which addresses are in it.

use ipnet::IpNet;

use super::File;
use crate::{Overlay, Plan, plan::Addressing};

/// Where the file is, relative to the root.
pub(super) const PATH: &str = "etc/triton/admin-networks";

/// Lines `link NAME` and `network ADDRESS/LENGTH`, and `underlay NAME ADDRESS PORT` for the links by which encapsulated frames of overlay
/// networks come, which nobody else may send. What a link asks for by DHCP is not known here: the firewall reads leases of these links.
pub(super) fn render(plan: &Plan) -> File {
    let bridges = plan.uplinks.iter().map(|uplink| (uplink.admin, &uplink.bridge, &uplink.addressing));
    let nics = plan.nics.iter().map(|nic| (nic.admin, &nic.name, &nic.addressing));
    let admin = bridges.chain(nics).filter(|(admin, _, addressing)| *admin && !addressing.is_empty());
    let mut text = "# Written by triton-netconf from networking.json.\n".to_owned();
    for (_, name, addressing) in admin {
        text.push_str(&format!("link {name}\n"));
        for network in networks(addressing) {
            text.push_str(&format!("network {network}\n"));
        }
    }
    for (name, overlay) in underlays(plan) {
        text.push_str(&format!("underlay {name} {} {}\n", overlay.underlay, overlay.port));
    }
    File { path: PATH.to_owned(), text }
}

/// The links that have an underlay address.
fn underlays(plan: &Plan) -> impl Iterator<Item = (&str, &Overlay)> {
    let bridges = plan.uplinks.iter().map(|uplink| (uplink.bridge.as_str(), &uplink.addressing));
    let links = bridges.chain(plan.nics.iter().map(|nic| (nic.name.as_str(), &nic.addressing)));
    links.flat_map(|(name, addressing)| {
        let has = |overlay: &&Overlay| addressing.addresses.iter().any(|address| address.net.addr() == overlay.underlay);
        plan.overlays.iter().filter(has).map(move |overlay| (name, overlay))
    })
}

/// Networks of the link's addresses, and those behind its routers: admin networks of other racks. Everywhere is no network.
fn networks(addressing: &Addressing) -> Vec<IpNet> {
    let own = addressing.addresses.iter().map(|address| address.net.trunc());
    let behind = addressing.routes.iter().map(|route| route.destination.trunc()).filter(|net| net.prefix_len() > 0);
    let mut networks: Vec<IpNet> = own.chain(behind).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}
