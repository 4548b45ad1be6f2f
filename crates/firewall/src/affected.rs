//! Instances of this node whom a change concerns (section 8.5), by indexes: a comparison may change tens of thousands of things. Pure.

use std::collections::BTreeSet;

use triton_fwrule::{Direction, RemoteVm, Rule, VmFacts};
use triton_types::InstanceUuid;

use crate::{
    LocalVm,
    peers::{Index, Member},
};

const BOTH: [Direction; 2] = [Direction::In, Direction::Out];

fn filtered(locals: &[LocalVm]) -> Index<'_> {
    Index::new(locals.iter().filter(|vm| vm.facts.firewall_enabled).map(|vm| Member::local(&vm.facts)))
}

/// Instances with their firewall enabled that one of these rules names on either side.
pub(crate) fn named_by<'a>(rules: impl Iterator<Item = &'a Rule>, locals: &[LocalVm]) -> BTreeSet<InstanceUuid> {
    let mut rules = rules.peekable();
    if rules.peek().is_none() {
        return BTreeSet::new();
    }
    let filtered = filtered(locals);
    let mut found = BTreeSet::new();
    for rule in rules {
        BOTH.into_iter().for_each(|direction| found.extend(filtered.subjects(rule, direction).map(|member| member.uuid)));
    }
    found
}

/// Instances with their firewall enabled to which one of these is a peer by some rule.
pub(crate) fn admitting<'a>(
    remotes: impl Iterator<Item = &'a RemoteVm>,
    here: &[&'a VmFacts],
    rules: impl Iterator<Item = &'a Rule>,
    locals: &[LocalVm],
) -> BTreeSet<InstanceUuid> {
    let mut found = BTreeSet::new();
    let peers: Vec<Member<'_>> = remotes.map(Member::remote).chain(here.iter().map(|facts| Member::local(facts))).collect();
    if peers.is_empty() {
        return found;
    }
    let (peers, filtered) = (Index::new(peers), filtered(locals));
    for rule in rules.filter(|rule| rule.enabled) {
        for direction in BOTH {
            if rule.peers(direction).targets().iter().any(|target| peers.peers(rule.owner, target).next().is_some()) {
                found.extend(filtered.subjects(rule, direction).map(|member| member.uuid));
            }
        }
    }
    found
}
