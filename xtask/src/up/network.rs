//! Links of the small data centre: two wires from the node to what is beside it, and the node's bridges.

use std::net::IpAddr;

use anyhow::{Context, Result};
use ipnet::IpNet;
use serde_json::json;
use std::os::fd::AsFd;
use triton_files::Layout;
use triton_link::{Links, NetNs, VethSpec};
use triton_nictag::NicTags;
use triton_types::{Mac, NicTag};

use super::{namespaces, site};

/// Makes what is missing: wires with their outside addresses, the tag file, bridges, and the node's own address.
pub fn ensure(layout: &Layout) -> Result<()> {
    let node = NetNs::open(&namespaces::node(layout))?;
    let outside = NetNs::open(&namespaces::outside(layout))?;
    let runtime = triton_agent::runtime::current_thread()?;
    let (inside_links, outside_links) = (Links::of(node.clone()), Links::of(outside));
    runtime.block_on(async {
        for wire in site::WIRES {
            let made = inside_links.get(wire.nic).await?.is_some() && outside_links.get(wire.outside).await?.is_some();
            if !made {
                let spec = VethSpec {
                    host: wire.outside,
                    guest: wire.nic,
                    guest_mac: Some(wire.mac),
                    mtu: None,
                    guest_netns: node.as_fd(),
                    bridge: None,
                    alias: Some("the other end of a NIC of the compute node"),
                };
                outside_links.create_veth(&spec).await.with_context(|| format!("could not make the NIC {}", wire.nic))?;
            }
            for address in wire.addresses {
                outside_links.add_address(wire.outside, net((*address).into())).await?;
            }
            inside_links.set_up(wire.nic).await?;
        }
        anyhow::Ok(())
    })?;
    let nictags: Vec<_> = site::WIRES.iter().map(|wire| json!({"name": wire.tag, "mac": Mac(wire.mac).to_string()})).collect();
    let tags = json!({
        "hostname": "up",
        "datacenter_name": site::DATACENTER,
        "dns_domain": site::DOMAIN,
        "resolvers": site::RESOLVERS,
        "admin_tag": site::ADMIN.tag,
        "nictags": nictags,
    });
    triton_files::write_json(&layout.config().join("triton-networking.json"), &tags, 0o644)?;
    let bridges = bridges(layout, &node).context("could not make the bridges of the NIC tags")?;
    runtime.block_on(async {
        for (wire, bridge) in site::WIRES.iter().zip(bridges) {
            if let Some(address) = wire.node {
                inside_links.add_address(&bridge, net(address.into())).await?;
            }
        }
        anyhow::Ok(())
    })
}

/// The bridge of each wire's tag, made where it is missing.
fn bridges(layout: &Layout, node: &NetNs) -> Result<Vec<String>> {
    // Links of the node only: its namespace is this thread's until the guard is dropped.
    let _entered = node.enter()?;
    let tags = NicTags::load(layout)?;
    for report in tags.ensure_bridges()? {
        report.result.with_context(|| format!("the NIC tag {}", report.tag))?;
    }
    site::WIRES
        .iter()
        .map(|wire| {
            let tag: NicTag = wire.tag.parse()?;
            tags.bridge(&tag).with_context(|| format!("the NIC tag {tag} has no bridge"))
        })
        .collect()
}

fn net(address: IpAddr) -> IpNet {
    // The prefix is a constant below 33.
    IpNet::new(address, site::PREFIX).unwrap_or_else(|_| IpNet::from(address))
}
