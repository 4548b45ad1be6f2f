//! The metadata protocol of Triton's guests (metadata.md): lines in, lines out, and what the keys mean.
//!
//! Pure: bytes and VM objects come in, bytes and verdicts go out. Total: no input makes it panic, and nothing is larger than
//! a few times its input. Called by the metadata service and by the guest's tools; owns nothing.
//!
//! * [`parse`]: from a line to a [`Request`]; [`Answer`]: from a verdict to bytes, in either version of the protocol.
//! * [`get`], [`keys()`], [`target`]: what a VM object says to a key.
//! * [`client`]: the other side.

mod answer;
mod base64;
pub mod client;
mod frame;
mod keys;
mod request;
mod routes;
mod sdc;
mod value;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use answer::Answer;
pub use frame::Frame;
pub use keys::{Compatibility, Map, get, keys, target};
pub use request::{PutError, Request, parse, put_terms, trim};
