//! What is there, and the one change that makes it what should be (section 12.6). Pure but for the reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use triton_fwrule::Direction;
use triton_nft::{Batch, DataType, Element, Family, Key, Nft, NftError, SetSpec, Stored};
use triton_types::InstanceUuid;

use crate::{Desired, compile::Chain, names, spans, table};

/// The table as it is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Chains of instances.
    pub(crate) chains: BTreeSet<String>,
    /// Sets that come and go.
    pub(crate) sets: BTreeSet<String>,
    /// Links and the chains that judge them, by map.
    pub(crate) maps: BTreeMap<&'static str, BTreeMap<String, String>>,
    /// Links in the sets of links.
    pub(crate) links: BTreeMap<&'static str, BTreeSet<String>>,
    /// Addresses of sets that change.
    pub(crate) peers: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Zones, where there are any.
    pub(crate) zones: Option<BTreeMap<(String, u16), u16>>,
}

fn name_of(key: &Key) -> String {
    let bytes = key.bytes().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).into_owned()
}

fn address_of(key: &Key) -> Option<IpAddr> {
    let bytes = key.bytes();
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Network and zone of an element; the VLAN in the machine's order where the kernel has it so.
fn zone_of(stored: &Stored) -> Option<((String, u16), u16)> {
    let vlan = u16::from_ne_bytes(*stored.key.after_name().first_chunk()?);
    let zone = u16::from_ne_bytes(*stored.value.as_ref()?.bytes().first_chunk()?);
    Some(((name_of(&stored.key), vlan), zone))
}

impl Present {
    /// Reads the table. The sets of peers that `desired` does not need are not read: they go.
    pub(crate) fn read(nft: &mut Nft, desired: &Desired, native: bool) -> Result<Self, NftError> {
        let mut present = Self {
            chains: nft.chains(Family::Bridge, table::TABLE)?.into_iter().filter(|name| names::is_chain(name)).collect(),
            sets: nft.sets(Family::Bridge, table::TABLE)?.into_iter().filter(|name| names::comes_and_goes(name)).collect(),
            ..Self::default()
        };
        let mut elements = |set: &str| nft.elements(Family::Bridge, table::TABLE, set);
        for map in [names::EGRESS, names::INGRESS] {
            let links = elements(map)?.into_iter().filter_map(|stored| Some((name_of(&stored.key), stored.chain?)));
            present.maps.insert(map, links.collect());
        }
        for set in [names::DHCP, names::ADDRCONF] {
            present.links.insert(set, elements(set)?.iter().map(|stored| name_of(&stored.key)).collect());
        }
        let kept: Vec<String> = present.sets.iter().filter(|set| desired.peers.contains_key(*set)).cloned().collect();
        for set in kept {
            let addresses = elements(&set)?.iter().filter_map(|stored| address_of(&stored.key)).collect();
            present.peers.insert(set, addresses);
        }
        if native {
            present.zones = Some(elements(names::ZONE_PORT)?.iter().filter_map(zone_of).collect());
        }
        Ok(present)
    }

    /// The table as it is right after it was made.
    pub(crate) fn fresh(native: bool) -> Self {
        Self { zones: native.then(BTreeMap::new), ..Self::default() }
    }
}

fn link(name: &str) -> Element {
    Element::new(Key::name(name))
}

fn addresses<'a>(all: impl IntoIterator<Item = &'a IpAddr>) -> Vec<Element> {
    all.into_iter().map(|ip| Element::new(Key::default().and_address(*ip))).collect()
}

