//! How much space a tree takes.

use std::{collections::HashSet, os::fd::BorrowedFd, path::Path};

use nix::sys::stat::FileStat;

use super::{
    Entry, Failure, TreeError, Visitor, walk,
    walk::{Identity, identity},
};

#[derive(Default)]
struct Measure {
    blocks: u64,
    linked: HashSet<Identity>,
}

impl Measure {
    fn count(&mut self, stat: &FileStat) {
        self.blocks += u64::try_from(stat.st_blocks).unwrap_or(0);
    }
}

impl Visitor for Measure {
    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        if entry.stat.st_nlink == 1 || self.linked.insert(identity(entry.stat)) {
            self.count(entry.stat);
        }
        Ok(())
    }

    fn enter(&mut self, _: &Entry<'_>) -> Result<bool, Failure> {
        Ok(true)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, stat: &FileStat, _: usize) -> Result<(), Failure> {
        self.count(stat);
        Ok(())
    }
}

/// Bytes allocated to the tree at `path`; a file with several names counts once, shared blocks count in full.
///
/// # Errors
/// When a part cannot be examined.
pub(crate) fn measure(path: &Path) -> Result<u64, TreeError> {
    let mut measure = Measure::default();
    walk(path, &mut measure)?;
    Ok(measure.blocks * 512)
}
