//! Why storage did not do something.

use std::path::PathBuf;

use triton_files::FileError;
use triton_types::StorageKind;
use triton_zfs::{FailureKind, ZfsError};

use crate::{ShiftError, TreeError};

/// A verb of storage failed; what it had begun is undone, or is named by the next call.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// No kind of storage was chosen on this node yet.
    #[error("no storage was chosen on this node: {} does not exist", record.display())]
    NotChosen {
        /// The record that is missing.
        record: PathBuf,
    },
    /// Another kind or pool was chosen before.
    #[error("this node's storage is {kind} in pool {pool:?}: it cannot become {wanted_kind} in pool {wanted_pool:?}")]
    OtherChosen {
        /// The kind that was chosen.
        kind: StorageKind,
        /// The pool that was chosen.
        pool: String,
        /// The kind that was asked for.
        wanted_kind: StorageKind,
        /// The pool that was asked for.
        wanted_pool: String,
    },
    /// The record was written by something newer.
    #[error("{} has format {format}, this program knows formats up to 1", record.display())]
    NewerFormat {
        /// The record.
        record: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A pool's name that cannot be one.
    #[error("{0:?} is not the name of a pool")]
    InvalidPool(String),
    /// The pool is not there: not mounted, or something else is in its place.
    #[error("pool {pool:?} is not usable: {reason}")]
    PoolMissing {
        /// The pool.
        pool: String,
        /// What was found.
        reason: String,
    },
    /// No such image, instance or snapshot.
    #[error("there is no {what} {name}")]
    NotFound {
        /// `image`, `instance`, `snapshot`, ….
        what: &'static str,
        /// Which.
        name: String,
    },
    /// It is there already.
    #[error("{what} {name} exists already")]
    Exists {
        /// `image`, `instance`, `snapshot`, ….
        what: &'static str,
        /// Which.
        name: String,
    },
    /// Something else needs it.
    #[error("{what} {name} is in use by {by}")]
    InUse {
        /// `image`, `instance`, ….
        what: &'static str,
        /// Which.
        name: String,
        /// By what.
        by: String,
    },
    /// The instance is marked indestructible.
    #[error("instance {0} is indestructible: its root is held")]
    Indestructible(String),
    /// Not 1 to 64 legal characters. The text is the contract's.
    #[error("Invalid snapshot name")]
    InvalidSnapshotName,
    /// A property that this kind of storage cannot have.
    #[error("{0}")]
    InvalidProperty(String),
    /// The verb makes no sense for this kind.
    #[error("storage of kind {kind} cannot {what}")]
    Unsupported {
        /// The kind.
        kind: StorageKind,
        /// What it cannot.
        what: &'static str,
    },
    /// A received stream held no or several snapshots (instances.md section 8.5).
    #[error("image {image} was received with {count} snapshots, exactly one was expected")]
    UnexpectedNumberOfSnapshots {
        /// The image.
        image: String,
        /// How many.
        count: usize,
    },
    /// The unpacked image has no `root/`.
    #[error("image {0} has no directory \"root\"")]
    NoRoot(String),
    /// A tree could not be copied, removed or measured.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A tree could not be shifted.
    #[error(transparent)]
    Shift(#[from] ShiftError),
    /// A small file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content of a new instance, which comes from elsewhere, could not be put in its place.
    #[error("its content could not be received")]
    Content(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// ZFS refused.
    #[error(transparent)]
    Zfs(#[from] ZfsError),
}

impl StorageError {
    /// True when space, inodes or a quota ran out.
    pub fn is_no_space(&self) -> bool {
        match self {
            Self::Tree(error) => error.is_no_space(),
            Self::File(error) => matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded),
            Self::Zfs(error) => error.kind() == FailureKind::NoSpace,
            _ => false,
        }
    }

    /// True when what was asked for is in use now and may not be later: a mount, a running guest.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::InUse { .. }) || matches!(self, Self::Zfs(error) if error.kind() == FailureKind::Busy)
    }
}
