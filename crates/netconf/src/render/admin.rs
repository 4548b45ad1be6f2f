//! The node's admin network, for the host firewall: by which links it comes, and which addresses are in it.

use ipnet::IpNet;

use super::File;
use crate::{Plan, plan::Addressing};

/// Where the file is, relative to the root.
pub(super) const PATH: &str = "etc/triton/admin-networks";

/// Lines `link NAME` and `network ADDRESS/LENGTH`. What a link asks for by DHCP is not known here: the firewall reads leases of these links.
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
    File { path: PATH.to_owned(), text }
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
