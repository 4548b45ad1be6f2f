//! Visiting every file of a tree with a bounded number of descriptors, however deep it is.

use std::{
    ffi::{CStr, CString, OsStr},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fstat, fstatat},
};

use super::TreeError;

/// Device and inode number.
pub(crate) type Identity = (u64, u64);

pub(crate) fn identity(stat: &FileStat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Why a visitor stopped: what it did, and the reason.
pub(crate) struct Failure {
    pub action: &'static str,
    pub source: io::Error,
}

impl Failure {
    pub(crate) fn new<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self { action, source: source.into() }
    }

    pub(crate) fn because(action: &'static str, errno: Errno) -> Self {
        Self { action, source: errno.into() }
    }
}

/// One file on the way.
pub(crate) struct Entry<'a> {
    /// The directory that it is in.
    pub directory: BorrowedFd<'a>,
    /// Its name there.
    pub name: &'a CStr,
    /// What it was when it was found; links are not followed.
    pub stat: &'a FileStat,
    /// 0 for what is directly in the top directory.
    pub depth: usize,
}

impl Entry<'_> {
    /// The kind of file.
    pub(crate) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode & SFlag::S_IFMT.bits())
    }
}

/// What is done to each file.
pub(crate) trait Visitor {
    /// A file that is no directory.
    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Failure>;
    /// A directory, before its content; false leaves the content out.
    fn enter(&mut self, entry: &Entry<'_>) -> Result<bool, Failure>;
    /// A directory after its content, the top one (depth 0) included.
    fn leave(&mut self, directory: BorrowedFd<'_>, stat: &FileStat, depth: usize) -> Result<(), Failure>;
}

/// Flags for opening a directory that is no link.
pub(crate) const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens the directory at `path`, whose last component must not be a link.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd, TreeError> {
    nix::fcntl::open(path, DIRECTORY, Mode::empty()).map_err(|e| TreeError::new("open the directory", path, e))
}

struct Frame {
    name: CString,
    stat: FileStat,
    pending: Vec<CString>,
}

/// Walks the tree at `path`. Directories come after the files beside them. A file that vanishes meanwhile is passed over.
///
/// Only names of directories are kept in memory, and one descriptor: the way up is `..`, checked against where it came from.
///
/// # Errors
/// The first failure with its path; also when a file system is mounted inside, or directories are moved during the walk.
pub(crate) fn walk(path: &Path, visitor: &mut dyn Visitor) -> Result<(), TreeError> {
    let mut current = open_directory(path)?;
    let stat = fstat(&current).map_err(|e| TreeError::new("examine", path, e))?;
    let device = stat.st_dev;
    let mut frames = vec![Frame { name: CString::default(), stat, pending: Vec::new() }];
    scan(&current, &mut frames, path, visitor)?;
    loop {
        let depth = frames.len() - 1;
        let Some(frame) = frames.last_mut() else { return Ok(()) };
        if let Some(name) = frame.pending.pop() {
            let fail = |failure: Failure, frames: &[Frame]| {
                TreeError::new(failure.action, location(path, frames).join(OsStr::from_bytes(name.to_bytes())), failure.source)
            };
            let stat = match fstatat(&current, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::ENOENT) => continue,
                Err(errno) => return Err(fail(Failure::because("examine", errno), &frames)),
            };
            if stat.st_dev != device {
                return Err(fail(Failure::because("enter the mount point", Errno::EXDEV), &frames));
            }
            let entry = Entry { directory: current.as_fd(), name: &name, stat: &stat, depth };
            if !visitor.enter(&entry).map_err(|f| fail(f, &frames))? {
                continue;
            }
            let child = openat(&current, name.as_c_str(), DIRECTORY, Mode::empty())
                .map_err(|e| fail(Failure::because("open the directory", e), &frames))?;
            let opened = fstat(&child).map_err(|e| fail(Failure::because("examine", e), &frames))?;
            if identity(&opened) != identity(&stat) {
                return Err(fail(Failure::because("follow the directory that was replaced", Errno::ESTALE), &frames));
            }
            current = child;
            frames.push(Frame { name, stat, pending: Vec::new() });
            scan(&current, &mut frames, path, visitor)?;
        } else {
            let stat = frame.stat;
            visitor
                .leave(current.as_fd(), &stat, depth)
                .map_err(|failure| TreeError::new(failure.action, location(path, &frames), failure.source))?;
            frames.pop();
            let Some(parent) = frames.last() else { return Ok(()) };
            let fail = |errno| TreeError::new("return from a directory to", location(path, &frames), errno);
            let up = openat(&current, "..", DIRECTORY, Mode::empty()).map_err(fail)?;
            if identity(&fstat(&up).map_err(fail)?) != identity(&parent.stat) {
                return Err(fail(Errno::ESTALE));
            }
            current = up;
        }
    }
}

/// Visits the files of one directory and notes its directories.
fn scan(current: &OwnedFd, frames: &mut [Frame], path: &Path, visitor: &mut dyn Visitor) -> Result<(), TreeError> {
    let read = |errno: Errno, frames: &[Frame]| TreeError::new("read the directory", location(path, frames), errno);
    let listing = openat(current, ".", DIRECTORY, Mode::empty()).map_err(|e| read(e, frames))?;
    let mut listing = Dir::from_fd(listing).map_err(|e| read(e, frames))?;
    let depth = frames.len() - 1;
    let mut directories = Vec::new();
    for item in listing.iter() {
        let item = item.map_err(|e| read(e, frames))?;
        let name = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let fail = |failure: Failure| {
            TreeError::new(failure.action, location(path, frames).join(OsStr::from_bytes(name.to_bytes())), failure.source)
        };
        let stat = match fstatat(current, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => continue,
            Err(errno) => return Err(fail(Failure::because("examine", errno))),
        };
        let entry = Entry { directory: current.as_fd(), name, stat: &stat, depth };
        if entry.kind() == SFlag::S_IFDIR {
            directories.push(name.to_owned());
        } else {
            visitor.file(&entry).map_err(fail)?;
        }
    }
    if let Some(frame) = frames.last_mut() {
        frame.pending = directories;
    }
    Ok(())
}

fn location(path: &Path, frames: &[Frame]) -> PathBuf {
    let mut whole = path.to_owned();
    whole.extend(frames.iter().skip(1).map(|frame| OsStr::from_bytes(frame.name.to_bytes())));
    whole
}
