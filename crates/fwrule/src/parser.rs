//! From tokens to a [`Spec`] (firewaller.md sections 4.2 to 4.4).
//!
//! Messages are upstream's, `expected:` lists included. Upstream's parser is generated and looks one token ahead: after a word
//! it first asks whether the next token may follow anywhere in the language (the `AFTER_...` lists), then judges the word,
//! and only then asks whether that token may stand here. Which of several faults is named follows from that order.

use triton_types::InstanceUuid;

use crate::{
    Action, Address, IcmpTypes, Limits, Ports, Protocol, Side, Spec, Subnet, Target,
    error::{RuleError, quoted},
    lexer::{Kind, Lexer, Token},
    numbers,
};

const AFTER_TARGET: &str = "'TO', ')', 'OR', 'BLOCK', 'ALLOW'";
const AFTER_NAME: &str = "'TO', ')', 'OR', '=', 'BLOCK', 'ALLOW'";
const AFTER_ENTRY: &str = "'EOF', 'PRIORITY', ')', 'AND'";
const AFTER_TYPE: &str = "'EOF', 'PRIORITY', ')', 'AND', 'CODE'";
const AFTER_ALL: &str = "'EOF', 'PRIORITY', ')'";
const AFTER_PORTS_WORD: &str = "'EOF', 'PRIORITY', '-', ','";
const AFTER_PORTS_RANGE: &str = "'EOF', 'PRIORITY', ','";
const AFTER_PROTOCOL: &str = "'EOF', 'PRIORITY'";

impl Spec {
    /// Reads one rule.
    ///
    /// # Errors
    ///
    /// Upstream's message for the first thing wrong with it; its field is always `rule`.
    pub fn parse(text: &str, limits: &Limits) -> Result<Self, RuleError> {
        if text.is_empty() {
            return Err(RuleError::text("No rule specified"));
        }
        let mut lexer = Lexer::new(text);
        let ahead = lexer.next()?;
        let mut parser = Parser { lexer, ahead, limits };
        let parsed = parser.rule()?;
        parsed.check(limits)
    }
}

/// A rule as written, before what can only be judged on the whole of it.
struct Parsed {
    from: Vec<Target>,
    to: Vec<Target>,
    action: Action,
    protocol: Protocol,
    priority: u8,
}

impl Parsed {
    fn check(self, limits: &Limits) -> Result<Spec, RuleError> {
        let most = limits.entries();
        match &self.protocol {
            Protocol::Tcp(Ports::Of(list)) | Protocol::Udp(Ports::Of(list)) if list.len() > most => {
                return Err(RuleError::text(format!("maximum of {most} ports allowed")));
            }
            Protocol::Icmp(IcmpTypes::Of(list)) | Protocol::Icmp6(IcmpTypes::Of(list)) if list.len() > most => {
                return Err(RuleError::text(format!("maximum of {most} types allowed")));
            }
            _ => {}
        }
        if self.from.len().max(self.to.len()) > Limits::TARGETS {
            return Err(RuleError::text(format!("maximum of {} targets allowed per side", Limits::TARGETS)));
        }
        let spec = Spec {
            from: Side::new(self.from),
            to: Side::new(self.to),
            action: self.action,
            protocol: self.protocol,
            priority: self.priority,
        };
        spec.check_family()?;
        if !spec.from.names_instances() && !spec.to.names_instances() {
            return Err(RuleError::text("rule does not affect VMs"));
        }
        Ok(spec)
    }
}

