//! nf_tables through its netlink socket: tables, chains, sets and rules, changed in one transaction; never the `nft` command.
//!
//! Called by the owners of tables (`guard`). A [`Batch`] is all of a change: the kernel takes it whole or not at all, and says which
//! message it did not like. [`Nft`] commits batches and reads sets and their counters back; [`Events`] tells of changes by anybody, [`Watch`] whether a table is as it was;
//! [`Logs`] has the copies of packets that rules send; [`Connections`] forgets tracked connections.
//! Knows nothing of Triton. Synchronous: the kernel answers within the call.
//!
//! The message formats are those of the kernel's `nf_tables.h`; docs/decisions/nftables.md says why no library is used.

mod attributes;
mod batch;
mod commit;
mod conntrack;
mod element;
mod error;
mod events;
mod expression;
mod log;
mod read;
mod rule;
mod rules;
mod set;
mod socket;
mod watch;

pub use batch::{Batch, ChainHook, Family, Hook};
pub use commit::Nft;
pub use conntrack::Connections;
pub use element::{Element, Key};
pub use error::NftError;
pub use events::{Change, Events};
pub use expression::{Compare, Expression, Lookup, Payload, Register, Tracked, Verdict};
pub use log::{Copy, Logs};
pub use read::{Counter, Stored};
pub use rule::Rule;
pub use rules::{Content, StoredChain, StoredRule};
pub use set::{DataType, SetSpec};
pub use watch::Watch;

/// Length of an interface's name with its end, in bytes (`IFNAMSIZ`).
pub const NAME: usize = 16;

/// An interface's name as the kernel compares it: filled up with zeros.
///
/// Longer names are cut: no interface can have them.
pub fn name_bytes(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    let length = name.len().min(NAME - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}

#[cfg(test)]
mod tests;
