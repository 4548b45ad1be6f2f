//! The normal form of a rule (firewaller.md section 4.5): what FWAPI stores and sends, and what operators see.

use std::fmt::{self, Formatter, Write};

use crate::{Action, IcmpType, IcmpTypes, PortEntry, Ports, Protocol, Side, Spec, Target};

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "FROM {} TO {} {} {}", self.from, self.to, self.action, self.protocol)?;
        match self.priority {
            0 => Ok(()),
            priority => write!(f, " PRIORITY {priority}"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "ALLOW",
            Self::Block => "BLOCK",
        })
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        list(f, self.targets(), " OR ")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::AllVms => f.write_str("all vms"),
            Self::Ip(address) => write!(f, "ip {}", address.text()),
            Self::Subnet(subnet) => write!(f, "subnet {}", subnet.text()),
            Self::Vm(uuid) => write!(f, "vm {uuid}"),
            Self::Tag { key, value } => {
                f.write_str("tag ")?;
                quote(f, key)?;
                match value {
                    Some(value) => {
                        f.write_str(" = ")?;
                        quote(f, value)
                    }
                    None => Ok(()),
                }
            }
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(ports) => write!(f, "tcp {ports}"),
            Self::Udp(ports) => write!(f, "udp {ports}"),
            Self::Icmp(types) => write!(f, "icmp {types}"),
            Self::Icmp6(types) => write!(f, "icmp6 {types}"),
            Self::Ah => f.write_str("ah"),
            Self::Esp => f.write_str("esp"),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self::Of(entries) = self else { return f.write_str("PORT all") };
        if !entries.iter().any(|entry| matches!(entry, PortEntry::Range(..))) {
            let single: Vec<_> = entries.iter().map(|entry| format!("PORT {}", entry.first())).collect();
            return list(f, &single, " AND ");
        }
        for (index, entry) in entries.iter().enumerate() {
            f.write_str(if index == 0 { "PORTS " } else { ", " })?;
            match entry {
                PortEntry::One(port) => write!(f, "{port}")?,
                PortEntry::Range(first, last) => write!(f, "{first} - {last}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for IcmpTypes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("TYPE all"),
            Self::Of(types) => list(f, types, " AND "),
        }
    }
}

impl fmt::Display for IcmpType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "TYPE {}", self.number)?;
        match self.code {
            Some(code) => write!(f, " CODE {code}"),
            None => Ok(()),
        }
    }
}

/// One item bare, several in parentheses.
fn list<T: fmt::Display>(f: &mut Formatter<'_>, items: &[T], joiner: &str) -> fmt::Result {
    if let [one] = items {
        return one.fmt(f);
    }
    for (index, item) in items.iter().enumerate() {
        f.write_str(if index == 0 { "(" } else { joiner })?;
        item.fmt(f)?;
    }
    f.write_str(")")
}

/// A tag's name or value in quotes, escaped so that it can be read on a terminal and parsed again.
fn quote(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' | '(' | ')' | '\\' => write!(f, "\\{character}")?,
            '\u{8}' => f.write_str("\\b")?,
            '\t' => f.write_str("\\t")?,
            '\n' => f.write_str("\\n")?,
            '\u{c}' => f.write_str("\\f")?,
            '\r' => f.write_str("\\r")?,
            hidden if is_hidden(hidden) => write!(f, "\\u{:04X}", u32::from(hidden))?,
            shown => f.write_char(shown)?,
        }
    }
    f.write_char('"')
}

/// Characters that nobody would see: controls, and Unicode's spaces and zero-width marks.
fn is_hidden(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}' | '\u{7f}' | '\u{85}' | '\u{a0}' | '\u{1680}' | '\u{180e}' | '\u{2000}'
            ..='\u{200d}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{2060}' | '\u{3000}' | '\u{feff}'
    )
}