impl Spec {
    /// ICMP is of one family; so are the addresses of such a rule.
    fn check_family(&self) -> Result<(), RuleError> {
        let (version, is_v4) = match self.protocol {
            Protocol::Icmp(_) => (4, true),
            Protocol::Icmp6(_) => (6, false),
            _ => return Ok(()),
        };
        let foreign = |what: &str| RuleError::text(format!("rule affects ICMPv{version} but contains a non-IPv{version} {what}"));
        let targets = || self.from.targets().iter().chain(self.to.targets());
        if targets().any(|target| matches!(target, Target::Ip(address) if address.ip().is_ipv4() != is_v4)) {
            return Err(foreign("address"));
        }
        if targets().any(|target| matches!(target, Target::Subnet(subnet) if !subnet.is_of(is_v4))) {
            return Err(foreign("subnet"));
        }
        Ok(())
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    ahead: Token<'a>,
    limits: &'a Limits,
}

type Parse<T> = Result<T, RuleError>;

const fn key(name: &'static str) -> Kind {
    Kind::Keyword(name)
}

impl<'a> Parser<'a> {
    fn take(&mut self) -> Parse<Token<'a>> {
        let next = self.lexer.next()?;
        Ok(std::mem::replace(&mut self.ahead, next))
    }

    fn at(&self, kind: Kind) -> bool {
        self.ahead.kind == kind
    }

    /// The token ahead is one of `kinds`, or `expected` is what should have stood there.
    fn require(&self, kinds: &[Kind], expected: &str) -> Parse<()> {
        if kinds.contains(&self.ahead.kind) { Ok(()) } else { Err(self.ahead.unexpected(expected)) }
    }

