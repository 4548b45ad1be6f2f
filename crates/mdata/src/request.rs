//! From a line to a request (metadata.md sections 2.1, 2.2 and 4.1).

use crate::{Frame, base64};

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// No command at all: answered with `invalid command`, in every state. Serial clients begin so.
    Invalid,
    /// `NEGOTIATE`: whether it was for version 2.
    Negotiate(bool),
    /// `GET` of version 1; the key is trimmed.
    Get(String),
    /// `KEYS` of version 1.
    Keys,
    /// Another word of version 1: answered with `FAILURE`.
    Unknown,
    /// A frame of version 2.
    Frame(Frame),
    /// A line of version 2 that is damaged: not answered.
    Dropped,
}

/// Blanks as upstream's language has them.
pub(crate) fn is_blank(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}

/// Trims a key as upstream does.
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// Reads one line, without its line feed.
pub fn parse(line: &[u8]) -> Request {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end_matches(is_blank);
    let end = text.find(is_blank).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    // One blank is skipped, the others belong to the argument.
    let mut argument = rest.chars();
    argument.next();
    let argument = argument.as_str();
    match word {
        "" => Request::Invalid,
        "GET" | "NEGOTIATE" if argument.is_empty() => Request::Invalid,
        "NEGOTIATE" => Request::Negotiate(argument == "V2"),
        "GET" => Request::Get(trim(argument).to_owned()),
        "KEYS" => Request::Keys,
        "V2" => Frame::parse(text).map_or(Request::Dropped, Request::Frame),
        _ => Request::Unknown,
    }
}

/// Why the argument of a PUT is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutError;

/// Key (trimmed) and value of a PUT: two terms in base64, inside the payload's own (section 4.1).
///
/// # Errors
/// When there are not two, or the key is empty.
pub fn put_terms(frame: &Frame) -> Result<(String, String), PutError> {
    let argument = frame.text();
    let mut terms = trim(&argument).split(' ');
    let (Some(key), Some(value), None) = (terms.next(), terms.next(), terms.next()) else {
        return Err(PutError);
    };
    let key = base64::decode_text(key);
    match trim(&key) {
        "" => Err(PutError),
        key => Ok((key.to_owned(), base64::decode_text(value))),
    }
}
