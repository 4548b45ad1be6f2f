//! From rules and instances to what the table should be (sections 5 and 12). Pure.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
};

use triton_fwrule::{Action, Direction, IcmpType, IcmpTypes, Ports, Protocol, RemoteVm, Rule, Target};
use triton_types::{InstanceUuid, RuleUuid};

use crate::{
    LocalVm,
    line::{self, Line, Remote, Transport},
    names,
    peers::{Index, Member},
    spans::{self, Spans},
    store::Unknown,
};

/// What the table should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Links of instances whose firewall is enabled, and the instances.
    pub(crate) links: BTreeMap<String, InstanceUuid>,
    /// Links whose guests get addresses by DHCP, by router advertisements.
    pub(crate) dhcp: BTreeSet<String>,
    pub(crate) addrconf: BTreeSet<String>,
    /// The chain of each instance and direction.
    pub(crate) chains: BTreeMap<(InstanceUuid, Direction), Chain>,
    /// Sets that never change: their name, bytes of a key, spans.
    pub(crate) fixed: BTreeMap<String, (usize, Spans)>,
    /// Sets of addresses that change with the instances.
    pub(crate) peers: BTreeMap<String, BTreeSet<IpAddr>>,
    /// Bridges and VLANs of ports, each of which is tracked by itself.
    pub(crate) networks: BTreeSet<(String, u16)>,
    /// What exists and is not known: nothing that may be of it is removed.
    pub(crate) unknown: Unknown,
}

/// A chain of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    rules: Vec<Arc<Lines>>,
}

impl Chain {
    /// Its lines, in their order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.rules.iter().flat_map(|rule| &rule.lines)
    }
}

/// The lines of a rule in one direction: the same in the chains of all instances.
#[derive(Debug, PartialEq, Eq)]
struct Lines {
    lines: Vec<Line>,
    digest: String,
}

impl Desired {
    /// Instances whose firewall is enabled.
    pub fn instances(&self) -> BTreeSet<InstanceUuid> {
        self.chains.keys().map(|(vm, _)| *vm).collect()
    }

    /// With these chains for their instances, whatever should be in them.
    pub(crate) fn keeping(&self, chains: &BTreeSet<String>) -> Self {
        let mut kept = self.clone();
        for ((vm, direction), chain) in &mut kept.chains {
            let own = |name: &&String| names::vm_of(name) == Some(*vm) && names::is_of(name, *direction);
            if let Some(name) = chains.iter().find(own) {
                chain.name.clone_from(name);
            }
        }
        kept
    }