    fn expect(&mut self, kinds: &[Kind], expected: &str) -> Parse<Token<'a>> {
        self.require(kinds, expected)?;
        self.take()
    }

    fn word(&mut self) -> Parse<&'a str> {
        Ok(self.expect(&[Kind::Word], "'WORD'")?.text)
    }

    fn feature(&self, since: u8, name: &str) -> Parse<()> {
        if self.limits.max_version >= since {
            return Ok(());
        }
        Err(RuleError::text(format!("The rule uses a feature ({name}) newer than this API allows")))
    }

    fn rule(&mut self) -> Parse<Parsed> {
        const AFTER_SIDE: [Kind; 3] = [key("TO"), key("BLOCK"), key("ALLOW")];
        self.expect(&[key("FROM")], "'FROM'")?;
        let from = self.side()?;
        self.require(&AFTER_SIDE, "'TO', 'BLOCK', 'ALLOW'")?;
        self.expect(&[key("TO")], "'TO'")?;
        let to = self.side()?;
        self.require(&AFTER_SIDE, "'TO', 'BLOCK', 'ALLOW'")?;
        let action = self.expect(&[key("BLOCK"), key("ALLOW")], "'BLOCK', 'ALLOW'")?.kind;
        let action = if action == key("ALLOW") { Action::Allow } else { Action::Block };
        let protocol = self.protocol()?;
        let priority = self.priority()?;
        Ok(Parsed { from, to, action, protocol, priority })
    }

    fn priority(&mut self) -> Parse<u8> {
        if !self.at(key("PRIORITY")) {
            return Ok(0);
        }
        self.take()?;
        self.require(&[Kind::Word], "'WORD'")?;
        // Upstream judges this word without looking further.
        let priority = numbers::priority(self.ahead.text)?;
        self.take()?;
        self.require(&[Kind::End], "'EOF'")?;
        self.feature(4, "priority levels")?;
        Ok(priority)
    }

    fn side(&mut self) -> Parse<Vec<Target>> {
        let open = self.at(Kind::Mark('('));
        if open {
            self.take()?;
        }
        let wildcard = match self.ahead.kind {
            Kind::Keyword("ANY") => Some(Target::Any),
            Kind::Keyword("ALL") => Some(Target::AllVms),
            _ => None,
        };
        let Some(wildcard) = wildcard else {
            let first = if open { "'all', 'any', 'ip', 'subnet', 'vm', 'tag'" } else { "'(', 'all', 'any', 'ip', 'subnet', 'vm', 'tag'" };
            return self.targets(open, first);
        };
        self.take()?;
        if wildcard == Target::AllVms {
            self.expect(&[key("VMS")], "'VMS'")?;
        }
        if open {
            self.expect(&[Kind::Mark(')')], "')'")?;
        }
        Ok(vec![wildcard])
    }

    fn targets(&mut self, open: bool, first: &str) -> Parse<Vec<Target>> {
        let mut targets = vec![self.target(first)?];
        while open && self.expect(&[Kind::Mark(')'), key("OR")], "')', 'OR'")?.kind != Kind::Mark(')') {
            targets.push(self.target("'ip', 'subnet', 'vm', 'tag'")?);
        }
        Ok(targets)
    }

    fn target(&mut self, expected: &str) -> Parse<Target> {
        const FOLLOW: [Kind; 6] = [key("TO"), Kind::Mark(')'), key("OR"), key("BLOCK"), key("ALLOW"), Kind::Mark('=')];
        let follow = &FOLLOW[..5];
        match self.expect(&[key("IP"), key("SUBNET"), key("VM"), key("TAG")], expected)?.kind {
            Kind::Keyword("IP") => {
                let address = self.expect(&[Kind::V4, Kind::V6], "'IPV4ADDR', 'IPV6ADDR'")?;
                self.require(follow, AFTER_TARGET)?;
                self.family(&address)?;
                Address::parse(address.text).map(Target::Ip)
            }
            Kind::Keyword("SUBNET") => {
                let address = self.expect(&[Kind::V4, Kind::V6], "'IPV4ADDR', 'IPV6ADDR'")?;
                let suffix = self.expect(&[Kind::Suffix], "'CIDRSUFFIX'")?;
                self.require(follow, AFTER_TARGET)?;
                self.family(&address)?;
                Subnet::parse(address.text, suffix.text, self.limits.subnet_mask).map(Target::Subnet)
            }
            Kind::Keyword("VM") => {
                let uuid = self.word()?;
                self.require(follow, AFTER_TARGET)?;
                let uuid: Result<InstanceUuid, _> =
                    uuid.parse().map_err(|_| RuleError::text(format!("UUID \"{}\" is invalid", quoted(uuid))));
                uuid.map(Target::Vm)
            }
            _ => {
                let key = self.name()?;
                self.require(&FOLLOW, AFTER_NAME)?;
                if !self.at(Kind::Mark('=')) {
                    return Ok(Target::Tag { key, value: None });
                }
                self.take()?;
                let value = Some(self.name()?);
                self.require(&FOLLOW, AFTER_NAME)?;
                self.require(follow, AFTER_TARGET)?;
                Ok(Target::Tag { key, value })
            }
        }
    }

    fn family(&self, address: &Token<'_>) -> Parse<()> {
        if address.kind == Kind::V6 { self.feature(3, "IPv6") } else { Ok(()) }
    }

    fn name(&mut self) -> Parse<String> {
        let token = self.expect(&[Kind::Word, Kind::Text], "'WORD', 'STRING'")?;
        if token.kind == Kind::Word { Ok(token.text.to_owned()) } else { unquote(token.text) }
    }

    fn protocol(&mut self) -> Parse<Protocol> {
        let kinds = [key("TCP"), key("UDP"), key("ICMP"), key("ICMP6"), key("AH"), key("ESP")];
        let kind = self.expect(&kinds, "'TCP', 'UDP', 'ICMP', 'ICMP6', 'AH', 'ESP'")?.kind;
        let protocol = match kind {
            Kind::Keyword("TCP") => Protocol::Tcp(self.ports()?),
            Kind::Keyword("UDP") => Protocol::Udp(self.ports()?),
            Kind::Keyword("ICMP") => Protocol::Icmp(self.types()?),
            Kind::Keyword("ICMP6") => Protocol::Icmp6(self.types()?),
            Kind::Keyword("AH") => Protocol::Ah,
            _ => Protocol::Esp,
        };
        self.require(&[Kind::End, key("PRIORITY")], AFTER_PROTOCOL)?;
        match protocol {
            Protocol::Icmp6(_) => self.feature(3, "IPv6")?,
            Protocol::Ah => self.feature(4, "AH")?,
            Protocol::Esp => self.feature(4, "ESP")?,
            _ => {}
        }
        Ok(protocol)
    }

    fn ports(&mut self) -> Parse<Ports> {
        self.require(&[Kind::Mark('('), key("PORT"), key("PORTS")], "'(', 'PORT', 'PORTS'")?;
        if self.at(key("PORTS")) {
            self.take()?;
            return self.port_list();
        }
        let entries = self.entries("PORT", "'PORT'", |parser, word| {
            parser.require(&[Kind::End, key("PRIORITY"), Kind::Mark(')'), key("AND")], AFTER_ENTRY)?;
            numbers::one_port(word)
        })?;
        Ok(entries.map_or(Ports::All, Ports::of))
    }

    /// What stands after `PORTS`.
    fn port_list(&mut self) -> Parse<Ports> {
        let mut entries = Vec::new();
        loop {
            let start = self.word()?;
            self.require(&[Kind::End, key("PRIORITY"), Kind::Mark('-'), Kind::Mark(',')], AFTER_PORTS_WORD)?;
            entries.push(if self.at(Kind::Mark('-')) {
                self.take()?;
                let end = self.word()?;
                self.require(&[Kind::End, key("PRIORITY"), Kind::Mark(',')], AFTER_PORTS_RANGE)?;
                numbers::range(start, end)?
            } else {
                numbers::port_or_range(start)?
            });
            if !self.at(Kind::Mark(',')) {
                break;
            }
            self.take()?;
        }
        self.feature(2, "port ranges")?;
        Ok(Ports::of(entries))
    }

    fn types(&mut self) -> Parse<IcmpTypes> {
        const FOLLOW: [Kind; 5] = [Kind::End, key("PRIORITY"), Kind::Mark(')'), key("AND"), key("CODE")];
        self.require(&[Kind::Mark('('), key("TYPE")], "'(', 'TYPE'")?;
        let entries = self.entries("TYPE", "'TYPE'", |parser, word| {
            parser.require(&FOLLOW, AFTER_TYPE)?;
            let mut entry = numbers::icmp_type(word)?;
            if parser.at(key("CODE")) {
                parser.take()?;
                let code = parser.word()?;
                parser.require(&FOLLOW[..4], AFTER_ENTRY)?;
                entry.code = Some(numbers::icmp_code(code)?);
            }
            Ok(entry)
        })?;
        if entries.is_none() {
            self.feature(3, "all ICMP types")?;
        }
        Ok(entries.map_or(IcmpTypes::All, IcmpTypes::of))
    }

    /// `K all`, `(K all)`, `K x` or `(K x AND K y ...)`; nothing for `all`.
    fn entries<T>(
        &mut self,
        name: &'static str,
        named: &str,
        mut read: impl FnMut(&mut Self, &'a str) -> Parse<T>,
    ) -> Parse<Option<Vec<T>>> {
        let open = self.at(Kind::Mark('('));
        if open {
            self.take()?;
        }
        self.expect(&[key(name)], named)?;
        let first = self.expect(&[Kind::Word, key("ALL")], "'WORD', 'all'")?;
        if first.kind != Kind::Word {
            self.require(&[Kind::End, key("PRIORITY"), Kind::Mark(')')], AFTER_ALL)?;
            if open {
                self.expect(&[Kind::Mark(')')], "')'")?;
            }
            return Ok(None);
        }
        let mut entries = vec![read(self, first.text)?];
        while open && self.expect(&[Kind::Mark(')'), key("AND")], "')', 'AND'")?.kind != Kind::Mark(')') {
            self.expect(&[key(name)], named)?;
            let word = self.word()?;
            entries.push(read(self, word)?);
        }
        Ok(Some(entries))
    }
}

/// The text between the quotes, escapes resolved. The lexer has accepted every escape in it.
fn unquote(token: &str) -> Parse<String> {
    let inner = token.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(token);
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut characters = inner.chars();
    let mut buffer = [0; 2];
    while let Some(character) = characters.next() {
        let resolved = if character == '\\' { characters.next() } else { None };
        let literal = match resolved {
            None => character,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                units.push(u16::from_str_radix(&digits, 16).unwrap_or(0xfffd));
                continue;
            }
            Some(same) => same,
        };
        units.extend_from_slice(literal.encode_utf16(&mut buffer));
    }
    String::from_utf16(&units).map_err(|_| RuleError::text(format!("{} has half of a surrogate pair", quoted(token))))
}
