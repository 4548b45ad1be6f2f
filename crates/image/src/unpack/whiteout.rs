//! Whiteouts: how a layer says that something of the layers below it is gone.
//!
//! `.wh.NAME` removes `NAME`, `.wh..wh..opq` all of its directory. They speak of the layers below only, wherever in the archive they
//! stand: so a layer is read twice, first for them.

use std::{
    ffi::{OsStr, OsString},
    io::Read,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::OFlag,
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

use super::{
    Bounds, Style, UnpackError, UnpackFailure, each_entry,
    names::Mapping,
    target::{Target, system},
    whole,
};
use crate::CancelToken;

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Of other union file systems, without meaning in a layer.
const FOREIGN: &[u8] = b".wh..wh.";

/// What a layer removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Whiteout {
    /// This file, or this directory with all that is in it.
    Remove(PathBuf),
    /// All that is in this directory.
    Empty(PathBuf),
    /// Nothing.
    Nothing,
}

/// The whiteout that an entry with this path is, if it is one.
pub(super) fn of(path: &Path) -> Result<Option<Whiteout>, UnpackFailure> {
    let Some(name) = path.file_name().map(OsStr::as_bytes).filter(|name| name.starts_with(PREFIX)) else { return Ok(None) };
    let parent = path.parent().unwrap_or(Path::new(""));
    if name == OPAQUE {
        return Ok(Some(Whiteout::Empty(parent.to_owned())));
    }
    if name.starts_with(FOREIGN) {
        return Ok(Some(Whiteout::Nothing));
    }
    match &name[PREFIX.len()..] {
        b"" | b"." | b".." => Err(UnpackFailure::Name("removes something outside of its directory")),
        rest => Ok(Some(Whiteout::Remove(parent.join(OsStr::from_bytes(rest))))),
    }
}

/// The whiteouts of a layer.
///
/// # Errors
/// At the first entry with a name that leads out, and when the archive is damaged or too large.
pub(crate) fn scan(reader: impl Read, bounds: Bounds, cancel: &CancelToken) -> Result<Vec<Whiteout>, UnpackError> {
    let mapping = Mapping::new("");
    let mut found = Vec::new();
    each_entry(reader, bounds, cancel, |entry, _| {
        if let Some(path) = mapping.map(&entry.name)? {
            found.extend(of(&path)?.filter(|whiteout| *whiteout != Whiteout::Nothing));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Removes from the directory `root` what the whiteouts name. What is not there need not be removed.
///
/// # Errors
/// When a directory on the way is a link, and what the file system says.
pub(crate) fn apply(root: &Path, whiteouts: &[Whiteout], cancel: &CancelToken) -> Result<(), UnpackError> {
    let target = Target::open(root, Style::Layer).map_err(whole)?;
    for whiteout in whiteouts {
        if cancel.is_cancelled() {
            return Err(whole(UnpackFailure::Cancelled));
        }
        let (path, result) = match whiteout {
            Whiteout::Remove(path) => (path, remove_path(&target, path)),
            Whiteout::Empty(path) => (path, empty_path(&target, path)),
            Whiteout::Nothing => continue,
        };
        result.map_err(|failure| UnpackError { entry: path.to_string_lossy().chars().take(500).collect(), failure })?;
    }
    Ok(())
}

fn is_absent(failure: &UnpackFailure) -> bool {
    matches!(failure, UnpackFailure::System(_, error) if error.raw_os_error() == Some(Errno::ENOENT as i32))
}

fn remove_path(target: &Target, path: &Path) -> Result<(), UnpackFailure> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    match target.directory(parent, false) {
        Err(failure) if is_absent(&failure) => Ok(()),
        other => remove(other?.as_fd(), name),
    }
}

fn empty_path(target: &Target, path: &Path) -> Result<(), UnpackFailure> {
    match target.directory(path, false) {
        Err(failure) if is_absent(&failure) => Ok(()),
        other => empty(other?.as_fd()),
    }
}

/// Removes the file `name`, or the directory with all that is in it, following no link.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), UnpackFailure> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(system("remove a file of a layer below")(errno)),
    }
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::openat(parent, name, flags, Mode::empty()).map_err(system("open a directory of a layer below"))?;
    empty(directory.as_fd())?;
    unlinkat(parent, name, UnlinkatFlags::RemoveDir).map_err(system("remove a directory of a layer below"))
}

fn empty(directory: BorrowedFd<'_>) -> Result<(), UnpackFailure> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, ".", flags, Mode::empty()).map_err(system("list a directory of a layer below"))?;
    let mut names: Vec<OsString> = Vec::new();
    for entry in listing.iter() {
        let entry = entry.map_err(system("list a directory of a layer below"))?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name != "." && name != ".." {
            names.push(name.to_owned());
        }
    }
    drop(listing);
    names.iter().try_for_each(|name| remove(directory, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_whiteouts_are_understood_and_cannot_reach_out() {
        let of = |path: &str| of(Path::new(path)).unwrap();
        assert_eq!(of("etc/.wh.hosts"), Some(Whiteout::Remove("etc/hosts".into())));
        assert_eq!(of(".wh..wh..opq"), Some(Whiteout::Empty("".into())));
        assert_eq!(of("var/.wh..wh.plnk"), Some(Whiteout::Nothing));
        assert_eq!(of("etc/.whatever"), None);
        for bad in ["etc/.wh.", "etc/.wh..", "etc/.wh..."] {
            assert!(super::of(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