/// Adds to `batch` what turns `present` into `desired`.
pub(crate) fn between(present: &Present, desired: &Desired, mut batch: Batch) -> Batch {
    for (name, (bytes, spans)) in &desired.fixed {
        if !present.sets.contains(name) {
            let kind = match bytes {
                2 => DataType::Port,
                4 => DataType::Ipv4,
                _ => DataType::Ipv6,
            };
            batch = batch.set(&SetSpec::new(name, &[kind]).intervals()).elements(name, &spans::elements(spans, *bytes));
        }
    }
    for (name, wanted) in &desired.peers {
        if !present.sets.contains(name) {
            let kind = if name.starts_with("peers6") { DataType::Ipv6 } else { DataType::Ipv4 };
            batch = batch.set(&SetSpec::new(name, &[kind]));
        }
        let none = BTreeSet::new();
        let has = present.peers.get(name).unwrap_or(&none);
        batch = batch.remove_elements(name, &addresses(has.difference(wanted))).elements(name, &addresses(wanted.difference(has)));
    }
    let wanted: BTreeSet<&str> = desired.chains.values().map(|chain| chain.name.as_str()).collect();
    for ((_, direction), chain) in &desired.chains {
        if !present.chains.contains(&chain.name) {
            batch = new_chain(batch, *direction, chain);
        }
    }
    for (map, direction) in [(names::EGRESS, Direction::Out), (names::INGRESS, Direction::In)] {
        batch = dispatch(batch, map, direction, present, desired);
    }
    for (set, wanted) in [(names::DHCP, &desired.dhcp), (names::ADDRCONF, &desired.addrconf)] {
        let none = BTreeSet::new();
        let has = present.links.get(set).unwrap_or(&none);
        let links = |names: Vec<&String>| names.into_iter().map(|name| link(name)).collect::<Vec<_>>();
        batch = batch.remove_elements(set, &links(has.difference(wanted).collect()));
        batch = batch.elements(set, &links(wanted.difference(has).collect()));
    }
    if let Some(zones) = &present.zones {
        batch = new_zones(batch, zones, &desired.networks);
    }
    // What is not needed goes last: nothing names it any more.
    for chain in present.chains.iter().filter(|name| !wanted.contains(name.as_str())) {
        batch = batch.without_chain(chain);
    }
    for set in present.sets.iter().filter(|set| !desired.fixed.contains_key(*set) && !desired.peers.contains_key(*set)) {
        batch = batch.without_set(set);
    }
    batch
}

fn new_chain(batch: Batch, direction: Direction, chain: &Chain) -> Batch {
    let mut batch = batch.chain(&chain.name);
    for line in &chain.lines {
        batch = batch.rule(&chain.name, &line.rule(direction));
    }
    match direction {
        // What no rule allows is dropped on its way in; on its way out it passes.
        Direction::In => batch.rule(&chain.name, &triton_nft::Rule::new().count().drop()),
        Direction::Out => batch,
    }
}

fn dispatch(batch: Batch, map: &'static str, direction: Direction, present: &Present, desired: &Desired) -> Batch {
    let none = BTreeMap::new();
    let has = present.maps.get(map).unwrap_or(&none);
    let chain_of = |vm: InstanceUuid| desired.chains.get(&(vm, direction)).map(|chain| chain.name.as_str());
    let wanted: BTreeMap<&str, &str> = desired.links.iter().filter_map(|(link, vm)| Some((link.as_str(), chain_of(*vm)?))).collect();
    let gone: Vec<Element> =
        has.iter().filter(|(name, chain)| wanted.get(name.as_str()) != Some(&chain.as_str())).map(|(name, _)| link(name)).collect();
    let new: Vec<Element> = wanted
        .iter()
        .filter(|(name, chain)| has.get(**name).map(String::as_str) != Some(**chain))
        .map(|(name, chain)| link(name).verdict(table::judged_by(chain)))
        .collect();
    batch.remove_elements(map, &gone).elements(map, &new)
}

/// Networks keep the zone that they have: another one would lose the connections. Zones of networks that are gone stay, and cost nothing.
fn new_zones(batch: Batch, has: &BTreeMap<(String, u16), u16>, networks: &BTreeSet<(String, u16)>) -> Batch {
    let mut taken: BTreeSet<u16> = has.values().copied().collect();
    let (mut tagged, mut port) = (Vec::new(), Vec::new());
    for network in networks.iter().filter(|network| !has.contains_key(*network)) {
        // A bridge has at most 4,094 of them, a node few bridges: with none left the network shares the last one.
        let zone = (1..u16::MAX).find(|zone| !taken.contains(zone)).unwrap_or(u16::MAX);
        taken.insert(zone);
        let (bridge, vlan) = network;
        let element = |vlan: [u8; 2]| Element::new(Key::name(bridge).and(&vlan)).value(Key::raw(&zone.to_ne_bytes()));
        tagged.push(element(vlan.to_be_bytes()));
        port.push(element(vlan.to_ne_bytes()));
    }
    batch.elements(names::ZONE_TAGGED, &tagged).elements(names::ZONE_PORT, &port)
}
