//! From text to tokens (firewaller.md section 4.1), with the positions that upstream's messages count.
//!
//! Positions are columns in UTF-16 units since the last line break, because upstream counts so.

use std::borrow::Cow;

use crate::error::{RuleError, quoted};

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword, by its upper-case name.
    Keyword(&'static str),
    /// One of `( ) = , -`.
    Mark(char),
    Word,
    Text,
    V4,
    V6,
    Suffix,
    End,
}

impl Kind {
    /// The name in `found:`.
    fn name(self) -> Cow<'static, str> {
        match self {
            Self::Keyword(name) => name.into(),
            Self::Mark(mark) => mark.to_string().into(),
            Self::Word => "word".into(),
            Self::Text => "STRING".into(),
            Self::V4 => "IPV4ADDR".into(),
            Self::V6 => "IPV6ADDR".into(),
            Self::Suffix => "CIDRSUFFIX".into(),
            Self::End => "EOF".into(),
        }
    }
}

/// One token: its kind and its text as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind,
    pub(crate) text: &'a str,
    /// The column where the token before it ended.
    after: usize,
}

impl Token<'_> {
    /// Upstream's message for a token that may not stand here.
    pub(crate) fn unexpected(&self, expected: &str) -> RuleError {
        RuleError::text(format!(
            "Error at character {}: '{}', expected: {expected}, found: {}",
            self.after,
            quoted(self.text),
            self.kind.name()
        ))
    }
}

const KEYWORDS: [&str; 24] = [
    "FROM", "TO", "IP", "SUBNET", "ANY", "ALL", "TAG", "VM", "VMS", "OR", "AND", "BLOCK", "ALLOW", "PORT", "PORTS", "TCP", "UDP", "ICMP",
    "ICMP6", "AH", "ESP", "TYPE", "CODE", "PRIORITY",
];

fn keyword(run: &str) -> Option<Kind> {
    let one_case = !run.bytes().any(|b| b.is_ascii_lowercase()) || !run.bytes().any(|b| b.is_ascii_uppercase());
    KEYWORDS.iter().find(|name| one_case && name.eq_ignore_ascii_case(run)).map(|name| Kind::Keyword(name))
}

/// Where the lexer is.
pub(crate) struct Lexer<'a> {
    input: &'a str,
    at: usize,
    column: usize,
    after: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(input: &'a str) -> Self {
        Self { input, at: 0, column: 0, after: 0 }
    }

    /// The next token; for ever [`Kind::End`] at the end.
    pub(crate) fn next(&mut self) -> Result<Token<'a>, RuleError> {
        let rest = &self.input[self.at..];
        let blank = rest.find(|c: char| !is_space(c)).unwrap_or(rest.len());
        self.advance(blank);
        let rest = &self.input[self.at..];
        let after = self.after;
        let (kind, length) = if rest.is_empty() { (Kind::End, 0) } else { scan(rest).ok_or_else(|| self.lost())? };
        self.advance(length);
        if kind != Kind::End {
            self.after = self.column;
        }
        Ok(Token { kind, text: &rest[..length], after })
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.input[self.at..self.at + bytes];
        self.at += bytes;
        match passed.rfind(['\n', '\r']) {
            // Upstream measures the last line up to what its regular expressions call its end.
            Some(newline) => self.column = units(passed[newline + 1..].split(['\u{2028}', '\u{2029}']).next().unwrap_or_default()),
            None => self.column += units(passed),
        }
    }

    /// Upstream's message for text that is no token: its position is the length of the consumed text that it would show.
    fn lost(&self) -> RuleError {
        const SHOWN: usize = 20;
        let consumed = self.input[..self.at].chars().rev();
        let (mut left, mut length, mut cut) = (SHOWN, 0, false);
        for character in consumed {
            let size = character.len_utf16();
            cut |= size > left;
            let part = size.min(left);
            if part == 0 {
                break;
            }
            left -= part;
            length += if character == '\n' { 0 } else { part };
        }
        let mut upcoming: Vec<u16> = self.input[self.at..].encode_utf16().take(SHOWN).collect();
        upcoming.retain(|unit| *unit != u16::from(b'\n'));
        let position = length + if cut { 3 } else { 0 };
        RuleError::text(format!("Error at character {position}: '{}', found: unexpected text", String::from_utf16_lossy(&upcoming)))
    }
}

fn units(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// What separates tokens: white space as ECMAScript's `\s` has it.
fn is_space(c: char) -> bool {
    matches!(
        c,
        '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}'
    )
}

/// The kind and length in bytes of the token at the beginning of `rest`.
fn scan(rest: &str) -> Option<(Kind, usize)> {
    let bytes = rest.as_bytes();
    let run = |accept: fn(u8) -> bool| bytes.iter().position(|b| !accept(*b)).unwrap_or(bytes.len());
    let first = *bytes.first()?;
    match first {
        b'(' | b')' | b'=' | b',' | b'-' => return Some((Kind::Mark(char::from(first)), 1)),
        b'"' => return string(rest).map(|length| (Kind::Text, length)),
        b'/' => {
            let digits = bytes[1..].iter().take(3).take_while(|b| b.is_ascii_digit()).count();
            return (digits > 0).then_some((Kind::Suffix, 1 + digits));
        }
        _ => {}
    }
    let word = run(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some(kind) = keyword(&rest[..word]) {
        return Some((kind, word));
    }
    let v6 = run(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b':'));
    if bytes[..v6].iter().filter(|b| **b == b':').count() >= 2 {
        return Some((Kind::V6, v6));
    }
    if let Some(length) = v4(bytes) {
        return Some((Kind::V4, length));
    }
    (word > 0).then(|| (Kind::Word, run(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')))
}

/// The length of four groups of one to three digits with dots between them.
fn v4(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        if group > 0 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let digits = bytes[at..].iter().take(3).take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        at += digits;
    }
    Some(at)
}

/// The length of a quoted string, quotes included.
fn string(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(at + 1),
            '\\' => match characters.next()?.1 {
                '"' | 'b' | 'f' | 'n' | 'r' | 't' | '/' | '(' | ')' | '\\' => {}
                'u' => {
                    for _ in 0..4 {
                        characters.next().filter(|(_, digit)| digit.is_ascii_hexdigit())?;
                    }
                }
                _ => return None,
            },
            _ => {}
        }
    }
    None
}
