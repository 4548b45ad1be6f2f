//! From a stream of bytes to messages. What is no message ends the stream: nothing after it can be trusted.

use serde_json::Value;

use crate::{
    crc::{arc, legacy},
    frame::{Frame, HEADER, MAX_ID, MAX_PAYLOAD, Status},
};

/// Why bytes are no messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A version that is neither 1 nor 2.
    #[error("a frame has the version {0}")]
    Version(u8),
    /// A type that is not 1, JSON.
    #[error("a frame has the type {0}")]
    Type(u8),
    /// A status that is none.
    #[error("a frame has the status {0}")]
    Status(u8),
    /// An id of more than 31 bits.
    #[error("a frame has the id {0}")]
    Id(u32),
    /// A payload beyond [`MAX_PAYLOAD`].
    #[error("a frame says that it is {0} bytes long, more than {MAX_PAYLOAD}")]
    Length(u32),
    /// A payload that is damaged.
    #[error("a frame has the checksum {found:#06x} and should have {wanted:#06x}")]
    Checksum {
        /// What the header says.
        found: u32,
        /// What the payload has.
        wanted: u16,
    },
    /// A payload of another form.
    #[error("a frame's payload {0}")]
    Payload(&'static str),
}

/// Collects bytes, cut anywhere. Holds at most one frame beyond what it was given last.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    at: usize,
    broken: Option<DecodeError>,
}

impl Decoder {
    /// Takes more bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.broken.is_none() {
            self.bytes.drain(..self.at);
            self.at = 0;
            self.bytes.extend_from_slice(bytes);
        }
    }

    /// The next message; `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// For bytes that are no message, and from then on for ever.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, DecodeError> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.read().inspect_err(|error| {
            self.bytes = Vec::new();
            self.at = 0;
            self.broken = Some(error.clone());
        })
    }

    /// Whether a frame has begun that is not complete: the end of the stream here is an error.
    pub fn is_midway(&self) -> bool {
        self.at < self.bytes.len()
    }

    fn read(&mut self) -> Result<Option<Frame>, DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(None) };
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let version = header[0];
        if version != 1 && version != 2 {
            return Err(DecodeError::Version(version));
        }
        if header[1] != 1 {
            return Err(DecodeError::Type(header[1]));
        }
        let status = Status::from_byte(header[2]).ok_or(DecodeError::Status(header[2]))?;
        let (id, found, length) = (word(3), word(7), word(11));
        if id > MAX_ID {
            return Err(DecodeError::Id(id));
        }
        let size = usize::try_from(length).ok().filter(|size| *size <= MAX_PAYLOAD).ok_or(DecodeError::Length(length))?;
        let Some(payload) = rest.get(HEADER..HEADER + size) else { return Ok(None) };
        let text = std::str::from_utf8(payload).map_err(|_| DecodeError::Payload("is not UTF-8"))?;
        let wanted = if version == 1 { legacy(text) } else { arc(payload) };
        if found != u32::from(wanted) {
            return Err(DecodeError::Checksum { found, wanted });
        }
        let frame = frame(id, status, text)?;
        self.at += HEADER + size;
        Ok(Some(frame))
    }
}

fn frame(id: u32, status: Status, text: &str) -> Result<Frame, DecodeError> {
    let mut payload: Value = serde_json::from_str(text).map_err(|_| DecodeError::Payload("is no JSON"))?;
    let method = payload["m"]["name"].as_str().filter(|name| !name.is_empty()).ok_or(DecodeError::Payload("names no method"))?.to_owned();
    let data = payload.get_mut("d").map(Value::take).unwrap_or_default();
    let fits = match status {
        Status::Data | Status::End => data.as_array().is_some_and(|list| list.iter().all(|item| !item.is_null())),
        Status::Error => data["name"].is_string() && data["message"].is_string(),
    };
    if !fits {
        return Err(DecodeError::Payload("has data of another form"));
    }
    Ok(Frame { id, status, method, data })
}
