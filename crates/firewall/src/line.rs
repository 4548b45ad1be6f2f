//! One line of an instance's chain: what of the packet it compares, and what it does (section 12.2).

use triton_fwrule::{Action, Direction, IcmpType};
use triton_nft::{Compare, Expression, Key, Lookup, Payload, Register, Rule, Verdict};

pub(crate) const IPV4: [u8; 2] = [0x08, 0x00];
pub(crate) const IPV6: [u8; 2] = [0x86, 0xdd];
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMP6: u8 = 58;
pub(crate) const ESP: u8 = 50;
pub(crate) const AH: u8 = 51;

/// What the address at the other end is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Remote {
    /// Any, of both families.
    Any,
    /// Any of this family.
    Family { ipv6: bool },
    /// Those of a set.
    In { set: String, ipv6: bool },
}

/// What of the transport header is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Nothing.
    All,
    /// The destination port, with one span of ports.
    Ports(u16, u16),
    /// The destination port, with a set.
    PortsIn(String),
    /// The type, and the code where there is one.
    Icmp(IcmpType),
}

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) protocol: u8,
    pub(crate) remote: Remote,
    pub(crate) transport: Transport,
    pub(crate) action: Action,
    /// The rule that it is of, as a comment.
    pub(crate) rule: String,
}

/// Packets of a family, whatever their tags.
pub(crate) fn family(rule: Rule, ipv6: bool) -> Rule {
    let kind = if ipv6 { IPV6 } else { IPV4 };
    rule.with(Expression::NetworkProtocol(Register::FIRST)).with(Expression::If(Register::FIRST, Compare::Equal, Key::raw(&kind)))
}

fn port(rule: Rule, compare: Compare, number: u16) -> Rule {
    rule.bytes(Payload::Transport(2, 2), compare, &number.to_be_bytes())
}

impl Line {
    /// As the kernel takes it.
    pub(crate) fn rule(&self, direction: Direction) -> Rule {
        let mut rule = Rule::new();
        match &self.remote {
            Remote::Any => {}
            Remote::Family { ipv6 } => rule = family(rule, *ipv6),
            Remote::In { set, ipv6 } => {
                let address = match (ipv6, direction) {
                    (false, Direction::In) => Payload::Network(12, 4),
                    (false, Direction::Out) => Payload::Network(16, 4),
                    (true, Direction::In) => Payload::Network(8, 16),
                    (true, Direction::Out) => Payload::Network(24, 16),
                };
                rule = family(rule, *ipv6).bytes_in(address, Lookup::In, set);
            }
        }
        rule = rule.protocol(self.protocol);
        rule = match &self.transport {
            Transport::All => rule,
            Transport::Ports(first, last) if first == last => port(rule, Compare::Equal, *first),
            Transport::Ports(first, last) => port(port(rule, Compare::NotLess, *first), Compare::NotGreater, *last),
            Transport::PortsIn(set) => rule.bytes_in(Payload::Transport(2, 2), Lookup::In, set),
            Transport::Icmp(IcmpType { number, code }) => {
                let rule = rule.bytes(Payload::Transport(0, 1), Compare::Equal, &[*number]);
                code.iter().fold(rule, |rule, code| rule.bytes(Payload::Transport(1, 1), Compare::Equal, &[*code]))
            }
        };
        // What is allowed here may still be dropped at its other end: never accepted.
        let verdict = match self.action {
            Action::Allow => Verdict::Return,
            Action::Block => Verdict::Drop,
        };
        rule.count().with(Expression::Do(verdict)).comment(&self.rule)
    }
}
