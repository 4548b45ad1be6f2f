//! Expressions, of which rules are made. Each works on registers and may end the rule.

use crate::{attributes::Writer, batch::ListItem, element::Key};

/// A place for a value. Values that form one key follow each other, each from a register of its own.
///
/// There are sixteen registers of four bytes; a value of n bytes takes n/4 of them, rounded up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u8);

impl Register {
    /// The first one.
    pub const FIRST: Self = Self(0);

    /// The one behind a value of `bytes` bytes in this one.
    pub const fn after(self, bytes: usize) -> Self {
        Self(self.0 + bytes.div_ceil(4) as u8)
    }

    /// As `enum nft_registers` numbers registers of four bytes.
    fn number(self) -> u32 {
        8 + u32::from(self.0)
    }
}

/// Where a value is in the packet: its offset and length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// From the link header. A tag that the card took off counts as if it was there.
    Link(u32, u32),
    /// From the network header.
    Network(u32, u32),
    /// From the transport header; the rule ends in fragments that have none.
    Transport(u32, u32),
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less, in network order.
    Less,
    /// Not greater, in network order.
    NotGreater,
    /// Greater, in network order.
    Greater,
    /// Not less, in network order.
    NotLess,
}

/// What is done with the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It is dropped.
    Drop,
    /// The next rule of the calling chain is next.
    Return,
    /// The rules of this chain are next, then the next rule.
    Jump(String),
    /// The rules of this chain are next, then the next rule of the calling chain.
    Goto(String),
}

/// How a set is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// The rule goes on if the key is in the set.
    In,
    /// The rule goes on if the key is not in the set.
    NotIn,
    /// The key's verdict is carried out; the rule ends without one.
    Verdict,
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Name of the interface that the packet came in by, 16 bytes.
    InputName(Register),
    /// Name of the interface that it goes out by, 16 bytes.
    OutputName(Register),
    /// Number of the network protocol below all tags, 2 bytes.
    NetworkProtocol(Register),
    /// Number of the transport protocol, 1 byte; the rule ends where it cannot be found.
    TransportProtocol(Register),
    /// The packet's mark, 4 bytes in the machine's order.
    Mark(Register),
    /// Name of the bridge that it came in by, 16 bytes. Not on every kernel.
    BridgeName(Register),
    /// VLAN of untagged frames at the port that it came in by, 2 bytes in the machine's order. Not on every kernel.
    PortVlan(Register),
    /// What connection tracking knows of it, 4 bytes in the machine's order: see [`Tracked`].
    Tracked(Register),
    /// Sets the packet's mark, 4 bytes in the machine's order.
    SetMark(Register),
    /// Sets the zone of connection tracking, 2 bytes in the machine's order. Only before tracking.
    Zone(Register),
    /// The key's value in a map; the rule ends without one.
    Value(Register, String, Register),
    /// Bytes of the packet.
    Load(Payload, Register),
    /// `register & mask ^ bits`; the rule goes on with it in the same register.
    Blend(Register, Key, Key),
    /// `register & mask`; the rule goes on with it in the same register.
    Mask(Register, Key),
    /// The rule goes on if the value compares so.
    If(Register, Compare, Key),
    /// Asks a set.
    Set(Register, Lookup, String),
    /// Counts.
    Count,
    /// Sends a copy to a netlink group, cut to so many bytes.
    Log(u16, u32),
    /// Goes on at most so many times a second.
    AtMost(u32),
    /// Does something with the packet.
    Do(Verdict),
}

/// States of a packet's connection, as bits of [`Expression::Tracked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked(u32);

impl Tracked {
    /// Of a connection that both ends have spoken in.
    pub const ESTABLISHED: Self = Self(1 << 1);
    /// That a connection brought about: an error message, a second connection.
    pub const RELATED: Self = Self(1 << 2);

    /// Either of both.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As a register has it.
    pub fn key(self) -> Key {
        Key::raw(&self.0.to_ne_bytes())
    }
}

mod ct {
    pub(super) const DREG: u16 = 1;
    pub(super) const KEY: u16 = 2;
    pub(super) const SREG: u16 = 4;
    pub(super) const STATE: u32 = 0;
    pub(super) const ZONE: u32 = 17;
}

mod meta {
    pub(super) const DREG: u16 = 1;
    pub(super) const KEY: u16 = 2;
    pub(super) const SREG: u16 = 3;
    pub(super) const PROTOCOL: u32 = 1;
    pub(super) const MARK: u32 = 3;
    pub(super) const IIFNAME: u32 = 6;
    pub(super) const OIFNAME: u32 = 7;
    pub(super) const L4PROTO: u32 = 16;
    pub(super) const BRIDGE_NAME: u32 = 17;
    pub(super) const PORT_VLAN: u32 = 28;
}

