//! A rule: expressions one after the other. Methods say what packets go on; a verdict ends it.

use crate::{Compare, Expression, Key, Lookup, Payload, Register, Verdict};

/// A rule under construction. Every condition ends it for packets that do not fulfil it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub(crate) expressions: Vec<Expression>,
    pub(crate) comment: Option<String>,
}

impl Rule {
    /// One for all packets.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an expression.
    #[must_use]
    pub fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    /// With a word about it, for who lists the rules; cut to 120 bytes.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        let end = (0..=text.len().min(120)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        self.comment = Some(text[..end].to_owned());
        self
    }

    /// Those whose connection is in one of these states.
    #[must_use]
    pub fn tracked(self, states: crate::Tracked) -> Self {
        self.with(Expression::Tracked(Register::FIRST)).with(Expression::Mask(Register::FIRST, states.key())).with(Expression::If(
            Register::FIRST,
            Compare::NotEqual,
            Key::raw(&[0; 4]),
        ))
    }

    /// Those in which these bytes are, or are not, in a set.
    #[must_use]
    pub fn bytes_in(self, payload: Payload, lookup: Lookup, set: &str) -> Self {
        self.with(Expression::Load(payload, Register::FIRST)).with(Expression::Set(Register::FIRST, lookup, set.to_owned()))
    }

    /// Those that came in by an interface whose name begins so.
    #[must_use]
    pub fn input_begins(self, prefix: &str) -> Self {
        // Only the first bytes of the register are compared.
        self.with(Expression::InputName(Register::FIRST)).with(Expression::If(Register::FIRST, Compare::Equal, Key::raw(prefix.as_bytes())))
    }

    /// Those that go out by an interface whose name begins so.
    #[must_use]
    pub fn output_begins(self, prefix: &str) -> Self {
        self.with(Expression::OutputName(Register::FIRST)).with(Expression::If(
            Register::FIRST,
            Compare::Equal,
            Key::raw(prefix.as_bytes()),
        ))
    }

    /// Those in which these bytes compare so with `value`.
    #[must_use]
    pub fn bytes(self, payload: Payload, compare: Compare, value: &[u8]) -> Self {
        self.with(Expression::Load(payload, Register::FIRST)).with(Expression::If(Register::FIRST, compare, Key::raw(value)))
    }

    /// Those in which these bytes are `value` where `mask` has ones.
    #[must_use]
    pub fn masked(self, payload: Payload, mask: &[u8], compare: Compare, value: &[u8]) -> Self {
        self.with(Expression::Load(payload, Register::FIRST)).with(Expression::Mask(Register::FIRST, Key::raw(mask))).with(Expression::If(
            Register::FIRST,
            compare,
            Key::raw(value),
        ))
    }

    /// Those of this transport protocol.
    #[must_use]
    pub fn protocol(self, number: u8) -> Self {
        self.with(Expression::TransportProtocol(Register::FIRST)).with(Expression::If(Register::FIRST, Compare::Equal, Key::raw(&[number])))
    }

    /// Those whose input interface is, or is not, in a set.
    #[must_use]
    pub fn input(self, lookup: Lookup, set: &str) -> Self {
        self.with(Expression::InputName(Register::FIRST)).with(Expression::Set(Register::FIRST, lookup, set.to_owned()))
    }

    /// Those whose output interface is, or is not, in a set.
    #[must_use]
    pub fn output(self, lookup: Lookup, set: &str) -> Self {
        self.with(Expression::OutputName(Register::FIRST)).with(Expression::Set(Register::FIRST, lookup, set.to_owned()))
    }

    /// Those that have these bytes, whatever they are.
    #[must_use]
    pub fn has(self, payload: Payload) -> Self {
        self.with(Expression::Load(payload, Register::FIRST))
    }

    /// Those whose transport protocol can be found.
    #[must_use]
    pub fn knows_protocol(self) -> Self {
        self.with(Expression::TransportProtocol(Register::FIRST))
    }

    /// Sends a copy of their first bytes to a netlink group.
    #[must_use]
    pub fn log(self, group: u16, bytes: u32) -> Self {
        self.with(Expression::Log(group, bytes))
    }

    /// Those whose input interface together with these bytes is, or is not, in a set.
    #[must_use]
    pub fn input_with(self, payload: Payload, lookup: Lookup, set: &str) -> Self {
        self.with(Expression::InputName(Register::FIRST))
            .with(Expression::Load(payload, Register::FIRST.after(crate::NAME)))
            .with(Expression::Set(Register::FIRST, lookup, set.to_owned()))
    }

    /// Counts those that came so far.
    #[must_use]
    pub fn count(self) -> Self {
        self.with(Expression::Count)
    }

    /// Accepts them.
    #[must_use]
    pub fn accept(self) -> Self {
        self.with(Expression::Do(Verdict::Accept))
    }

    /// Drops them.
    #[must_use]
    pub fn drop(self) -> Self {
        self.with(Expression::Do(Verdict::Drop))
    }

    /// Ends the chain for them.
    #[must_use]
    pub fn back(self) -> Self {
        self.with(Expression::Do(Verdict::Return))
    }

    /// Sends them through another chain, and on here if it says nothing.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.with(Expression::Do(Verdict::Jump(chain.to_owned())))
    }

    /// Sends them to another chain.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.with(Expression::Do(Verdict::Goto(chain.to_owned())))
    }
}
