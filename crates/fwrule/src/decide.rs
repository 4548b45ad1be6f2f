//! What a set of rules says about one new flow (firewaller.md section 5): the oracle.

use std::net::IpAddr;

use triton_types::InstanceUuid;

use crate::{Action, Protocol, RemoteVm, Rule, Target, VmFacts};

/// Which way a packet goes, seen from the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// To the instance.
    In,
    /// From the instance.
    Out,
}

/// What a packet is beside its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// TCP to this destination port.
    Tcp(u16),
    /// UDP to this destination port.
    Udp(u16),
    /// ICMP of this type and code.
    Icmp(u8, u8),
    /// ICMPv6 of this type and code.
    Icmp6(u8, u8),
    /// IP protocol 51.
    Ah,
    /// IP protocol 50.
    Esp,
    /// Another IP protocol, which no rule can name.
    Other(u8),
}

/// The first packet of a flow from or to an instance of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The instance whose policy is asked.
    pub vm: InstanceUuid,
    /// Which way it goes.
    pub direction: Direction,
    /// The address at the other end.
    pub remote: IpAddr,
    /// What it is.
    pub flow: Flow,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, and so do the answers.
    Allow,
    /// It is dropped.
    Block,
}

/// Every instance that rules can be about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vms<'a> {
    /// Those of this node.
    pub local: &'a [VmFacts],
    /// Known ones of other nodes.
    pub remote: &'a [RemoteVm],
}

/// Decides about one packet by the policy of its instance alone: between two instances of a node both are to be asked.
///
/// An instance that is not known, or whose firewall is off, is not filtered. Neighbour discovery and answers of DHCP, which a
/// node lets pass whatever the rules say, are not this function's business.
pub fn decide(rules: &[Rule], vms: &Vms<'_>, packet: &Packet) -> Verdict {
    let Some(vm) = vms.local.iter().find(|vm| vm.uuid == packet.vm && vm.firewall_enabled) else { return Verdict::Allow };
    let matching: Vec<&Rule> = rules.iter().filter(|rule| rule.enabled && matches(rule, vms, vm, packet)).collect();
    let Some(highest) = matching.iter().map(|rule| rule.spec.priority).max() else {
        return match packet.direction {
            Direction::In => Verdict::Block,
            Direction::Out => Verdict::Allow,
        };
    };
    let says = |action| matching.iter().any(|rule| rule.spec.priority == highest && rule.spec.action == action);
    let allowed = match packet.direction {
        Direction::In => says(Action::Allow),
        Direction::Out => !says(Action::Block),
    };
    if allowed { Verdict::Allow } else { Verdict::Block }
}

fn matches(rule: &Rule, vms: &Vms<'_>, vm: &VmFacts, packet: &Packet) -> bool {
    rule.concerns(packet.direction, vm.uuid, vm.owner, &vm.tags)
        && speaks_of(&rule.spec.protocol, packet)
        && (literally(rule, packet) || as_peer(rule, vms, packet))
}

/// Whether the rule's protocol part matches. ICMP is of one family whatever the rule's addresses are.
fn speaks_of(protocol: &Protocol, packet: &Packet) -> bool {
    match (protocol, packet.flow) {
        (Protocol::Tcp(ports), Flow::Tcp(port)) | (Protocol::Udp(ports), Flow::Udp(port)) => ports.contains(port),
        (Protocol::Icmp(types), Flow::Icmp(number, code)) => packet.remote.is_ipv4() && types.contains(number, code),
        (Protocol::Icmp6(types), Flow::Icmp6(number, code)) => packet.remote.is_ipv6() && types.contains(number, code),
        (Protocol::Ah, Flow::Ah) | (Protocol::Esp, Flow::Esp) => true,
        _ => false,
    }
}

/// Whether the remote address is written in the rule.
fn literally(rule: &Rule, packet: &Packet) -> bool {
    rule.peers(packet.direction).targets().iter().any(|target| match target {
        Target::Any => true,
        Target::Ip(address) => address.ip() == packet.remote,
        Target::Subnet(subnet) => subnet.net().contains(&packet.remote),
        Target::AllVms | Target::Tag { .. } | Target::Vm(_) => false,
    })
}

/// Whether the remote address is one of an instance that the rule names, running or not, filtered or not.
fn as_peer(rule: &Rule, vms: &Vms<'_>, packet: &Packet) -> bool {
    let local = vms.local.iter().map(|vm| (vm.uuid, vm.owner, &vm.tags, &vm.ips));
    let remote = vms.remote.iter().map(|vm| (vm.uuid, vm.owner, &vm.tags, &vm.ips));
    local.chain(remote).any(|(uuid, owner, tags, ips)| ips.contains(&packet.remote) && rule.admits(packet.direction, uuid, owner, tags))
}
