//! What a line of the language means: [`Spec`] and its parts, always in normal form (firewaller.md section 4.5).

use std::cmp::Ordering;

use triton_types::InstanceUuid;

use crate::{Address, Subnet};

/// What reading a text enforces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The newest version of the language that is accepted, 1 to 4 (section 4.3). Compute nodes accept all.
    pub max_version: u8,
    /// Whether a subnet with host bits is refused, as FWAPI does and compute nodes do not.
    pub subnet_mask: bool,
}

impl Limits {
    /// Targets on one side, counted as written.
    pub const TARGETS: usize = 24;

    /// Ports or ICMP types of one rule.
    pub fn entries(&self) -> usize {
        if self.max_version < 4 { 8 } else { 24 }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_version: 4, subnet_mask: false }
    }
}

/// A rule without its identity: one line of text. Equal when the normal forms are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Where packets come from. Instances named here have their outbound packets filtered.
    pub from: Side,
    /// Where packets go. Instances named here have their inbound packets filtered.
    pub to: Side,
    /// What happens to packets that match.
    pub action: Action,
    /// Which packets match.
    pub protocol: Protocol,
    /// 0 to 100; among the rules that match a packet only those of the highest priority count.
    pub priority: u8,
}

/// What happens to a packet that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped.
    Block,
}

/// One side of a rule: targets in normal order, each once. A packet matches when it matches any of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Side {
    targets: Vec<Target>,
}

/// One target of a side.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// `any`: every address of both families; no instance is named by it.
    Any,
    /// `all vms`: every instance of the rule's owner, or of everybody when it has none.
    AllVms,
    /// `ip A`.
    Ip(Address),
    /// `subnet A/P`.
    Subnet(Subnet),
    /// `tag "k"` or `tag "k" = "v"`.
    Tag {
        /// The tag's name.
        key: String,
        /// The value it must have, as text; any value when absent.
        value: Option<String>,
    },
    /// `vm U`.
    Vm(InstanceUuid),
}

impl Side {
    /// The side with these targets: sorted, each once, a bare tag in the place of those with its name and a value.
    pub fn new(mut targets: Vec<Target>) -> Self {
        let bare: std::collections::HashSet<String> = targets
            .iter()
            .filter_map(|target| match target {
                Target::Tag { key, value: None } => Some(key.clone()),
                _ => None,
            })
            .collect();
        targets.retain(|target| !matches!(target, Target::Tag { key, value: Some(_) } if bare.contains(key)));
        targets.sort_by(order);
        targets.dedup();
        Self { targets }
    }

    /// The targets in normal order.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Whether the side names instances, so that the rule can affect any.
    pub fn names_instances(&self) -> bool {
        self.targets.iter().any(|target| matches!(target, Target::AllVms | Target::Tag { .. } | Target::Vm(_)))
    }
}

/// Wildcards, addresses, subnets, tags, instances; within a kind by the text's UTF-16 units, as upstream sorts.
fn order(a: &Target, b: &Target) -> Ordering {
    let rank = |target: &Target| match target {
        Target::Any => 0,
        Target::AllVms => 1,
        Target::Ip(_) => 2,
        Target::Subnet(_) => 3,
        Target::Tag { .. } => 4,
        Target::Vm(_) => 5,
    };
    let text = |a: &str, b: &str| a.encode_utf16().cmp(b.encode_utf16());
    rank(a).cmp(&rank(b)).then_with(|| match (a, b) {
        (Target::Ip(a), Target::Ip(b)) => text(a.text(), b.text()),
        (Target::Subnet(a), Target::Subnet(b)) => text(a.text(), b.text()),
        (Target::Tag { key: a, value: x }, Target::Tag { key: b, value: y }) => text(a, b).then_with(|| match (x, y) {
            (Some(x), Some(y)) => text(x, y),
            (x, y) => x.is_some().cmp(&y.is_some()),
        }),
        (Target::Vm(a), Target::Vm(b)) => a.cmp(b),
        _ => Ordering::Equal,
    })
}

/// Which packets a rule matches beside their addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP by destination port.
    Tcp(Ports),
    /// UDP by destination port.
    Udp(Ports),
    /// ICMP over IPv4.
    Icmp(IcmpTypes),
    /// ICMP over IPv6.
    Icmp6(IcmpTypes),
    /// IP protocol 51.
    Ah,
    /// IP protocol 50.
    Esp,
}

/// Destination ports.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ports {
    /// Every port.
    All,
    /// These, sorted by their first port; duplicates are kept, and the order of equal ones.
    Of(Vec<PortEntry>),
}

impl Ports {
    /// These ports in normal order.
    pub fn of(mut entries: Vec<PortEntry>) -> Self {
        entries.sort_by_key(|entry| entry.first());
        Self::Of(entries)
    }

    /// Whether the port is among them.
    pub fn contains(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Of(entries) => entries.iter().any(|entry| (entry.first()..=entry.last()).contains(&port)),
        }
    }
}

/// One port, or a range of them as it was written: `80 - 80` stays a range in the normal form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortEntry {
    /// One port, 1 to 65535.
    One(u16),
    /// Both ends inclusive, the second not less than the first.
    Range(u16, u16),
}

impl PortEntry {
    /// The lowest port.
    pub fn first(&self) -> u16 {
        match self {
            Self::One(port) | Self::Range(port, _) => *port,
        }
    }

    /// The highest port.
    pub fn last(&self) -> u16 {
        match self {
            Self::One(port) | Self::Range(_, port) => *port,
        }
    }
}

/// ICMP types.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IcmpTypes {
    /// Every type.
    All,
    /// These, sorted by type and code, a type without code first; duplicates are kept.
    Of(Vec<IcmpType>),
}

impl IcmpTypes {
    /// These types in normal order.
    pub fn of(mut types: Vec<IcmpType>) -> Self {
        types.sort();
        Self::Of(types)
    }

    /// Whether a message of this type and code is among them.
    pub fn contains(&self, number: u8, code: u8) -> bool {
        match self {
            Self::All => true,
            Self::Of(types) => types.iter().any(|one| one.number == number && one.code.is_none_or(|wanted| wanted == code)),
        }
    }
}

/// An ICMP type and, where given, its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpType {
    /// The type.
    pub number: u8,
    /// The code; every code when absent.
    pub code: Option<u8>,
}
