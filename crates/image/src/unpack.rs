//! Unpacking tar archives of strangers (instances.md section 8.5; design section 9, invariant 3).
//!
//! Numeric owners, modes with setuid bits, extended attributes (`SCHILY.xattr.*`), hard links, symbolic links, devices
//! and times are kept. No entry can reach outside of the target: names are checked, and every directory on the way is opened
//! from the target's descriptor without following links. Device nodes are made; where the kernel forbids it (inside a user
//! namespace) they are left out, since a guest gets its own `/dev`.

mod bounded;
mod entry;
mod names;
mod reader;
mod target;
mod whiteout;

use std::{
    fmt,
    io::{self, Read},
    path::Path,
};

use crate::CancelToken;
use bounded::Bounded;
use names::Mapping;
use reader::{Entry, Reader};
use target::Target;
pub(crate) use whiteout::{apply as remove_whiteouts, scan as scan_whiteouts};

/// How much an archive may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Bytes of files, and of the archive itself.
    pub(crate) bytes: u64,
    /// Entries.
    pub(crate) entries: u64,
}

/// What an archive is to the directory that it is unpacked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// All of what is below this directory of the archive, and nothing else; the whole archive when it is empty.
    Whole(&'static str),
    /// The difference to what the directory holds (an OCI layer): it replaces whole trees, its whiteouts have been applied before,
    /// and devices are no part of it.
    Layer,
    /// All of it, below a directory in which parts of it are mounts that its caller made, such as an instance's volumes.
    Tree,
}

impl Style {
    fn prefix(self) -> &'static str {
        match self {
            Self::Whole(prefix) => prefix,
            Self::Layer | Self::Tree => "",
        }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) entries: u64,
    pub(crate) bytes: u64,
    /// Device nodes that the kernel forbade.
    pub(crate) devices_left_out: u64,
    /// Extended attributes that the file system cannot hold, or that are not a guest's to set.
    pub(crate) attributes_left_out: u64,
}

/// An archive could not be unpacked.
#[derive(Debug)]
pub struct UnpackError {
    /// The entry, as its archive names it; empty for the archive itself.
    pub entry: String,
    /// Why.
    pub failure: UnpackFailure,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry.is_empty() {
            true => f.write_str("the archive could not be unpacked"),
            false => write!(f, "entry {:?} of the archive could not be unpacked", self.entry),
        }
    }
}

impl std::error::Error for UnpackError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.failure)
    }
}

/// The reason of an [`UnpackError`].
#[derive(Debug, thiserror::Error)]
pub enum UnpackFailure {
    /// The name, or a link's target, would reach outside of the image.
    #[error("the name {0}")]
    Name(&'static str),
    /// The archive is damaged, or its decompression failed.
    #[error("the archive is damaged")]
    Archive(#[source] io::Error),
    /// The kernel refused.
    #[error("could not {0}")]
    System(&'static str, #[source] io::Error),
    /// More than an image of its size may hold.
    #[error("the archive holds more than {bytes} bytes or {entries} entries")]
    TooLarge {
        /// The limit.
        bytes: u64,
        /// The limit.
        entries: u64,
    },
    /// A kind of entry that cannot be kept.
    #[error("it is of a kind that is not supported: {0}")]
    Kind(String),
    /// The archive has nothing for the guest.
    #[error("it has no directory \"{0}\" with the guest's files")]
    NoRoot(&'static str),
    /// It was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl UnpackError {
    pub(crate) fn is_no_space(&self) -> bool {
        let full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(&self.failure, UnpackFailure::System(_, error) if full(error))
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.failure, UnpackFailure::Cancelled)
    }
}

/// Unpacks an archive into the directory `root`.
///
/// # Errors
/// At the first entry that cannot be unpacked as it is; the caller removes what was unpacked.
pub(crate) fn unpack(reader: impl Read, root: &Path, style: Style, bounds: Bounds, cancel: &CancelToken) -> Result<Summary, UnpackError> {
    let mut target = Target::open(root, style).map_err(whole)?;
    let mapping = Mapping::new(style.prefix());
    let mut summary = Summary::default();
    let mut found = false;
    each_entry(reader, bounds, cancel, |entry, archive| {
        summary.entries += 1;
        found |= entry::unpack(entry, archive, &mapping, &mut target, &mut summary, bounds)?;
        Ok(())
    })?;
    target.finish().map_err(whole)?;
    // A layer may change nothing at all.
    match found || style == Style::Layer {
        true => Ok(summary),
        false => Err(whole(UnpackFailure::NoRoot(style.prefix()))),
    }
}

fn whole(failure: UnpackFailure) -> UnpackError {
    UnpackError { entry: String::new(), failure }
}

/// Gives every entry of an archive to `take`, and reads the archive to its very end.
fn each_entry<R: Read>(
    reader: R,
    bounds: Bounds,
    cancel: &CancelToken,
    mut take: impl FnMut(&Entry, &mut Reader<Bounded<R>>) -> Result<(), UnpackFailure>,
) -> Result<(), UnpackError> {
    let mut archive = Reader::new(Bounded::new(reader, bounds.bytes));
    let too_large = || UnpackFailure::TooLarge { bytes: bounds.bytes, entries: bounds.entries };
    let damaged = |error: io::Error| match error.get_ref() {
        Some(inner) if inner.is::<crate::decompress::Cancelled>() => UnpackFailure::Cancelled,
        Some(inner) if inner.is::<bounded::Exhausted>() => too_large(),
        _ => UnpackFailure::Archive(error),
    };
    let mut count = 0;
    while let Some(entry) = archive.next().map_err(|error| whole(damaged(error)))? {
        if cancel.is_cancelled() {
            return Err(whole(UnpackFailure::Cancelled));
        }
        let fail = |failure| UnpackError {
            entry: String::from_utf8_lossy(&entry.name).chars().take(500).collect(),
            failure: match failure {
                UnpackFailure::Archive(error) => damaged(error),
                other => other,
            },
        };
        count += 1;
        if count > bounds.entries {
            return Err(fail(too_large()));
        }
        take(&entry, &mut archive).map_err(fail)?;
    }
    // To the end of the compressed file: its own checksum is there.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| whole(damaged(error)))?;
    Ok(())
}

/// Unpacks a whole archive into the existing, private directory `target`, with the care that images need; what is mounted below it is a part
/// of it. How much it may hold is the caller's to bound, by what it lets `reader` give.
///
/// # Errors
/// At the first entry that cannot be unpacked as it is; the caller removes what was unpacked.
pub fn unpack_tree(reader: impl Read, target: &Path, cancel: &CancelToken) -> Result<(), UnpackError> {
    let bounds = Bounds { bytes: u64::MAX / 4, entries: u64::MAX };
    unpack(reader, target, Style::Tree, bounds, cancel).map(drop)
}

#[cfg(test)]
mod tests;
