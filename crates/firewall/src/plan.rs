//! What is there, and the one change that makes it what should be (section 12.6). Pure but for the reading.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use triton_fwrule::Direction;
use triton_nft::{Batch, DataType, Element, Family, Key, Nft, NftError, Rule, SetSpec, Stored};
use triton_types::InstanceUuid;

use crate::{
    Desired,
    desired::{Chain, Touched},
    names, spans, table,
};

/// The table as it is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Chains of instances.
    pub(crate) chains: BTreeSet<String>,
    /// Chains that lead to them, and to which one; an empty name where that is not known.
    pub(crate) entries: BTreeMap<String, String>,
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
    /// Zones of a table that is made anew: connections are not to lose theirs.
    pub(crate) zones_before: BTreeMap<(String, u16), u16>,
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
        let all = nft.chains(Family::Bridge, table::TABLE)?;
        let mut present = Self {
            entries: all.iter().filter(|name| names::is_entry(name)).map(|name| (name.clone(), String::new())).collect(),
            chains: all.into_iter().filter(|name| names::is_chain(name)).collect(),
            sets: nft.sets(Family::Bridge, table::TABLE)?.into_iter().filter(|name| names::comes_and_goes(name)).collect(),
            ..Self::default()
        };
        for chain in &present.chains {
            // A change that makes one removes the one before: what there is, is what the entry leads to.
            if let Some(leads_to) = names::entry_of(chain).and_then(|entry| present.entries.get_mut(&entry)) {
                *leads_to = if leads_to.is_empty() { chain.clone() } else { "of several".to_owned() };
            }
        }
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
        let maps = [names::EGRESS, names::INGRESS].map(|map| (map, BTreeMap::new())).into();
        let links = [names::DHCP, names::ADDRCONF].map(|set| (set, BTreeSet::new())).into();
        Self { maps, links, zones: native.then(BTreeMap::new), ..Self::default() }
    }
}

fn link(name: &str) -> Element {
    Element::new(Key::name(name))
}

fn addresses<'a>(all: impl IntoIterator<Item = &'a IpAddr>) -> Vec<Element> {
    all.into_iter().map(|ip| Element::new(Key::default().and_address(*ip))).collect()
}

/// Adds to `batch` what turns `present` into `desired`; returns it with what will be there then. With `touched`, only that is looked at: all
/// else is known to be as it should.
pub(crate) fn between(mut present: Present, desired: &Desired, touched: Option<&Touched>, mut batch: Batch) -> (Batch, Present) {
    for (name, (bytes, spans)) in of(&desired.fixed, touched.map(|touched| &touched.sets)) {
        if !present.sets.contains(name) {
            let kind = match bytes {
                2 => DataType::Port,
                4 => DataType::Ipv4,
                _ => DataType::Ipv6,
            };
            batch = batch.set(&SetSpec::new(name, &[kind]).intervals()).elements(name, &spans::elements(spans, *bytes));
            present.sets.insert(name.clone());
        }
    }
    for (name, wanted) in of(&desired.peers, touched.map(|touched| &touched.sets)) {
        batch = change_peers(batch, name, wanted, &mut present, desired.unknown.remote_vms);
    }
    for ((vm, direction), chain) in of(&desired.chains, touched.map(|touched| &touched.chains)) {
        if !present.chains.contains(&chain.name) {
            batch = new_chain(batch, *direction, chain);
            present.chains.insert(chain.name.clone());
        }
        batch = lead(batch, names::entry(*direction, *vm), &chain.name, &mut present.entries);
    }
    if touched.is_none_or(|touched| touched.links) {
        batch = change_links(batch, &mut present, desired);
    }
    // What is not needed goes last: nothing names it any more.
    let (entries, chains, sets) = unneeded(&present, desired, touched);
    for entry in entries {
        batch = batch.without_chain(&entry);
        present.entries.remove(&entry);
    }
    for chain in chains {
        batch = batch.without_chain(&chain);
        present.chains.remove(&chain);
    }
    for set in sets {
        batch = batch.without_set(&set);
        present.sets.remove(&set);
        present.peers.remove(&set);
    }
    (batch, present)
}