impl Verdict {
    pub(crate) fn write(&self, w: &mut Writer) {
        const VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        let (code, chain): (i32, Option<&str>) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        w.nested(VERDICT, |w| {
            w.bytes(CODE, &code.to_be_bytes());
            if let Some(chain) = chain {
                w.text(CHAIN, chain);
            }
        });
    }
}

fn bitwise(w: &mut Writer, register: &Register, mask: &Key, bits: &Key) {
    w.number(1, register.number());
    w.number(2, register.number());
    w.number(3, u32::try_from(mask.bytes().len()).unwrap_or(u32::MAX));
    value(w, 4, mask);
    value(w, 5, bits);
}

fn value(w: &mut Writer, kind: u16, key: &Key) {
    w.nested(kind, |w| w.bytes(1, key.bytes()));
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::InputName(_)
            | Self::OutputName(_)
            | Self::NetworkProtocol(_)
            | Self::SetMark(_)
            | Self::TransportProtocol(_)
            | Self::Mark(_)
            | Self::BridgeName(_)
            | Self::PortVlan(_) => "meta",
            Self::Tracked(_) | Self::Zone(_) => "ct",
            Self::Load(..) => "payload",
            Self::Mask(..) | Self::Blend(..) => "bitwise",
            Self::If(..) => "cmp",
            Self::Set(..) | Self::Value(..) => "lookup",
            Self::Count => "counter",
            Self::Log(..) => "log",
            Self::AtMost(_) => "limit",
            Self::Do(_) => "immediate",
        }
    }

    /// Writes it as an item of a list of expressions.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.item(|w| self.write_content(w));
    }

    /// Writes name and data, for elements of sets that have an expression.
    pub(crate) fn write_content(&self, w: &mut Writer) {
        const NAME: u16 = 1;
        const DATA: u16 = 2;
        w.text(NAME, self.name());
        w.nested(DATA, |w| self.data(w));
    }

    fn data(&self, w: &mut Writer) {
        let load = |w: &mut Writer, key: u32, register: &Register| {
            w.number(meta::DREG, register.number());
            w.number(meta::KEY, key);
        };
        match self {
            Self::InputName(register) => load(w, meta::IIFNAME, register),
            Self::OutputName(register) => load(w, meta::OIFNAME, register),
            Self::TransportProtocol(register) => load(w, meta::L4PROTO, register),
            Self::NetworkProtocol(register) => load(w, meta::PROTOCOL, register),
            Self::Mark(register) => load(w, meta::MARK, register),
            Self::SetMark(register) => {
                w.number(meta::KEY, meta::MARK);
                w.number(meta::SREG, register.number());
            }
            Self::BridgeName(register) => load(w, meta::BRIDGE_NAME, register),
            Self::PortVlan(register) => load(w, meta::PORT_VLAN, register),
            Self::Load(payload, register) => {
                let (base, offset, length) = match *payload {
                    Payload::Link(offset, length) => (0, offset, length),
                    Payload::Network(offset, length) => (1, offset, length),
                    Payload::Transport(offset, length) => (2, offset, length),
                };
                w.number(1, register.number());
                w.number(2, base);
                w.number(3, offset);
                w.number(4, length);
            }
            Self::Mask(register, mask) => bitwise(w, register, mask, &Key::raw(&vec![0; mask.bytes().len()])),
            Self::Blend(register, mask, bits) => bitwise(w, register, mask, bits),
            Self::If(register, compare, key) => {
                let compare = match compare {
                    Compare::Equal => 0,
                    Compare::NotEqual => 1,
                    Compare::Less => 2,
                    Compare::NotGreater => 3,
                    Compare::Greater => 4,
                    Compare::NotLess => 5,
                };
                w.number(1, register.number());
                w.number(2, compare);
                value(w, 3, key);
            }
            Self::Set(register, lookup, set) => {
                w.text(1, set);
                w.number(2, register.number());
                match lookup {
                    Lookup::In => {}
                    Lookup::NotIn => w.number(5, 1),
                    // The verdict's register.
                    Lookup::Verdict => w.number(3, 0),
                }
            }
            Self::Value(register, set, to) => {
                w.text(1, set);
                w.number(2, register.number());
                w.number(3, to.number());
            }
            Self::Tracked(register) => {
                w.number(ct::DREG, register.number());
                w.number(ct::KEY, ct::STATE);
            }
            Self::Zone(register) => {
                w.number(ct::KEY, ct::ZONE);
                w.number(ct::SREG, register.number());
            }
            Self::Count => {
                w.large(1, 0);
                w.large(2, 0);
            }
            Self::Log(group, length) => {
                w.bytes(1, &group.to_be_bytes());
                w.number(3, *length);
            }
            Self::AtMost(rate) => {
                w.large(1, u64::from(*rate));
                w.large(2, 1);
                w.number(3, *rate);
                w.number(4, 0);
                w.number(5, 0);
            }
            Self::Do(verdict) => {
                w.number(1, 0);
                w.nested(2, |w| verdict.write(w));
            }
        }
    }
}
