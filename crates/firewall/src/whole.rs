//! Whether the table has exactly the lines that it was made with.
//!
//! A chain is made with all its lines in one transaction, and is never changed afterwards. The kernel numbers what is made in a table in the
//! order of making, so the lines of a chain that nobody touched have the numbers that follow the chain's own, and say what they were made to
//! say. The one line of an entry is replaced when it leads to another chain: of it only the content is known.

use std::collections::{BTreeMap, BTreeSet};

use triton_nft::{Content, Element, Family, Nft, NftError, Rule, StoredRule};

use crate::{
    Backend, Desired, names,
    plan::{self, Present},
    spans,
    table::{self, TABLE},
};

/// True when nobody changed a line, a chain or a set that never changes. What `present` has and `desired` does not need is not looked at.
pub(crate) fn is_whole(nft: &mut Nft, backend: Backend, present: &Present, desired: &Desired) -> Result<bool, NftError> {
    Ok(chains_are_whole(nft, backend, present, desired)? && sets_are_whole(nft, backend, present, desired)?)
}

fn chains_are_whole(nft: &mut Nft, backend: Backend, present: &Present, desired: &Desired) -> Result<bool, NftError> {
    let mut wanted: BTreeMap<&str, Vec<Rule>> = BTreeMap::new();
    let fixed = table::fixed(backend, 0);
    wanted.extend(fixed.iter().map(|chain| (chain.name, chain.rules.clone())));
    for ((_, direction), chain) in &desired.chains {
        // What stays for a rule that cannot be read has lines that nobody knows.
        if present.chains.contains(&chain.name) && desired.unknown.rules.is_empty() {
            wanted.insert(&chain.name, plan::lines(*direction, chain));
        }
    }
    for (entry, leads_to) in &present.entries {
        wanted.insert(entry, vec![plan::leading(leads_to)]);
    }
    let mut own = BTreeMap::new();
    for chain in nft.all_chains(Family::Bridge, TABLE)? {
        if !wanted.contains_key(chain.name.as_str()) && !names::is_chain(&chain.name) {
            return Ok(false);
        }
        own.insert(chain.name, chain.handle);
    }
    if !wanted.keys().all(|name| own.contains_key(*name)) {
        return Ok(false);
    }
    let look = |stored: StoredRule, content: Content<'_>| {
        let Some(rules) = wanted.get(stored.chain.as_str()) else { return Line::Leaving };
        // An entry has one line, which changes.
        let entry = names::is_entry(&stored.chain).then_some(0);
        let at = own.get(&stored.chain).and_then(|chain| stored.handle.checked_sub(chain + 1)).and_then(|at| usize::try_from(at).ok());
        match entry.or(at).and_then(|at| rules.get(at)) {
            Some(rule) if content.is_of(rule) => Line::AsMade,
            _ => Line::Other,
        }
    };
    let lines = nft.all_rules(Family::Bridge, TABLE, look)?;
    let made = lines.iter().filter(|line| **line == Line::AsMade).count();
    Ok(!lines.contains(&Line::Other) && made == wanted.values().map(Vec::len).sum::<usize>())
}

/// What a line is found to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    AsMade,
    Other,
    /// Of a chain that goes with the next change.
    Leaving,
}

fn sets_are_whole(nft: &mut Nft, backend: Backend, present: &Present, desired: &Desired) -> Result<bool, NftError> {
    for (name, (bytes, spans)) in desired.fixed.iter().filter(|(name, _)| present.sets.contains(*name)) {
        let has: BTreeSet<_> = nft.elements(Family::Bridge, TABLE, name)?.into_iter().map(|stored| (stored.key, stored.end)).collect();
        let key = |element: &Element| (element.first().clone(), element.is_end());
        if has != spans::elements(spans, *bytes).iter().map(key).collect() {
            return Ok(false);
        }
    }
    if backend == Backend::Marks {
        return Ok(true);
    }
    let tagged = nft.elements(Family::Bridge, TABLE, names::ZONE_TAGGED)?.len();
    Ok(present.zones.as_ref().is_none_or(|zones| zones.len() == tagged))
}
