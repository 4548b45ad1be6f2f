//! Why a tag could not be read, changed or carried.

use triton_files::{FileError, LockError};
use triton_link::LinkError;
use triton_types::{Mac, NicTag};

/// A failure around NIC tags.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NicTagError {
    /// The file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else changes the tags.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file is not what it should be.
    #[error("{path}: {problem}")]
    Format {
        /// The file.
        path: String,
        /// Where in it, and what is wrong.
        problem: String,
    },
    /// The kernel refused a link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Links could not be asked for at all.
    #[error("could not ask the kernel about links")]
    Kernel(#[source] std::io::Error),
    /// A tag of that name is there already.
    #[error("nic tag \"{0}\" already exists")]
    Exists(NicTag),
    /// There is no such tag.
    #[error("nic tag \"{0}\" does not exist")]
    NotFound(NicTag),
    /// The name cannot be a tag's.
    #[error("nic tag name \"{0}\" is invalid: letters, digits and '_', at most 30; of a tag without a nic at most 31, a digit at the end")]
    Name(NicTag),
    /// No NIC of this node has the MAC address.
    #[error("no physical nic has the MAC address {0}")]
    NoSuchNic(Mac),
    /// No aggregation of this node has the name.
    #[error("aggregation \"{0}\" does not exist")]
    NoSuchAggregation(String),
    /// A link that should be there is not.
    #[error("there is no link {0}")]
    Absent(String),
    /// This node cannot be part of an overlay network now.
    #[error("nic tag \"{tag}\": {reason}")]
    Fabric {
        /// The network.
        tag: NicTag,
        /// What is missing.
        reason: String,
    },
    /// Every bridge of a tag is full.
    #[error("bridge {0} and all further ones are full")]
    Full(String),
    /// The MTU is out of range.
    #[error("MTU {0} is out of range: 1500 to 9000")]
    Mtu(u32),
    /// The tag of the admin network cannot be removed.
    #[error("nic tag \"{0}\" is the admin network's")]
    Admin(NicTag),
    /// An update without anything to change.
    #[error("nothing to change: a MAC address or an MTU is needed")]
    Nothing,
    /// A tag without a NIC stays one.
    #[error("nic tag \"{0}\" has no nic and cannot be updated")]
    NoUplink(NicTag),
}
