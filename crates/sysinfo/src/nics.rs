//! NICs, bonds, host VNICs and the tags on them (cn-agent.md section 7.2).
//!
//! An entry of `Network Interfaces` is a physical NIC or a bond. Where a tag's uplink is virtual (a test bed in a network namespace),
//! that link is one too. `NIC Names` are configured tags and nothing else: the headnode creates a NIC tag for every name it reads.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use triton_types::{JsonMap, Mac};

use crate::{
    LinkFact, LinkKind, Source,
    tags::{TagFacts, Uplink},
};

/// The part of the document that is about links.
#[derive(Debug, PartialEq)]
pub(crate) struct Nics {
    /// `Network Interfaces`.
    pub interfaces: JsonMap,
    /// `Virtual Network Interfaces`.
    pub virtuals: JsonMap,
    /// `Link Aggregations`.
    pub aggregations: JsonMap,
    /// The address of the interface that carries the admin tag.
    pub admin_ip: Option<Ipv4Addr>,
}

struct Entry<'a> {
    link: &'a LinkFact,
    tags: Vec<&'a str>,
}

impl Nics {
    pub(crate) fn build(links: &[LinkFact], tags: &TagFacts, source: &Source) -> Self {
        let entries = entries(links, tags);
        let mut interfaces = JsonMap::new();
        let mut admin_ip = None;
        for entry in &entries {
            let address = address(links, entry.link);
            if entry.tags.contains(&tags.admin.as_str()) {
                admin_ip = admin_ip.or(address);
            }
            interfaces.insert(
                entry.link.name.clone(),
                json!({
                    "MAC Address": own_mac(entry.link).to_string(),
                    "ip4addr": address.map(|ip| ip.to_string()).unwrap_or_default(),
                    "Link Status": status(entry.link),
                    "NIC Names": entry.tags,
                }),
            );
        }
        Self { interfaces, virtuals: virtuals(links, &entries, tags), aggregations: aggregations(links, source), admin_ip }
    }
}

fn status(link: &LinkFact) -> &'static str {
    if link.up { "up" } else { "down" }
}

fn by_index(links: &[LinkFact], index: Option<u32>) -> Option<&LinkFact> {
    links.iter().find(|link| Some(link.index) == index)
}

/// The bond that a NIC is part of.
fn bond<'a>(links: &'a [LinkFact], link: &LinkFact) -> Option<&'a LinkFact> {
    by_index(links, link.master).filter(|master| master.kind == LinkKind::Bond)
}

/// A NIC's own address, also while it is in a bond and shows the bond's. Virtual links have none but the one they show.
fn own_mac(link: &LinkFact) -> Mac {
    link.permanent_mac.filter(|_| link.kind == LinkKind::Physical).unwrap_or(link.mac)
}

/// The link's IPv4 address, or that of the bond and bridge above it: a NIC that is a bridge's uplink has none of its own.
fn address(links: &[LinkFact], link: &LinkFact) -> Option<Ipv4Addr> {
    let mut here = link;
    // NIC, bond, bridge: never deeper.
    for _ in 0..3 {
        if let Some(ip) = here.ipv4() {
            return Some(ip);
        }
        here = by_index(links, here.master)?;
    }
    None
}

fn entries<'a>(links: &'a [LinkFact], tags: &'a TagFacts) -> Vec<Entry<'a>> {
    let real = |link: &&LinkFact| matches!(link.kind, LinkKind::Physical | LinkKind::Bond);
    let mut entries: Vec<Entry<'a>> = links.iter().filter(real).map(|link| Entry { link, tags: Vec::new() }).collect();
    for tag in &tags.tags {
        let Some(link) = provider(links, &tag.uplink) else { continue };
        let place = entries.iter().position(|entry| entry.link.index == link.index).unwrap_or_else(|| {
            entries.push(Entry { link, tags: Vec::new() });
            entries.len() - 1
        });
        entries[place].tags.push(&tag.name);
    }
    entries
}