/// All of a map, or what it has of these.
fn of<'a, K: Ord, V>(all: &'a BTreeMap<K, V>, these: Option<&'a BTreeSet<K>>) -> Box<dyn Iterator<Item = (&'a K, &'a V)> + 'a> {
    match these {
        None => Box::new(all.iter()),
        Some(these) => Box::new(these.iter().filter_map(|key| all.get_key_value(key))),
    }
}

fn change_peers(mut batch: Batch, name: &str, wanted: &BTreeSet<IpAddr>, present: &mut Present, unknown: bool) -> Batch {
    if !present.sets.contains(name) {
        let kind = if name.starts_with("peers6") { DataType::Ipv6 } else { DataType::Ipv4 };
        batch = batch.set(&SetSpec::new(name, &[kind]));
        present.sets.insert(name.to_owned());
    }
    let has = present.peers.entry(name.to_owned()).or_default();
    if has == wanted {
        return batch;
    }
    if !unknown {
        batch = batch.remove_elements(name, &addresses(has.difference(wanted)));
        has.retain(|address| wanted.contains(address));
    }
    batch = batch.elements(name, &addresses(wanted.difference(has)));
    has.extend(wanted);
    batch
}

fn change_links(mut batch: Batch, present: &mut Present, desired: &Desired) -> Batch {
    for (map, direction) in [(names::EGRESS, Direction::Out), (names::INGRESS, Direction::In)] {
        batch = dispatch(batch, map, direction, present, desired);
    }
    for (set, wanted) in [(names::DHCP, &desired.dhcp), (names::ADDRCONF, &desired.addrconf)] {
        let has = present.links.entry(set).or_default();
        let links = |names: Vec<&String>| names.into_iter().map(|name| link(name)).collect::<Vec<_>>();
        batch = batch.remove_elements(set, &links(has.difference(wanted).collect()));
        batch = batch.elements(set, &links(wanted.difference(has).collect()));
        has.clone_from(wanted);
    }
    let before = std::mem::take(&mut present.zones_before);
    match &mut present.zones {
        Some(zones) => new_zones(batch, zones, &before, &desired.networks),
        None => batch,
    }
}

/// Entries, chains and sets that nothing needs.
fn unneeded(present: &Present, desired: &Desired, touched: Option<&Touched>) -> (Vec<String>, Vec<String>, Vec<String>) {
    let needed = |set: &&String| desired.fixed.contains_key(*set) || desired.peers.contains_key(*set);
    let Some(touched) = touched else {
        let wanted: BTreeSet<&str> = desired.chains.values().map(|chain| chain.name.as_str()).collect();
        let leading: BTreeSet<String> = desired.chains.keys().map(|(vm, direction)| names::entry(*direction, *vm)).collect();
        let entries = present.entries.keys().filter(|name| !leading.contains(*name)).cloned().collect();
        let chains = present.chains.iter().filter(|name| !wanted.contains(name.as_str())).cloned().collect();
        // A chain that stays for a rule which cannot be read may need any of them.
        let sets = present.sets.iter().filter(|set| desired.unknown.rules.is_empty() && !needed(set)).cloned().collect();
        return (entries, chains, sets);
    };
    let (mut entries, mut chains) = (BTreeSet::new(), BTreeSet::new());
    for (vm, direction) in &touched.chains {
        let wanted = desired.chains.get(&(*vm, *direction)).map(|chain| &chain.name);
        let entry = names::entry(*direction, *vm);
        if wanted.is_none() && present.entries.contains_key(&entry) {
            entries.insert(entry);
        }
        let begin = names::chains_of(*direction, *vm);
        let own = present.chains.range(begin.clone()..).take_while(|name| name.starts_with(&begin));
        chains.extend(own.filter(|name| Some(*name) != wanted).cloned());
    }
    let sets = touched.sets.iter().filter(|set| present.sets.contains(*set) && !needed(set)).cloned().collect();
    (entries.into_iter().collect(), chains.into_iter().collect(), sets)
}

/// Instances that will be judged by this table, and are not now.
pub(crate) fn unjudged(present: &Present, desired: &Desired, touched: Option<&Touched>) -> BTreeSet<InstanceUuid> {
    let has = |vm: &InstanceUuid| {
        [Direction::In, Direction::Out].into_iter().any(|direction| present.entries.contains_key(&names::entry(direction, *vm)))
    };
    of(&desired.chains, touched.map(|touched| &touched.chains)).map(|((vm, _), _)| *vm).filter(|vm| !has(vm)).collect()
}

