//! From rules and instances to what the table should be (sections 5 and 12), at the cost of what changed. Pure.
//!
//! Rules and instances find each other by what names instances ([`Name`]), by owner: a rule that changes is compiled once and concerns
//! the chains of those whom it names, an instance that changes concerns its own chains and the sets that it belongs to.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use triton_fwrule::{Action, Direction, RemoteVm, Rule};
use triton_types::{InstanceUuid, OwnerUuid, RuleUuid};

use crate::{
    Desired, LocalVm,
    desired::{Chain, Touched},
    index::{Index, Member, Name},
    part::Part,
    peersets::PeerSets,
    store::{News, Unknown},
};

const BOTH: [Direction; 2] = [Direction::In, Direction::Out];
/// Higher priorities first; among equals what overrides comes first, then an order that does not change.
type Order = (u8, u8, RuleUuid);

/// Keeps what was compiled. What [`Compiler::update`] leaves is what a new one would make of the same rules and instances.
#[derive(Debug)]
pub struct Compiler {
    /// Those that have any effect.
    rules: BTreeMap<RuleUuid, Rule>,
    locals: BTreeMap<InstanceUuid, LocalVm>,
    /// Instances that are filtered.
    filtered: Index,
    /// Rules by whose packets they filter: direction, owner, name.
    by_subject: HashMap<(Direction, Option<OwnerUuid>, Name), BTreeSet<RuleUuid>>,
    /// What rules come to that concern anybody, and how many chains have it.
    parts: HashMap<(RuleUuid, Direction), (Arc<Part>, usize)>,
    chains: BTreeMap<(InstanceUuid, Direction), BTreeMap<Order, Arc<Part>>>,
    peers: PeerSets,
    /// Parts that need a set which never changes.
    fixed: HashMap<String, usize>,
    desired: Desired,
    touched: Touched,
    /// Of the update that is under way: chains to make anew, parts that no chain has any more.
    dirty: HashSet<(InstanceUuid, Direction)>,
    released: Vec<Arc<Part>>,
    compiled: usize,
}

impl Default for Compiler {
    fn default() -> Self {
        Self {
            rules: BTreeMap::new(),
            locals: BTreeMap::new(),
            filtered: Index::default(),
            by_subject: HashMap::new(),
            parts: HashMap::new(),
            chains: BTreeMap::new(),
            peers: PeerSets::default(),
            fixed: HashMap::new(),
            desired: Desired::default(),
            touched: Touched::nothing(),
            dirty: HashSet::new(),
            released: Vec::new(),
            compiled: 0,
        }
    }
}

/// Compiles the rules for the instances of this node from nothing. Disabled rules, and those that change nothing, are left out.
pub fn compile(rules: &[Rule], locals: &[LocalVm], remotes: &[RemoteVm]) -> Desired {
    let mut compiler = Compiler::default();
    let rules = rules.iter().map(|rule| (rule.uuid, rule.clone())).collect();
    let remotes = remotes.iter().map(|vm| (vm.uuid, vm.clone())).collect();
    compiler.update(&rules, &remotes, locals, &News::everything());
    compiler.desired
}

impl Compiler {
    /// Follows what changed: all instances of this node are compared, of rules and remote instances those that `news` names.
    pub fn update(
        &mut self,
        rules: &BTreeMap<RuleUuid, Rule>,
        remotes: &BTreeMap<InstanceUuid, RemoteVm>,
        locals: &[LocalVm],
        news: &News,
    ) {
        self.put_locals(locals);
        let known = || self.peers.members().keys().filter(|(here, _)| !here).map(|(_, uuid)| *uuid);
        let changed: BTreeSet<InstanceUuid> = match news.all {
            true => known().chain(remotes.keys().copied()).collect(),
            false => news.remote_vms.clone(),
        };
        for uuid in changed {
            let member = remotes.get(&uuid).map(Member::remote);
            self.peers.put((false, uuid), member.as_ref(), &mut self.desired.peers, &mut self.touched);
        }
        let changed: BTreeSet<RuleUuid> = match news.all {
            true => self.rules.keys().chain(rules.keys()).copied().collect(),
            false => news.rules.clone(),
        };
        for uuid in changed {
            self.put_rule(uuid, rules.get(&uuid));
        }
        self.finish();
    }

