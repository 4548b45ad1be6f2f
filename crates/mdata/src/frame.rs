//! Frames of version 2 (metadata.md section 2.4).

use crate::{base64, request::is_blank};

/// A request or answer of version 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Chosen by the client, echoed as it is: lower-case hex digits.
    pub request: String,
    /// Verb or result.
    pub code: String,
    /// The payload, still in base64; empty when there is none.
    pub payload: String,
}

/// Bytes of a length or checksum that are looked at: more cannot be right.
const MAX_NUMBER: usize = 20;

impl Frame {
    /// Reads a line, right-trimmed, that begins with `V2`. `None` for everything that upstream answers with silence, but for a
    /// body that ends in a blank: the blank was trimmed, and who asks for an empty key gets an answer (section 6.1).
    pub fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("V2")?;
        let (length, rest) = field(rest)?;
        let (crc, rest) = field(rest)?;
        let (request, rest) = field(rest)?;
        let rest = rest.trim_start_matches(is_blank);
        if length.len() > MAX_NUMBER || !length.bytes().all(|byte| byte.is_ascii_digit()) || !is_hex(crc) || !is_hex(request) {
            return None;
        }
        let (length, body) = (length.parse::<u64>().ok().filter(|length| *length > 0)?, format!("{request} {rest}"));
        let fits = |body: &str| length == body.len() as u64 && crc == checksum(body.as_bytes());
        if !fits(&body) && !fits(&format!("{body} ")) {
            return None;
        }
        let end = rest.find(is_blank).unwrap_or(rest.len());
        let (code, payload) = rest.split_at(end);
        if code.is_empty() {
            return None;
        }
        Some(Self { request: request.to_owned(), code: code.to_owned(), payload: payload.trim_start_matches(is_blank).to_owned() })
    }

    /// A frame whose payload is `content`; none when that is `None` or empty.
    pub fn new(request: &str, code: &str, content: Option<&[u8]>) -> Self {
        Self { request: request.to_owned(), code: code.to_owned(), payload: content.map(base64::encode).unwrap_or_default() }
    }

    /// The line, with its line feed.
    pub fn encode(&self) -> String {
        let body = match self.payload.as_str() {
            "" => format!("{} {}", self.request, self.code),
            payload => format!("{} {} {payload}", self.request, self.code),
        };
        format!("V2 {} {} {body}\n", body.len(), checksum(body.as_bytes()))
    }

    /// The payload, decoded as text.
    pub fn text(&self) -> String {
        base64::decode_text(&self.payload)
    }

    /// The payload, decoded.
    pub fn content(&self) -> Vec<u8> {
        base64::decode(self.payload.as_bytes())
    }
}

/// A word behind at least one blank, and what follows it.
fn field(text: &str) -> Option<(&str, &str)> {
    let word = text.trim_start_matches(is_blank);
    if word.len() == text.len() || word.is_empty() {
        return None;
    }
    let end = word.find(is_blank).unwrap_or(word.len());
    Some(word.split_at(end))
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The CRC of zlib as eight lower-case digits.
fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}
