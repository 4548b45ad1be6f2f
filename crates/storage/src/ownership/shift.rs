//! Moving every id of a tree into an instance's range and back.
//!
//! Repeatable after a kill at any point: an id that is where it should be stays. A change of owner makes the kernel clear
//! set-id bits and file capabilities, so those of a file are written to its attribute `trusted.triton.shift` first (which
//! no guest can set) and restored from there by whoever comes next.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat},
    unistd::{Gid, Uid, fchownat},
};
use triton_files::steps::reached;
use triton_types::IdRange;

use super::{
    acl::{self, Acl},
    capability,
};
use crate::tree::{self, Entry, Failure, TreeError, Visitor, get_attribute, inode_path, set_attribute, walk};

const JOURNAL: &str = "trusted.triton.shift";
const CAPABILITY: &str = "security.capability";
const ACLS: [&str; 2] = ["system.posix_acl_access", "system.posix_acl_default"];

/// A tree could not be shifted.
#[derive(Debug, thiserror::Error)]
pub enum ShiftError {
    /// The range overlaps the ids of images, or its end is beyond the last id.
    #[error("ids from {base} ({size} of them) cannot be an instance's: they must lie above those of images and below 4294967295", base = .0.base, size = .0.size)]
    Range(IdRange),
    /// A file could not be changed, or belongs to an id that is neither an image's nor in the range.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

#[derive(Clone, Copy)]
struct Shifter {
    ids: IdRange,
    back: bool,
}

/// Gives the tree at `root` to the range: guest id `n` becomes `base + n` in owners, ACLs and file capabilities.
///
/// # Errors
/// Names the file and the id that is neither below `size` nor in the range; what was done until then stays, and repeating
/// goes on from there.
pub fn shift(root: &Path, ids: IdRange) -> Result<(), ShiftError> {
    run(root, ids, false)
}

/// The inverse of [`shift`].
///
/// # Errors
/// As [`shift`].
pub fn unshift(root: &Path, ids: IdRange) -> Result<(), ShiftError> {
    run(root, ids, true)
}

fn run(root: &Path, ids: IdRange, back: bool) -> Result<(), ShiftError> {
    // u32::MAX means "no change" to chown(2).
    if ids.size == 0 || ids.base < ids.size || ids.base.checked_add(ids.size).is_none_or(|end| end == u32::MAX) {
        return Err(ShiftError::Range(ids));
    }
    reached("storage.shift.begun");
    walk(root, &mut Shifter { ids, back })?;
    reached("storage.shift.done");
    Ok(())
}

impl Shifter {
    fn map(&self, id: u32) -> Result<u32, Failure> {
        let IdRange { base, size } = self.ids;
        let inside = id.checked_sub(base).filter(|offset| *offset < size);
        match (self.back, inside) {
            (false, None) if id < size => Ok(base + id),
            (false, Some(_)) => Ok(id),
            (true, Some(offset)) => Ok(offset),
            (true, None) if id < size => Ok(id),
            _ => {
                let text = format!(
                    "id {id} is neither one of the image (0 to {}) nor of the instance ({base} to {})",
                    size - 1,
                    base + (size - 1)
                );
                Err(Failure { action: "change the owner of", source: io::Error::new(io::ErrorKind::InvalidData, text) })
            }
        }
    }

    fn capability(&self, value: &[u8]) -> Vec<u8> {
        let IdRange { base, size } = self.ids;
        if self.back { capability::unshifted(value, base, size) } else { capability::shifted(value, base, size) }
    }