    /// What exists and is not known.
    pub(crate) fn set_unknown(&mut self, unknown: Unknown) {
        self.desired.unknown = unknown;
    }

    /// What the table should be.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// Rules that were compiled so far, each direction by itself.
    pub fn compiled(&self) -> usize {
        self.compiled
    }

    /// What may differ from what was in force at the last [`Compiler::settle`].
    pub(crate) fn touched(&self) -> &Touched {
        &self.touched
    }

    /// What should be is in force now; returns the number of this state.
    pub(crate) fn settle(&mut self) -> u64 {
        self.touched = Touched::nothing();
        self.touched.since
    }

    fn put_locals(&mut self, locals: &[LocalVm]) {
        let there: HashSet<InstanceUuid> = locals.iter().map(|vm| vm.facts.uuid).collect();
        let gone: Vec<InstanceUuid> = self.locals.keys().filter(|uuid| !there.contains(uuid)).copied().collect();
        gone.into_iter().for_each(|uuid| self.put_local(uuid, None));
        for vm in locals {
            if self.locals.get(&vm.facts.uuid) != Some(vm) {
                self.put_local(vm.facts.uuid, Some(vm));
            }
        }
    }

    fn put_local(&mut self, uuid: InstanceUuid, vm: Option<&LocalVm>) {
        let before = match vm {
            Some(vm) => self.locals.insert(uuid, vm.clone()),
            None => self.locals.remove(&uuid),
        };
        let linked = |vm: &LocalVm| (vm.facts.firewall_enabled, vm.ports.clone());
        self.touched.links |= before.as_ref().map(linked) != vm.map(linked);
        let key = (true, uuid);
        let peer = vm.map(|vm| Member::local(&vm.facts));
        self.peers.put(key, peer.as_ref(), &mut self.desired.peers, &mut self.touched);
        let subject = vm.filter(|vm| vm.facts.firewall_enabled).map(|vm| Member::subject(&vm.facts));
        if self.filtered.get(&key) == subject.as_ref() {
            return;
        }
        self.filtered.put(key, subject.clone());
        for direction in BOTH {
            self.dirty.insert((uuid, direction));
            for (_, _, rule) in self.chains.remove(&(uuid, direction)).unwrap_or_default().into_keys() {
                self.leave(rule, direction);
            }
            let Some(subject) = &subject else { continue };
            self.chains.insert((uuid, direction), BTreeMap::new());
            let owners: BTreeSet<Option<OwnerUuid>> = [subject.owner, None].into();
            let mut rules: BTreeSet<RuleUuid> = BTreeSet::new();
            for name in subject.names(uuid) {
                let mut place = (direction, None, name);
                for owner in &owners {
                    place.1 = *owner;
                    rules.extend(self.by_subject.get(&place).into_iter().flatten());
                }
            }
            rules.into_iter().for_each(|rule| self.enter(rule, direction, uuid));
        }
    }

    fn put_rule(&mut self, uuid: RuleUuid, rule: Option<&Rule>) {
        let rule = rule.filter(|rule| rule.enabled && BOTH.into_iter().any(|direction| rule.has_effect(direction)));
        if self.rules.get(&uuid) == rule {
            return;
        }
        if let Some(before) = self.rules.remove(&uuid) {
            for direction in BOTH.into_iter().filter(|direction| before.has_effect(*direction)) {
                for place in places(&before, direction) {
                    if let Some(rules) = self.by_subject.get_mut(&place) {
                        rules.remove(&uuid);
                        if rules.is_empty() {
                            self.by_subject.remove(&place);
                        }
                    }
                }
                for vm in self.subjects(&before, direction) {
                    let chain = self.chains.get_mut(&(vm, direction));
                    if chain.is_some_and(|chain| chain.remove(&order(&before, direction)).is_some()) {
                        self.leave(uuid, direction);
                        self.dirty.insert((vm, direction));
                    }
                }
            }
        }
        let Some(rule) = rule else { return };
        self.rules.insert(uuid, rule.clone());
        for direction in BOTH.into_iter().filter(|direction| rule.has_effect(*direction)) {
            for place in places(rule, direction) {
                self.by_subject.entry(place).or_default().insert(uuid);
            }
            self.subjects(rule, direction).into_iter().for_each(|vm| self.enter(uuid, direction, vm));
        }
    }

