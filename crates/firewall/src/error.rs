//! Why the firewall could not be changed.

use std::path::PathBuf;

use triton_files::{FileError, LockError};
use triton_nft::NftError;

/// The files of the firewall could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be listed: this is not the same as an empty one.
    #[error("could not list {}", path.display())]
    List {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A change was begun by a newer version.
    #[error("{} has format {format}, made by a newer version", path.display())]
    Format {
        /// The journal.
        path: PathBuf,
        /// Its format.
        format: u64,
    },
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Somebody else is changing it, and goes on for too long.
    #[error("could not lock the rules of the firewall")]
    Lock(#[from] LockError),
}

/// A change that was not made, or is not in force yet.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// It is not one that can be made; the words are upstream's. Nothing was changed.
    #[error("{}", .0.join("\n"))]
    Refused(Vec<String>),
    /// The files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kernel did not take it; what was in force still is. The files have the change, and the next one tries again.
    #[error("could not change the table of the firewall")]
    Rules(#[from] NftError),
    /// Somebody else is changing the table, and goes on for too long.
    #[error("could not lock the table of the firewall")]
    Lock(#[from] LockError),
    /// The instances of this node cannot be listed: nothing is compiled from half of them.
    #[error("the instances of this node are not known: {0}")]
    Instances(String),
}
