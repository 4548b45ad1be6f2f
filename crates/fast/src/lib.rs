//! FAST, the protocol in which FWAPI pushes changes of rules to compute nodes (firewaller.md section 3).
//!
//! Pure: bytes in, frames out, and back. Total: no bytes make it panic. Called by the client in `triton-headnode`; owns nothing.
//!
//! Frames are always written in version 1 with the legacy checksum: FWAPI's own library throws at any other and takes the whole
//! service with it (ruling 26). Frames of version 2 are read, since a newer service may send them.
//!
//! * [`Frame`]: one message; [`Frame::encode`].
//! * [`Decoder`]: from a stream of bytes, cut anywhere, to frames.

mod crc;
mod decoder;
mod frame;

#[cfg(test)]
mod tests;

pub use crc::{arc, legacy};
pub use decoder::{DecodeError, Decoder};
pub use frame::{Frame, MAX_PAYLOAD, Status};