    /// Whom a rule filters in a direction.
    fn subjects(&self, rule: &Rule, direction: Direction) -> BTreeSet<InstanceUuid> {
        let names = rule.subjects(direction).targets().iter().filter_map(Name::of);
        names.flat_map(|name| self.filtered.named(rule.owner, false, &name)).map(|(_, uuid)| uuid).collect()
    }

    /// A rule comes into a chain.
    fn enter(&mut self, uuid: RuleUuid, direction: Direction, vm: InstanceUuid) {
        let (Some(rule), Some(chain)) = (self.rules.get(&uuid), self.chains.get_mut(&(vm, direction))) else { return };
        let (part, chains) = self.parts.entry((uuid, direction)).or_insert_with(|| {
            self.compiled += 1;
            let part = Part::new(rule, direction);
            for (name, content) in &part.fixed {
                let users = self.fixed.entry(name.clone()).or_default();
                *users += 1;
                if *users == 1 {
                    self.desired.fixed.insert(name.clone(), content.clone());
                    self.touched.sets.insert(name.clone());
                }
            }
            for set in &part.peers {
                self.peers.acquire(set, &mut self.desired.peers, &mut self.touched);
            }
            (Arc::new(part), 0)
        });
        if chain.insert(order(rule, direction), part.clone()).is_none() {
            *chains += 1;
        }
        self.dirty.insert((vm, direction));
    }

    /// A rule has left a chain.
    fn leave(&mut self, uuid: RuleUuid, direction: Direction) {
        let Some((_, chains)) = self.parts.get_mut(&(uuid, direction)) else { return };
        *chains -= 1;
        if *chains == 0
            && let Some((part, _)) = self.parts.remove(&(uuid, direction))
        {
            // What takes its place may need the same sets.
            self.released.push(part);
        }
    }

    /// Makes the chains anew that an update concerned, and forgets what nobody needs any more.
    fn finish(&mut self) {
        for part in std::mem::take(&mut self.released) {
            for (name, _) in &part.fixed {
                let Some(users) = self.fixed.get_mut(name) else { continue };
                *users -= 1;
                if *users == 0 {
                    self.fixed.remove(name);
                    self.desired.fixed.remove(name);
                    self.touched.sets.insert(name.clone());
                }
            }
            for set in &part.peers {
                self.peers.release(set, &mut self.desired.peers, &mut self.touched);
            }
        }
        for (vm, direction) in std::mem::take(&mut self.dirty) {
            let key = (vm, direction);
            match self.chains.get(&key) {
                Some(parts) => drop(self.desired.chains.insert(key, Chain::new(vm, direction, parts.values().cloned().collect()))),
                None => drop(self.desired.chains.remove(&key)),
            }
            self.touched.chains.insert(key);
        }
        if self.touched.links {
            self.link();
        }
    }

    fn link(&mut self) {
        let desired = &mut self.desired;
        desired.links.clear();
        [&mut desired.dhcp, &mut desired.addrconf].into_iter().for_each(BTreeSet::clear);
        desired.networks.clear();
        for (uuid, vm) in &self.locals {
            desired.networks.extend(vm.ports.iter().flat_map(|port| port.networks.iter().cloned()));
            for port in vm.ports.iter().filter(|_| vm.facts.firewall_enabled) {
                desired.links.insert(port.link.clone(), *uuid);
                desired.dhcp.extend(port.dhcp.then(|| port.link.clone()));
                desired.addrconf.extend(port.addrconf.then(|| port.link.clone()));
            }
        }
    }
}

/// Where a rule is found by the instances that it filters.
fn places(rule: &Rule, direction: Direction) -> impl Iterator<Item = (Direction, Option<OwnerUuid>, Name)> {
    let names: BTreeSet<Name> = rule.subjects(direction).targets().iter().filter_map(Name::of).collect();
    let owner = rule.owner;
    names.into_iter().map(move |name| (direction, owner, name))
}

fn order(rule: &Rule, direction: Direction) -> Order {
    let overrides = match direction {
        Direction::In => Action::Allow,
        Direction::Out => Action::Block,
    };
    (u8::MAX - rule.spec.priority, u8::from(rule.spec.action != overrides), rule.uuid)
}
