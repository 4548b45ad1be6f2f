//! Removal of a tree of any depth with few descriptors, following nothing.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{openat, renameat},
    sys::stat::{FileStat, Mode, fstat},
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{TreeError, open_directory, walk::DIRECTORY};

/// Directories deeper than this are moved to the top of what is being removed, and removed from there.
const MAX_DEPTH: usize = 32;
/// Names that are read before they are removed.
const BATCH: usize = 1024;

struct Remover {
    top: OwnedFd,
    device: u64,
    path: PathBuf,
    moved: u64,
}

/// Removes the directory `path` with everything in it; that it, or a part, is already gone is success.
///
/// # Errors
/// Names the directory in question; [`libc::EXDEV`] when a file system is mounted inside (it is not entered).
pub(crate) fn remove_tree(path: &Path) -> Result<(), TreeError> {
    let top = match open_directory(path) {
        Ok(top) => top,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // A file or a link in its place.
        Err(error) if matches!(error.source.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TreeError::new("remove", path, error)),
                _ => Ok(()),
            };
        }
        Err(error) => return Err(error),
    };
    let fail = |errno: Errno| TreeError::new("remove", path, errno);
    let stat: FileStat = fstat(&top).map_err(fail)?;
    let mut remover =
        Remover { top: top.try_clone().map_err(|e| TreeError::new("remove", path, e))?, device: stat.st_dev, path: path.into(), moved: 0 };
    // What was too deep is at the top now, MAX_DEPTH levels less deep each time.
    let mut before = u64::MAX;
    while before != remover.moved {
        before = remover.moved;
        remover.empty(&top, 0).map_err(|(source, at)| TreeError::new("remove", at, source))?;
    }
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(TreeError::new("remove", path, error)),
        _ => Ok(()),
    }
}

impl Remover {
    fn empty(&mut self, directory: &OwnedFd, depth: usize) -> Result<(), (Errno, PathBuf)> {
        loop {
            let names = batch(directory).map_err(|e| (e, self.path.clone()))?;
            if names.is_empty() {
                return Ok(());
            }
            let mut progress = false;
            for name in &names {
                // Moved directories appear at the top while it is read: the next round takes them.
                progress |= self.remove(directory, name, depth).map_err(|(errno, at)| (errno, at.unwrap_or_else(|| self.place(name))))?;
            }
            if !progress {
                return Ok(());
            }
        }
    }

    fn place(&self, name: &CStr) -> PathBuf {
        self.path.join("…").join(OsStr::from_bytes(name.to_bytes()))
    }

    /// Removes one entry. False when it is gone already.
    fn remove(&mut self, directory: &OwnedFd, name: &CStr, depth: usize) -> Result<bool, (Errno, Option<PathBuf>)> {
        let bare = |errno| (errno, None);
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => return Ok(true),
            Err(Errno::ENOENT) => return Ok(false),
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => return Err(bare(errno)),
        }
        if depth >= MAX_DEPTH {
            self.moved += 1;
            let fresh = format!(".deep-{}-{}", std::process::id(), self.moved);
            return match renameat(directory, name, &self.top, fresh.as_str()) {
                Ok(()) => Ok(true),
                Err(Errno::ENOENT) => Ok(false),
                // A leftover of a killed removal with the same process id: the next number is free.
                Err(Errno::EEXIST | Errno::ENOTEMPTY) => Ok(true),
                Err(errno) => Err(bare(errno)),
            };
        }
        let child = match openat(directory, name, DIRECTORY, Mode::empty()) {
            Ok(child) => child,
            Err(Errno::ENOENT) => return Ok(false),
            // Not a directory: so the file itself may not be removed (immutable).
            Err(Errno::ENOTDIR | Errno::ELOOP) => return Err(bare(Errno::EPERM)),
            Err(errno) => return Err(bare(errno)),
        };
        if fstat(child.as_fd()).map_err(bare)?.st_dev != self.device {
            return Err(bare(Errno::EXDEV));
        }
        self.empty(&child, depth + 1).map_err(|(errno, at)| (errno, Some(at)))?;
        match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(bare(errno)),
        }
    }
}

/// The next names of a directory, at most [`BATCH`].
fn batch(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut listing = Dir::from_fd(openat(directory, ".", DIRECTORY, Mode::empty())?)?;
    let mut names = Vec::new();
    for item in listing.iter() {
        let item = item?;
        if !matches!(item.file_name().to_bytes(), b"." | b"..") {
            names.push(item.file_name().to_owned());
        }
        if names.len() == BATCH {
            break;
        }
    }
    Ok(names)
}

/// A mount point at or below `path` in this mount namespace.
pub(crate) fn mount_below(path: &Path) -> Option<PathBuf> {
    let table = std::fs::read("/proc/thread-self/mountinfo").ok()?;
    table.split(|&b| b == b'\n').find_map(|line| {
        let field = line.split(|&b| b == b' ').nth(4)?;
        let place = PathBuf::from(OsStr::from_bytes(&unescape(field)));
        place.starts_with(path).then_some(place)
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).filter(|d| *first == b'\\' && d.iter().all(|b| (b'0'..b'8').contains(b)));
        match digits {
            Some(&[a, b, c]) => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}
