//! Netlink attributes: writing with nesting, and reading.

use crate::error::NftError;

const NESTED: u16 = 0x8000;
const KIND: u16 = 0x3fff;
const HEADER: usize = 4;

/// Writes attributes into a message.
#[derive(Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    fn pad(&mut self) {
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    /// An attribute with these bytes.
    ///
    /// # Panics
    /// Never: attributes that could grow beyond 64 KiB are lists of elements, which are cut before that (`element::PER_MESSAGE`).
    pub(crate) fn bytes(&mut self, kind: u16, bytes: &[u8]) {
        let length = u16::try_from(HEADER + bytes.len()).unwrap_or(u16::MAX);
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(bytes);
        self.pad();
    }

    /// A text, with its end.
    pub(crate) fn text(&mut self, kind: u16, text: &str) {
        let mut bytes = Vec::with_capacity(text.len() + 1);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// A number in network order.
    pub(crate) fn number(&mut self, kind: u16, number: u32) {
        self.bytes(kind, &number.to_be_bytes());
    }

    /// A large number in network order.
    pub(crate) fn large(&mut self, kind: u16, number: u64) {
        self.bytes(kind, &number.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub(crate) fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        let begin = self.0.len();
        self.0.extend_from_slice(&[0; HEADER]);
        content(self);
        let length = u16::try_from(self.0.len() - begin).unwrap_or(u16::MAX);
        self.0[begin..begin + 2].copy_from_slice(&length.to_ne_bytes());
        self.0[begin + 2..begin + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
        self.pad();
    }
}

/// The attributes of a message, in order.
///
/// # Errors
/// The last item, when the bytes are cut short.
pub(crate) fn read(mut bytes: &[u8]) -> impl Iterator<Item = Result<(u16, &[u8]), NftError>> {
    std::iter::from_fn(move || {
        if bytes.len() < HEADER {
            return None;
        }
        let length = usize::from(u16::from_ne_bytes([bytes[0], bytes[1]]));
        let kind = u16::from_ne_bytes([bytes[2], bytes[3]]) & KIND;
        let Some(value) = bytes.get(HEADER..length) else {
            bytes = &[];
            return Some(Err(NftError::Answer("an attribute is cut short")));
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Ok((kind, value)))
    })
}

/// The first attribute of this kind.
///
/// # Errors
/// When the bytes are cut short before it.
pub(crate) fn find(bytes: &[u8], wanted: u16) -> Result<Option<&[u8]>, NftError> {
    for attribute in read(bytes) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// A number in network order; 0 when there are fewer bytes.
pub(crate) fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// A large number in network order; 0 when there are fewer bytes.
pub(crate) fn large(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// A text without its end; what is no UTF-8 becomes empty.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes.strip_suffix(&[0]).unwrap_or(bytes)).unwrap_or_default()
}