/// The lines of a chain of an instance.
pub(crate) fn lines(direction: Direction, chain: &Chain) -> Vec<Rule> {
    let own = chain.lines().map(|line| line.rule(direction));
    // What no rule allows is dropped on its way in; on its way out it passes.
    own.chain((direction == Direction::In).then(|| Rule::new().count().drop())).collect()
}

fn new_chain(batch: Batch, direction: Direction, chain: &Chain) -> Batch {
    lines(direction, chain).iter().fold(batch.chain(&chain.name), |batch, rule| batch.rule(&chain.name, rule))
}

/// Makes an entry lead to a chain.
///
/// Maps name entries, which stay, because a packet that is on its way while a change is taken sees the lines of one generation and the
/// elements of the other: where a map led straight to the chain of lines, such a packet found the new chain and none of its lines, or neither
/// the old element nor the new one, and passed.
fn lead(batch: Batch, entry: String, chain: &str, entries: &mut BTreeMap<String, String>) -> Batch {
    let batch = match entries.get(&entry) {
        Some(leads_to) if leads_to == chain => return batch,
        Some(_) => batch.without_rules(&entry),
        None => batch.chain(&entry),
    };
    let batch = batch.rule(&entry, &leading(chain));
    entries.insert(entry, chain.to_owned());
    batch
}

/// The only line of an entry.
pub(crate) fn leading(chain: &str) -> Rule {
    Rule::new().goto(chain)
}

fn dispatch(batch: Batch, map: &'static str, direction: Direction, present: &mut Present, desired: &Desired) -> Batch {
    let has = present.maps.entry(map).or_default();
    let entry_of = |vm: &InstanceUuid| desired.chains.contains_key(&(*vm, direction)).then(|| names::entry(direction, *vm));
    let wanted: BTreeMap<String, String> = desired.links.iter().filter_map(|(link, vm)| Some((link.clone(), entry_of(vm)?))).collect();
    let gone: Vec<Element> = has.iter().filter(|(name, entry)| wanted.get(*name) != Some(*entry)).map(|(name, _)| link(name)).collect();
    let new: Vec<Element> = wanted
        .iter()
        .filter(|(name, entry)| has.get(*name) != Some(*entry))
        .map(|(name, entry)| link(name).verdict(table::judged_by(entry)))
        .collect();
    if gone.is_empty() && new.is_empty() {
        return batch;
    }
    *has = wanted;
    batch.remove_elements(map, &gone).elements(map, &new)
}

/// Networks keep the zone that they have: another one would lose the connections. Zones of networks that are gone stay, and cost nothing.
fn new_zones(
    batch: Batch,
    has: &mut BTreeMap<(String, u16), u16>,
    before: &BTreeMap<(String, u16), u16>,
    networks: &BTreeSet<(String, u16)>,
) -> Batch {
    let mut taken: BTreeSet<u16> = has.values().chain(before.values()).copied().collect();
    let (mut tagged, mut port, mut zones) = (Vec::new(), Vec::new(), BTreeMap::new());
    let all: BTreeSet<&(String, u16)> = networks.iter().chain(before.keys()).filter(|network| !has.contains_key(*network)).collect();
    for network in all {
        // A bridge has at most 4,094 of them, a node few bridges: with none left the network shares the last one.
        let unused = || (1..u16::MAX).find(|zone| !taken.contains(zone)).unwrap_or(u16::MAX);
        let zone = before.get(network).copied().unwrap_or_else(unused);
        taken.insert(zone);
        zones.insert(network.clone(), zone);
        let (bridge, vlan) = network;
        let element = |vlan: [u8; 2]| Element::new(Key::name(bridge).and(&vlan)).value(Key::raw(&zone.to_ne_bytes()));
        tagged.push(element(vlan.to_be_bytes()));
        port.push(element(vlan.to_ne_bytes()));
    }
    has.extend(zones);
    batch.elements(names::ZONE_TAGGED, &tagged).elements(names::ZONE_PORT, &port)
}
