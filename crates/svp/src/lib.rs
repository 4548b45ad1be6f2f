//! SVP, version 1: how a node asks portolan where the addresses of an overlay network are (net-agent.md section 17).
//!
//! Pure: messages in, bytes out, and the other way. Total: no input makes it panic, and nothing is larger than its input.
//! A message is a header of 16 bytes and a body whose form its operation decides; all numbers are big-endian. An error of
//! [`decode()`] means that the stream has lost its frames: the connection is of no use any more.
//!
//! Words of the protocol: a *VL2* address is a MAC address within an overlay network, a *VL3* one an IP address there, and
//! the *underlay* address (*UL3*) is that of the node which carries them.

mod decode;
mod encode;
mod error;
mod message;

pub use decode::{Decoder, decode};
pub use encode::encode;
pub use error::SvpError;
pub use message::{Body, LogEntry, LogId, Message, Status, Underlay, Vnet};

/// The version that is spoken.
pub const VERSION: u16 = 1;
/// Bytes of a header.
pub const HEADER: usize = 16;
/// The most bytes that a body may have here. Portolan sends long ones only for logs, and those no longer than they were asked for.
pub const MOST: usize = 64 << 10;
/// The TCP port of portolan.
pub const PORT: u16 = 1296;

#[cfg(test)]
mod tests;
