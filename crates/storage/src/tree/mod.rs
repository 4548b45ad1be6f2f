//! Trees of files that somebody hostile made: walked, copied, measured and removed by descriptors, following no link and
//! crossing no mount.

mod attributes;
mod content;
mod copy;
pub(crate) mod ffi;
mod measure;
mod pack;
mod remove;
mod walk;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(crate) use attributes::{get_attribute, inode_path, set_attribute};
pub(crate) use copy::{copy_tree, open_inode};
pub(crate) use measure::measure;
pub use pack::Packed;
pub(crate) use pack::Packer;
pub(crate) use remove::{mount_below, remove_tree};
pub(crate) use walk::{Entry, Failure, Visitor, open_directory, walk};

/// What could not be done to which file of a tree, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}: {source}", path.display())]
pub struct TreeError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl TreeError {
    pub(crate) fn new(action: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { action, path: path.into(), source: source.into() }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why, in the kernel's words.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// True when space, inodes or a quota ran out.
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
    }
}