    fn change(&self, inode: &impl AsFd, stat: &FileStat) -> Result<(), Failure> {
        let path = inode_path(inode);
        let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        if kind != SFlag::S_IFLNK {
            self.change_acls(&path)?;
        }
        // The kernel keeps set-id bits and capabilities of nothing but directories, and only regular files matter here.
        let restore = if kind == SFlag::S_IFREG { self.journal(&path, stat)? } else { None };
        let (uid, gid) = (self.map(stat.st_uid)?, self.map(stat.st_gid)?);
        if (uid, gid) != (stat.st_uid, stat.st_gid) {
            fchownat(inode, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::AT_EMPTY_PATH)
                .map_err(Failure::new("change the owner of"))?;
            reached("storage.shift.owner-changed");
        }
        if let Some(restore) = restore {
            restore.apply(&path)?;
        }
        Ok(())
    }

    fn change_acls(&self, path: &Path) -> Result<(), Failure> {
        for name in ACLS {
            let Some(value) = get_attribute(path, name).map_err(Failure::new("read the ACL of"))? else { continue };
            match acl::map(&value, |id| self.map(id)) {
                Some(Acl::Changed(new)) => set_attribute(path, name, &new).map_err(Failure::new("change the ACL of"))?,
                Some(Acl::Refused(failure)) => return Err(failure),
                Some(Acl::Unchanged) | None => {}
            }
        }
        Ok(())
    }

    /// Notes on the file itself what a change of owner will clear, unless a killed run did.
    fn journal(&self, path: &Path, stat: &FileStat) -> Result<Option<Restore>, Failure> {
        if let Some(value) = get_attribute(path, JOURNAL).map_err(Failure::new("read the shift's journal on"))? {
            // One that is cut was never complete: nothing had been cleared then.
            if let Some(restore) = Restore::parse(&value) {
                // Mapped again, for the killed run may have gone the other way; a mapped value stays.
                let capability = if restore.capability.is_empty() { Vec::new() } else { self.capability(&restore.capability) };
                return Ok(Some(Restore { capability, ..restore }));
            }
        }
        let value = get_attribute(path, CAPABILITY).map_err(Failure::new("read the capabilities of"))?;
        let capability = value.as_ref().map(|value| self.capability(value)).unwrap_or_default();
        let set_id = stat.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0;
        let moves = self.map(stat.st_uid)? != stat.st_uid || self.map(stat.st_gid)? != stat.st_gid;
        let changes = value.is_some_and(|value| value != capability);
        if !(changes || moves && (set_id || !capability.is_empty())) {
            return Ok(None);
        }
        let restore = Restore { mode: stat.st_mode & 0o7777, capability };
        set_attribute(path, JOURNAL, &restore.bytes()).map_err(Failure::new("note set-id bits and capabilities on"))?;
        reached("storage.shift.journalled");
        Ok(Some(restore))
    }
}

/// What is restored after a change of owner.
struct Restore {
    mode: u32,
    capability: Vec<u8>,
}

impl Restore {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.mode.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.capability);
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mode = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?) & 0o7777;
        Some(Self { mode, capability: bytes[4..].to_vec() })
    }

    fn apply(&self, path: &Path) -> Result<(), Failure> {
        let mode = Mode::from_bits_truncate(self.mode);
        fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink).map_err(Failure::new("restore the mode of"))?;
        reached("storage.shift.mode-restored");
        if !self.capability.is_empty() {
            set_attribute(path, CAPABILITY, &self.capability).map_err(Failure::new("restore the capabilities of"))?;
        }
        reached("storage.shift.capability-restored");
        xattr::remove_deref(path, JOURNAL).map_err(Failure::new("remove the shift's journal from"))
    }
}

impl Visitor for Shifter {
    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        let inode: OwnedFd = tree::open_inode(entry.directory, entry.name)?;
        // Again by descriptor: a second name of a file that was changed under its first one is up to date so.
        let stat = nix::sys::stat::fstat(&inode).map_err(Failure::new("examine"))?;
        self.change(&inode, &stat)
    }

    fn enter(&mut self, _: &Entry<'_>) -> Result<bool, Failure> {
        Ok(true)
    }

    fn leave(&mut self, directory: BorrowedFd<'_>, stat: &FileStat, _: usize) -> Result<(), Failure> {
        self.change(&directory, stat)
    }
}
