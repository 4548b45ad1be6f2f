//! What a rule comes to in one direction: lines, and the sets that they name (sections 5 and 12). Pure, and the same whoever is there.

use triton_fwrule::{Direction, IcmpType, IcmpTypes, Ports, Protocol, Rule, Target};

use crate::{
    index::Name,
    line::{self, Line, Remote, Transport},
    names,
    peersets::PeerSet,
    spans::{self, Spans},
};

/// The lines of a rule in one direction: the same in the chains of all instances.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) lines: Vec<Line>,
    /// By which two chains with the same lines have the same name.
    pub(crate) digest: String,
    /// Sets that never change: name, bytes of a key, spans.
    pub(crate) fixed: Vec<(String, (usize, Spans))>,
    /// Sets that change with the instances.
    pub(crate) peers: Vec<PeerSet>,
}

/// Sets that lines need.
#[derive(Default)]
struct Needs {
    fixed: Vec<(String, (usize, Spans))>,
    peers: Vec<PeerSet>,
}

impl Part {
    /// What this rule comes to.
    pub(crate) fn new(rule: &Rule, direction: Direction) -> Self {
        let (protocol, families): (u8, &[bool]) = match &rule.spec.protocol {
            Protocol::Tcp(_) => (line::TCP, &[false, true]),
            Protocol::Udp(_) => (line::UDP, &[false, true]),
            Protocol::Icmp(_) => (line::ICMP, &[false]),
            Protocol::Icmp6(_) => (line::ICMP6, &[true]),
            Protocol::Ah => (line::AH, &[false, true]),
            Protocol::Esp => (line::ESP, &[false, true]),
        };
        let mut needs = Needs::default();
        let transports = transports(&rule.spec.protocol, &mut needs);
        let remotes = remotes(rule, direction, families, &mut needs);
        let mut lines = Vec::with_capacity(remotes.len() * transports.len());
        for remote in &remotes {
            for transport in &transports {
                let (remote, transport) = (remote.clone(), transport.clone());
                lines.push(Line { protocol, remote, transport, action: rule.spec.action, rule: rule.uuid.to_string() });
            }
        }
        let digest = names::digest(&[&format!("{lines:?}")]);
        Self { lines, digest, fixed: needs.fixed, peers: needs.peers }
    }
}

fn transports(protocol: &Protocol, needs: &mut Needs) -> Vec<Transport> {
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
                        needs.fixed.push((name.clone(), (2, spans)));
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
fn remotes(rule: &Rule, direction: Direction, families: &[bool], needs: &mut Needs) -> Vec<Remote> {
    let targets = rule.peers(direction).targets();
    if targets.contains(&Target::Any) {
        return match families {
            [ipv6] => vec![Remote::Family { ipv6: *ipv6 }],
            _ => vec![Remote::Any],
        };
    }
    let mut remotes = Vec::new();
    for &ipv6 in families {
        remotes.extend(listed(targets, ipv6, needs));
    }
    let owner = rule.owner.map(|owner| owner.to_string()).unwrap_or_default();
    for target in targets {
        let Some(name) = Name::of(target) else { continue };
        for &ipv6 in families {
            let set = names::peers(ipv6, &owner, &format!("{target:?}"));
            needs.peers.push(PeerSet { set: set.clone(), owner: rule.owner, name: name.clone(), ipv6 });
            remotes.push(Remote::In { set, ipv6 });
        }
    }
    remotes
}

/// Addresses and subnets that the rule lists, of one family.
fn listed(targets: &[Target], ipv6: bool, needs: &mut Needs) -> Option<Remote> {
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
    needs.fixed.push((set.clone(), (bytes, spans)));
    Some(Remote::In { set, ipv6 })
}
