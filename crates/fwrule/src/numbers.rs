//! Ports, ICMP types and priorities as words of the language: decimal digits, leading zeros allowed.

use crate::{
    IcmpType, PortEntry,
    error::{RuleError, quoted},
};

/// The value of a decimal word, when it is at most `most`.
fn decimal(word: &str, most: u32) -> Option<u32> {
    if word.is_empty() || !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = word.trim_start_matches('0');
    match digits.len() {
        0 => Some(0),
        1..=9 => digits.parse().ok().filter(|value| *value <= most),
        _ => None,
    }
}

fn port(word: &str) -> Result<u16, RuleError> {
    decimal(word, 65535)
        .filter(|port| *port > 0)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or_else(|| RuleError::text(format!("Port number \"{}\" is invalid", quoted(word))))
}

/// One port: the word after `PORT`.
pub(crate) fn one_port(word: &str) -> Result<PortEntry, RuleError> {
    port(word).map(PortEntry::One)
}

/// An entry of `PORTS` that is one word: a port, or a range written without spaces before its hyphen.
pub(crate) fn port_or_range(word: &str) -> Result<PortEntry, RuleError> {
    let mut parts = word.split('-');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(start), Some(end), None) => range(start, end),
        (_, _, Some(_)) => Err(RuleError::text(format!("\"{}\" is not a valid port number or range", quoted(word)))),
        _ => one_port(word),
    }
}

/// A range, both ends inclusive.
pub(crate) fn range(start: &str, end: &str) -> Result<PortEntry, RuleError> {
    let (first, last) = (port(start)?, port(end)?);
    if last < first {
        let (start, end) = (quoted(start), quoted(end));
        return Err(RuleError::text(format!("The end of the range ({end}) cannot be less than the start ({start})")));
    }
    Ok(PortEntry::Range(first, last))
}

/// An ICMP type without its code.
pub(crate) fn icmp_type(word: &str) -> Result<IcmpType, RuleError> {
    byte(word, 255)
        .map(|number| IcmpType { number, code: None })
        .ok_or_else(|| RuleError::text(format!("ICMP type \"{}\" is invalid", quoted(word))))
}

/// An ICMP code.
pub(crate) fn icmp_code(word: &str) -> Result<u8, RuleError> {
    byte(word, 255).ok_or_else(|| RuleError::text(format!("ICMP code \"{}\" is invalid", quoted(word))))
}

/// A priority, 0 to 100.
pub(crate) fn priority(word: &str) -> Result<u8, RuleError> {
    byte(word, 100).ok_or_else(|| RuleError::text(format!("Priority level \"{}\" is invalid", quoted(word))))
}

fn byte(word: &str, most: u32) -> Option<u8> {
    decimal(word, most).and_then(|value| u8::try_from(value).ok())
}
