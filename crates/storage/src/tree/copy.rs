//! A copy of a tree that keeps everything: owners, modes, links, nodes, holes, times, attributes.

use std::{
    collections::HashMap,
    ffi::{CStr, CString, OsStr},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, futimens, mkdirat, mknodat, utimensat},
    unistd::{linkat, symlinkat},
};

use super::{
    Entry, Failure, TreeError, Visitor,
    attributes::{copy_attributes, times},
    content::{Ways, copy_content},
    open_directory, walk,
    walk::{DIRECTORY, Identity, identity},
};

/// What a copy made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files of all kinds, directories not.
    pub files: u64,
    /// True when the content is shared with the source.
    pub reflinked: bool,
}

/// A file with several names, until all are seen.
struct Linked {
    first: PathBuf,
    left: u64,
}

struct Copier<'a> {
    /// The top of the copy; never moves.
    top: OwnedFd,
    /// The directory being filled, and what the ones above it are.
    current: OwnedFd,
    above: Vec<Identity>,
    relative: PathBuf,
    excluded: &'a [&'a str],
    links: HashMap<Identity, Linked>,
    ways: Ways,
    copied: Copied,
}

/// Copies the content of the directory `from` into the existing, private directory `to`, without the names `excluded` at its
/// top. The attributes of `to` itself stay.
///
/// # Errors
/// The first failure, with the path in the source. `to` then holds a part.
pub(crate) fn copy_tree(from: &Path, to: &Path, excluded: &[&str]) -> Result<Copied, TreeError> {
    let top = open_directory(to)?;
    let current = open_directory(to)?;
    let mut copier = Copier {
        top,
        current,
        above: Vec::new(),
        relative: PathBuf::new(),
        excluded,
        links: HashMap::new(),
        ways: Ways::default(),
        copied: Copied::default(),
    };
    walk(from, &mut copier)?;
    copier.copied.reflinked = copier.ways.reflink && copier.copied.files > 0;
    Ok(copier.copied)
}

impl Copier<'_> {
    fn is_excluded(&self, entry: &Entry<'_>) -> bool {
        entry.depth == 0 && self.excluded.iter().any(|name| name.as_bytes() == entry.name.to_bytes())
    }

    /// Makes another name for a file that was copied already. False when this is its first name.
    fn link(&mut self, entry: &Entry<'_>) -> Result<bool, Failure> {
        let key = identity(entry.stat);
        let Some(linked) = self.links.get_mut(&key) else { return Ok(false) };
        linkat(&self.top, &linked.first, &self.current, entry.name, AtFlags::empty()).map_err(Failure::new("copy the hard link"))?;
        linked.left -= 1;
        if linked.left == 0 {
            self.links.remove(&key);
        }
        Ok(true)
    }

    fn regular(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let from = openat(entry.directory, entry.name, read, Mode::empty()).map_err(Failure::new("open"))?;
        let stat = fstat(&from).map_err(Failure::new("examine"))?;
        if identity(&stat) != identity(entry.stat) {
            return Err(Failure::because("copy the replaced file", Errno::ESTALE));
        }
        let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let to = openat(&self.current, entry.name, write, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Failure::new("copy"))?;
        copy_content(&from, &stat, &to, &mut self.ways).map_err(Failure::new("copy the content of"))?;
        copy_attributes(&from, &stat, &to)?;
        let (accessed, changed) = times(&stat);
        futimens(&to, &accessed, &changed).map_err(Failure::new("set the times of"))
    }

    fn special(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        if entry.kind() == SFlag::S_IFLNK {
            let target = readlinkat(entry.directory, entry.name).map_err(Failure::new("read the link"))?;
            symlinkat(target.as_os_str(), &self.current, entry.name).map_err(Failure::new("copy the link"))?;
        } else {
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            mknodat(&self.current, entry.name, entry.kind(), mode, entry.stat.st_rdev).map_err(Failure::new("copy the node"))?;
        }
        let from = open_inode(entry.directory, entry.name)?;
        let to = open_inode(self.current.as_fd(), entry.name)?;
        copy_attributes(&from, entry.stat, &to)?;
        let (accessed, changed) = times(entry.stat);
        utimensat(&self.current, entry.name, &accessed, &changed, UtimensatFlags::NoFollowSymlink).map_err(Failure::new("set the times of"))
    }
}

/// Opens a file without its content, whatever it is.
pub(crate) fn open_inode(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Failure> {
    openat(directory, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).map_err(Failure::new("open"))
}

impl Visitor for Copier<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        if self.is_excluded(entry) || self.link(entry)? {
            return Ok(());
        }
        let result = if entry.kind() == SFlag::S_IFREG { self.regular(entry) } else { self.special(entry) };
        match result {
            // Only the source can lack it: the copy's directory is private.
            Err(failure) if failure.source.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
            other => other?,
        }
        self.copied.files += 1;
        if entry.stat.st_nlink > 1 {
            let first = self.relative.join(OsStr::from_bytes(entry.name.to_bytes()));
            self.links.insert(identity(entry.stat), Linked { first, left: entry.stat.st_nlink - 1 });
        }
        Ok(())
    }

    fn enter(&mut self, entry: &Entry<'_>) -> Result<bool, Failure> {
        if self.is_excluded(entry) {
            return Ok(false);
        }
        mkdirat(&self.current, entry.name, Mode::S_IRWXU).map_err(Failure::new("copy the directory"))?;
        let child = openat(&self.current, entry.name, DIRECTORY, Mode::empty()).map_err(Failure::new("open the copy of"))?;
        self.above.push(identity(&fstat(&self.current).map_err(Failure::new("examine"))?));
        self.relative.push(OsStr::from_bytes(entry.name.to_bytes()));
        self.current = child;
        Ok(true)
    }

    fn leave(&mut self, directory: BorrowedFd<'_>, stat: &FileStat, depth: usize) -> Result<(), Failure> {
        if depth == 0 {
            return Ok(());
        }
        copy_attributes(&directory, stat, &self.current)?;
        let (accessed, changed) = times(stat);
        futimens(&self.current, &accessed, &changed).map_err(Failure::new("set the times of"))?;
        let up = openat(&self.current, CString::from(c"..").as_c_str(), DIRECTORY, Mode::empty()).map_err(Failure::new("leave"))?;
        let found = identity(&fstat(&up).map_err(Failure::new("examine"))?);
        if self.above.pop() != Some(found) {
            return Err(Failure::because("return from the copy of", Errno::ESTALE));
        }
        self.relative.pop();
        self.current = up;
        Ok(())
    }
}
