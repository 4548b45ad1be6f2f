//! The directory tree that an archive is unpacked into, reached by descriptors only.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::{Mode, SFlag, UtimensatFlags, fchmod, fstatat, mkdirat, utimensat},
    sys::time::TimeSpec,
    unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat},
};

use super::{Style, UnpackFailure, whiteout};

/// Owner, mode and time of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attributes {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits with setuid, setgid and sticky.
    pub(super) mode: u32,
    pub(super) mtime: TimeSpec,
}

pub(super) struct Target {
    root: OwnedFd,
    /// The directory used last; archives list files directory by directory.
    last: Option<(PathBuf, OwnedFd)>,
    /// Times of directories, set at the end: making a file in one changes it.
    times: Vec<(PathBuf, TimeSpec)>,
    style: Style,
}

pub(super) fn system(action: &'static str) -> impl Fn(Errno) -> UnpackFailure {
    move |errno| match errno {
        Errno::ELOOP | Errno::EXDEV | Errno::ENOTDIR => UnpackFailure::Name("leads through something that is no directory of the image"),
        errno => UnpackFailure::System(action, io::Error::from(errno)),
    }
}

fn how(style: Style) -> OpenHow {
    let within = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(match style {
        Style::Whole(_) | Style::Layer => within | ResolveFlag::RESOLVE_NO_XDEV,
        Style::Tree => within,
    })
}

impl Target {
    pub(super) fn open(root: &Path, style: Style) -> Result<Self, UnpackFailure> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(root, flags, Mode::empty()).map_err(system("open the image's root"))?;
        Ok(Self { root, last: None, times: Vec::new(), style })
    }

    /// The archive is a layer over what is there.
    pub(super) fn is_layered(&self) -> bool {
        self.style == Style::Layer
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The directory that holds `path`, made if it is missing, and the last component.
    pub(super) fn parent(&mut self, path: &Path) -> Result<(OwnedFd, OsString), UnpackFailure> {
        let name = path.file_name().ok_or(UnpackFailure::Name("is empty"))?.to_owned();
        let parent = path.parent().unwrap_or(Path::new(""));
        if !matches!(&self.last, Some((last, _)) if last == parent) {
            self.last = Some((parent.to_owned(), self.directory(parent, true)?));
        }
        let (_, directory) = self.last.as_ref().ok_or(UnpackFailure::Name("is empty"))?;
        let directory = directory.try_clone().map_err(|error| UnpackFailure::System("hold a directory open", error))?;
        Ok((directory, name))
    }

    /// Opens the directory `path`; makes it and those above it when `create` says so (0755, root's).
    pub(super) fn directory(&self, path: &Path, create: bool) -> Result<OwnedFd, UnpackFailure> {
        let clone = || self.root.try_clone().map_err(|error| UnpackFailure::System("hold a directory open", error));
        if path.as_os_str().is_empty() {
            return clone();
        }
        match openat2(&self.root, path, how(self.style)) {
            Err(Errno::ENOENT) if create => {}
            other => return other.map_err(system("enter a directory")),
        }
        let mut directory = clone()?;
        for name in path.iter() {
            directory = match openat2(&directory, name, how(self.style)) {
                Err(Errno::ENOENT) => {
                    mkdirat(&directory, name, Mode::from_bits_truncate(0o755)).map_err(system("make a directory"))?;
                    openat2(&directory, name, how(self.style)).map_err(system("enter a directory"))?
                }
                other => other.map_err(system("enter a directory"))?,
            };
        }
        Ok(directory)
    }

    /// Makes a directory, or takes one that is there; anything else of that name is replaced. Returns it open for reading.
    pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &OsStr) -> Result<File, UnpackFailure> {
        match mkdirat(parent, name, Mode::from_bits_truncate(0o700)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let status = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(system("inspect a directory"))?;
                if SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT != SFlag::S_IFDIR {
                    unlinkat(parent, name, UnlinkatFlags::NoRemoveDir).map_err(system("replace a file"))?;
                    mkdirat(parent, name, Mode::from_bits_truncate(0o700)).map_err(system("make a directory"))?;
                }
            }
            Err(errno) => return Err(system("make a directory")(errno)),
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(parent, name, flags, Mode::empty()).map(File::from).map_err(system("open a directory"))
    }

    /// Removes what is in the place of a new entry. A directory stays, and making the entry fails then; unless the archive is a
    /// layer, which replaces it with all that is in it.
    pub(super) fn clear(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackFailure> {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) if self.is_layered() => {
                // It may be the directory that was used last.
                self.last = None;
                whiteout::remove(parent, name)
            }
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR) => Ok(()),
            Err(errno) => Err(system("replace a file")(errno)),
        }
    }

    /// Owner and mode of an open file or directory: in this order, since the kernel clears setuid bits on a change of owner.
    pub(super) fn own(file: impl AsFd, attributes: &Attributes) -> Result<(), UnpackFailure> {
        let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
        fchown(&file, Some(uid), Some(gid)).map_err(system("set the owner"))?;
        fchmod(&file, Mode::from_bits_truncate(attributes.mode)).map_err(system("set the mode"))
    }

    pub(super) fn remember_time(&mut self, path: &Path, attributes: &Attributes) {
        self.times.push((path.to_owned(), attributes.mtime));
    }

    /// Sets the times of directories, deepest last made first.
    pub(super) fn finish(&mut self) -> Result<(), UnpackFailure> {
        for (path, time) in std::mem::take(&mut self.times).into_iter().rev() {
            let result = match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => {
                    let directory = self.directory(parent, false)?;
                    utimensat(&directory, name, &time, &time, UtimensatFlags::NoFollowSymlink)
                }
                _ => nix::sys::stat::futimens(&self.root, &time, &time),
            };
            match result {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(system("set the time of a directory")(errno)),
            }
        }
        Ok(())
    }
}
