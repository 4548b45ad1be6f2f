//! One message and its bytes (firewaller.md sections 3.1 and 3.3).

use serde_json::{Value, json};

use crate::crc::legacy;

/// Largest payload that is read or written, in bytes. The protocol has no limit; an event is a few KiB.
pub const MAX_PAYLOAD: usize = 16 << 20;
/// Bytes before the payload.
pub(crate) const HEADER: usize = 15;
/// Message ids have 31 bits.
pub(crate) const MAX_ID: u32 = 0x7fff_ffff;

/// What a message is in its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A request, or a part of the answer.
    Data,
    /// The end of the answer.
    End,
    /// The call failed; it has ended.
    Error,
}

impl Status {
    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::End),
            3 => Some(Self::Error),
            _ => None,
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Data => 1,
            Self::End => 2,
            Self::Error => 3,
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Which call it belongs to, at most 2^31 - 1.
    pub id: u32,
    /// What it is in that call.
    pub status: Status,
    /// Name of the call's method.
    pub method: String,
    /// For [`Status::Data`] and [`Status::End`] a list of arguments or results, else the error.
    pub data: Value,
}

impl Frame {
    /// The bytes of the message, in version 1, with the time that its `uts` says (microseconds since 1970).
    ///
    /// # Errors
    ///
    /// When the id has more than 31 bits or the payload is larger than [`MAX_PAYLOAD`].
    pub fn encode(&self, microseconds: u64) -> Result<Vec<u8>, &'static str> {
        let payload = json!({"m": {"uts": microseconds, "name": self.method}, "d": self.data}).to_string();
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= MAX_PAYLOAD).ok_or("the message is too large")?;
        if self.id > MAX_ID {
            return Err("the id of the message is too large");
        }
        let mut bytes = Vec::with_capacity(HEADER + payload.len());
        bytes.extend([1, 1, self.status.byte()]);
        bytes.extend(self.id.to_be_bytes());
        bytes.extend(u32::from(legacy(&payload)).to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(payload.as_bytes());
        Ok(bytes)
    }
}