    /// True when nobody's firewall is enabled: no table is needed.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

/// Compiles the rules for the instances of this node. Disabled rules, and those that change nothing, are left out.
pub fn compile(rules: &[Rule], locals: &[LocalVm], remotes: &[RemoteVm]) -> Desired {
    let mut desired = Desired::default();
    let subjects = Index::new(locals.iter().filter(|vm| vm.facts.firewall_enabled).map(|vm| Member::local(&vm.facts)));
    let peers = Index::new(locals.iter().map(|vm| Member::local(&vm.facts)).chain(remotes.iter().map(Member::remote)));
    for vm in locals {
        for port in &vm.ports {
            desired.networks.extend(port.networks.iter().cloned());
        }
        if !vm.facts.firewall_enabled {
            continue;
        }
        for port in &vm.ports {
            desired.links.insert(port.link.clone(), vm.facts.uuid);
            desired.dhcp.extend(port.dhcp.then(|| port.link.clone()));
            desired.addrconf.extend(port.addrconf.then(|| port.link.clone()));
        }
    }
    for direction in [Direction::In, Direction::Out] {
        let mut concerned: BTreeMap<InstanceUuid, Vec<&Rule>> = BTreeMap::new();
        for rule in rules.iter().filter(|rule| rule.enabled && rule.has_effect(direction)) {
            for member in subjects.subjects(rule, direction) {
                let rules = concerned.entry(member.uuid).or_default();
                // One that is named by several targets comes several times in a row or not at all.
                if rules.last().is_none_or(|last| !std::ptr::eq(*last, rule)) {
                    rules.push(rule);
                }
            }
        }
        let mut compiled: HashMap<*const Rule, Arc<Lines>> = HashMap::new();
        for vm in locals.iter().filter(|vm| vm.facts.firewall_enabled) {
            let mut rules = concerned.remove(&vm.facts.uuid).unwrap_or_default();
            rules.sort_by_key(|rule| order(rule, direction));
            let mut own = Vec::with_capacity(rules.len());
            for rule in rules {
                let ready = compiled.entry(rule).or_insert_with(|| Arc::new(lines_of(rule, direction, &peers, &mut desired)));
                own.push(ready.clone());
            }
            let content: String = own.iter().map(|lines| lines.digest.as_str()).collect();
            let name = names::chain(direction, vm.facts.uuid, &content);
            desired.chains.insert((vm.facts.uuid, direction), Chain { name, rules: own });
        }
    }
    desired
}

/// Higher priorities first; among equals what overrides comes first, then an order that does not change.
fn order(rule: &Rule, direction: Direction) -> (u8, u8, RuleUuid) {
    let overrides = match direction {
        Direction::In => Action::Allow,
        Direction::Out => Action::Block,
    };
    (u8::MAX - rule.spec.priority, u8::from(rule.spec.action != overrides), rule.uuid)
}

/// The lines of a rule in one direction, and the sets that they need.
fn lines_of(rule: &Rule, direction: Direction, peers: &Index<'_>, desired: &mut Desired) -> Lines {
    let (protocol, families): (u8, &[bool]) = match &rule.spec.protocol {
        Protocol::Tcp(_) => (line::TCP, &[false, true]),
        Protocol::Udp(_) => (line::UDP, &[false, true]),
        Protocol::Icmp(_) => (line::ICMP, &[false]),
        Protocol::Icmp6(_) => (line::ICMP6, &[true]),
        Protocol::Ah => (line::AH, &[false, true]),
        Protocol::Esp => (line::ESP, &[false, true]),
    };
    let transports = transports(&rule.spec.protocol, desired);
    let remotes = remotes(rule, direction, families, peers, desired);
    let mut lines = Vec::with_capacity(remotes.len() * transports.len());
    for remote in &remotes {
        for transport in &transports {
            let (remote, transport) = (remote.clone(), transport.clone());
            lines.push(Line { protocol, remote, transport, action: rule.spec.action, rule: rule.uuid.to_string() });
        }
    }
    let digest = names::digest(&[&format!("{lines:?}")]);
    Lines { lines, digest }
}

fn transports(protocol: &Protocol, desired: &mut Desired) -> Vec<Transport> {
    match protocol {
        Protocol::Tcp(ports) | Protocol::Udp(ports) => match ports {
            Ports::All => vec![Transport::All],
            Ports::Of(entries) => {
                let all = entries.iter().map(|entry| (u128::from(entry.first()), u128::from(entry.last()))).collect();
                let spans = spans::join(all);
                match spans.as_slice() {
                    [(first, last)] => {
                        // Both are ports.
                        let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
                        vec![Transport::Ports(port(*first), port(*last))]
                    }
                    _ => {
                        let name = names::ports(&format!("{spans:?}"));
                        desired.fixed.insert(name.clone(), (2, spans));
                        vec![Transport::PortsIn(name)]
                    }
                }
            }
        },
        Protocol::Icmp(types) | Protocol::Icmp6(types) => match types {
            IcmpTypes::All => vec![Transport::All],
            IcmpTypes::Of(types) => {
                let bare = |number: u8| types.iter().any(|one| one.number == number && one.code.is_none());
                let mut kept: Vec<IcmpType> = types.iter().filter(|one| one.code.is_none() || !bare(one.number)).copied().collect();
                kept.dedup();
                kept.into_iter().map(Transport::Icmp).collect()
            }
        },
        Protocol::Ah | Protocol::Esp => vec![Transport::All],
    }
}

/// What the other end's address is compared with: one entry for each set, so that a packet matches when any of them fits.
fn remotes(rule: &Rule, direction: Direction, families: &[bool], peers: &Index<'_>, desired: &mut Desired) -> Vec<Remote> {
    let targets = rule.peers(direction).targets();
    if targets.contains(&Target::Any) {
        return match families {
            [ipv6] => vec![Remote::Family { ipv6: *ipv6 }],
            _ => vec![Remote::Any],
        };
    }
    let mut remotes = Vec::new();
    for &ipv6 in families {
        if let Some(remote) = listed(targets, ipv6, desired) {
            remotes.push(remote);
        }
    }
    let owner = rule.owner.map(|owner| owner.to_string()).unwrap_or_default();
    for target in targets.iter().filter(|target| matches!(target, Target::AllVms | Target::Tag { .. } | Target::Vm(_))) {
        for &ipv6 in families {
            let set = names::peers(ipv6, &owner, &format!("{target:?}"));
            // Most targets are named by many rules.
            if let Entry::Vacant(vacant) = desired.peers.entry(set.clone()) {
                let ips = peers.peers(rule.owner, target).flat_map(|member| member.ips.iter().copied());
                vacant.insert(ips.filter(|ip| ip.is_ipv6() == ipv6).collect());
            }
            remotes.push(Remote::In { set, ipv6 });
        }
    }
    remotes
}

/// Addresses and subnets that the rule lists, of one family.
fn listed(targets: &[Target], ipv6: bool, desired: &mut Desired) -> Option<Remote> {
    let nets = targets.iter().filter_map(|target| match target {
        Target::Ip(address) => Some(address.ip().into()),
        Target::Subnet(subnet) => Some(subnet.net()),
        _ => None,
    });
    let all: Spans = nets.filter(|net: &ipnet::IpNet| net.addr().is_ipv6() == ipv6).map(|net| spans::of_net(&net)).collect();
    if all.is_empty() {
        return None;
    }
    let spans = spans::join(all);
    let bytes = if ipv6 { 16 } else { 4 };
    let everything = if ipv6 { (0, u128::MAX) } else { (0, u128::from(u32::MAX)) };
    if spans == [everything] {
        return Some(Remote::Family { ipv6 });
    }
    let set = names::listed(ipv6, &format!("{spans:?}"));
    desired.fixed.insert(set.clone(), (bytes, spans));
    Some(Remote::In { set, ipv6 })
}
