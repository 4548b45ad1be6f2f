//! Why the guard could not be changed.

use triton_files::{FileError, LockError};
use triton_nft::NftError;

/// A change of the guard that was not made; what was there before is still there.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The kernel did not take it.
    #[error("could not change the guard of guests' NICs")]
    Rules(#[from] NftError),
    /// Somebody else is changing it, and goes on for too long.
    #[error("could not lock the guard of guests' NICs")]
    Lock(#[from] LockError),
    /// The addresses that were learned cannot be kept.
    #[error("could not keep the addresses that guests were given")]
    Learned(#[from] FileError),
    /// What the NICs may do, or which there are, is not known: nothing can be held against it or made from it.
    #[error("what the guard of guests' NICs should be is not known: {0}")]
    Unknown(String),
}