/// The link that carries a tag.
fn provider<'a>(links: &'a [LinkFact], uplink: &Uplink) -> Option<&'a LinkFact> {
    match uplink {
        Uplink::Named(name) => links.iter().find(|link| link.name == *name),
        Uplink::Mac(mac) => {
            // Several links have one MAC: a NIC, the bond and bridge above it, VLANs on it. The lowest real one carries the tag.
            let rank = |link: &LinkFact| match link.kind {
                LinkKind::Bond => 0,
                LinkKind::Physical => 1,
                LinkKind::Virtual => 2,
                LinkKind::Bridge => 3,
                LinkKind::Vlan | LinkKind::Macvlan => 4,
            };
            let mut matching: Vec<_> = links.iter().filter(|l| l.mac == *mac || own_mac(l) == *mac).collect();
            matching.sort_by_key(|link| (rank(link), link.index));
            let first = *matching.first()?;
            Some(bond(links, first).unwrap_or(first))
        }
    }
}

/// Further NICs of the host: VLANs and macvlans, and pairs that networking.json knows by their MAC address. Ends of
/// instances' pairs are none.
fn virtuals(links: &[LinkFact], entries: &[Entry<'_>], tags: &TagFacts) -> JsonMap {
    let mut map = JsonMap::new();
    let entry = |index: u32| entries.iter().any(|entry| entry.link.index == index);
    for link in links.iter().filter(|link| !entry(link.index)) {
        let known = tags.nics.iter().find(|nic| nic.mac == link.mac);
        let host = match link.kind {
            LinkKind::Vlan | LinkKind::Macvlan => by_index(links, link.parent).map(|parent| uplink(links, entries, parent)),
            LinkKind::Virtual => match known.and_then(|nic| tags.tags.iter().find(|tag| tag.name == nic.tag)) {
                Some(tag) => provider(links, &tag.uplink),
                None => continue,
            },
            LinkKind::Physical | LinkKind::Bond | LinkKind::Bridge => continue,
        };
        let vlan = link.vlan.or(known.map(|nic| nic.vlan_id)).unwrap_or(0);
        let mut value = json!({
            "MAC Address": link.mac.to_string(),
            "ip4addr": link.ipv4().map(|ip| ip.to_string()).unwrap_or_default(),
            "Link Status": status(link),
            "VLAN": vlan.to_string(),
        });
        if let Some(host) = host {
            value["Host Interface"] = Value::from(host.name.as_str());
        }
        if let Some(nic) = known.filter(|nic| !nic.overlays.is_empty()) {
            value["Overlay Nic Tags"] = Value::from(nic.overlays.clone());
        }
        map.insert(link.name.clone(), value);
    }
    map
}

/// The interface that a link sits on; of a bridge, its way out, which is what has the tags.
fn uplink<'a>(links: &'a [LinkFact], entries: &[Entry<'_>], link: &'a LinkFact) -> &'a LinkFact {
    let way_out = |port: &&LinkFact| port.master == Some(link.index) && entries.iter().any(|entry| entry.link.index == port.index);
    match link.kind {
        LinkKind::Bridge => links.iter().find(way_out).unwrap_or(link),
        _ => link,
    }
}

fn aggregations(links: &[LinkFact], source: &Source) -> JsonMap {
    let mut map = JsonMap::new();
    for bond in links.iter().filter(|link| link.kind == LinkKind::Bond) {
        let members: Vec<_> = links.iter().filter(|l| l.master == Some(bond.index)).map(|l| l.name.as_str()).collect();
        map.insert(bond.name.clone(), json!({"LACP mode": lacp_mode(&bond.name, source), "Interfaces": members}));
    }
    map
}

/// `active`, `passive`, or `off` for a bond that does not speak LACP. Netlink of this generation does not carry it.
fn lacp_mode(bond: &str, source: &Source) -> &'static str {
    let read = |file: &str| source.read(&format!("/sys/class/net/{bond}/bonding/{file}")).unwrap_or_default();
    if !read("mode").starts_with("802.3ad") {
        return "off";
    }
    if read("lacp_active").starts_with("off") { "passive" } else { "active" }
}
