//! What was found wrong, and therefore left out.

use triton_types::{Mac, NicTag};

/// One thing that could not be configured as it was asked for. Everything else is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The whole file is of no use: it is as if there were none.
    #[error("networking.json cannot be used: {0}")]
    Unreadable(String),
    /// The file came without the hash that belongs beside it.
    #[error("networking.json came without its hash: it is used unverified")]
    HashMissing,
    /// The file is not the one that the hash was made of.
    #[error("networking.json has the SHA-1 {found}, but its hash file says {wanted}: it is used nevertheless")]
    HashMismatch {
        /// Of the file.
        found: String,
        /// In the hash file, escaped and at most 64 characters.
        wanted: String,
    },
    /// A value is not what it should be, and what it describes is left out.
    #[error("{place}: {reason}")]
    Value {
        /// Where in which file: `vnics[2].ip`.
        place: String,
        /// What is wrong; foreign text is escaped.
        reason: String,
    },
    /// A VLAN that Triton does not have (ruling 62). Its NIC is left out: its address must not be untagged instead.
    #[error("{place}: {value} is no VLAN (0, or 2 to 4094): the nic is left out")]
    BadVlan {
        /// The field.
        place: String,
        /// What stands there.
        value: String,
    },
    /// A second NIC with the address of one before it, which is left out.
    #[error("{place}: the MAC address {mac} is used before: this one is left out")]
    DuplicateMac {
        /// The entry.
        place: String,
        /// The address.
        mac: Mac,
    },
    /// A second tag or aggregation of one name, which is left out.
    #[error("{place}: the name {name:?} is used before: this one is left out")]
    DuplicateName {
        /// The entry.
        place: String,
        /// The name.
        name: String,
    },
    /// A NIC on a tag that is not among `nictags`.
    #[error("nic {mac} is on the unknown nic tag {tag}{}", if *.configured { "" } else { ": it is left out" })]
    UnknownTag {
        /// The NIC.
        mac: Mac,
        /// Its tag.
        tag: NicTag,
        /// Whether the NIC is configured all the same, being a physical one.
        configured: bool,
    },
    /// A NIC on a tag that no NIC of this node provides.
    #[error("nic {mac} is on the nic tag {tag}, which no nic of this node provides: it is left out")]
    NoProvider {
        /// The NIC.
        mac: Mac,
        /// Its tag.
        tag: NicTag,
    },
    /// A tag on an aggregation that is not described.
    #[error("nic tag {tag} is on the unknown aggregation {name:?}")]
    UnknownAggregation {
        /// The tag.
        tag: NicTag,
        /// The aggregation, escaped when shown.
        name: String,
    },
    /// A MAC address that no NIC of this machine has. Its links are prepared nevertheless.
    #[error("no physical nic has the MAC address {mac} ({user})")]
    NoSuchNic {
        /// The address.
        mac: Mac,
        /// Who wants it: `nic tag external`, `aggregation aggr0`.
        user: String,
    },
    /// An MTU above that of the links below, which counts instead.
    #[error("nic {mac}: its MTU {mtu} is more than the {limit} of its nic tags: {limit} is used")]
    MtuTooLarge {
        /// The NIC.
        mac: Mac,
        /// What it asks for.
        mtu: u32,
        /// What is possible.
        limit: u32,
    },
    /// A static route without a way.
    #[error("route to {destination}: {reason}: it is left out")]
    Route {
        /// Where to.
        destination: String,
        /// What is missing.
        reason: String,
    },
    /// A rule of overlay networks that cannot be followed.
    #[error("nictag_rules[{name:?}]: {reason}: its networks are not on this node")]
    Overlay {
        /// Its name, shortened.
        name: String,
        /// What is wrong; foreign text is escaped.
        reason: String,
    },
}

/// Foreign text for a message: escaped, and no longer than a line.
pub(crate) fn shown(text: &str) -> String {
    let mut short: String = text.chars().take(64).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("{short:?}")
}
