//! Owner, mode, times and extended attributes of files reached by descriptors.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::{
        stat::{FchmodatFlags, FileStat, Mode, fchmodat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchownat},
};

use super::Failure;

/// Bound to the inode that they are on; a copy would be wrong.
pub(super) const NOT_COPIED: [&str; 2] = ["security.evm", "security.ima"];

/// A path to the inode of a descriptor, which may be one opened with `O_PATH` (a link or a device, then not what it means).
pub(crate) fn inode_path(fd: &impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()))
}

/// Names of the extended attributes of the inode at `path`; none where the file system has none.
pub(crate) fn list_attributes(path: &Path) -> io::Result<Vec<OsString>> {
    match xattr::list_deref(path) {
        Ok(names) => Ok(names.collect()),
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// An extended attribute, or `None`.
pub(crate) fn get_attribute(path: &Path, name: impl AsRef<OsStr>) -> io::Result<Option<Vec<u8>>> {
    match xattr::get_deref(path, name) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        other => other,
    }
}

/// Sets an extended attribute.
pub(crate) fn set_attribute(path: &Path, name: impl AsRef<OsStr>, value: &[u8]) -> io::Result<()> {
    xattr::set_deref(path, name, value)
}

/// Copies owner, mode and extended attributes to `to`. The order matters: a change of owner clears set-id bits and
/// capabilities.
pub(crate) fn copy_attributes(from: &impl AsFd, stat: &FileStat, to: &impl AsFd) -> Result<(), Failure> {
    let (source, target) = (inode_path(from), inode_path(to));
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).map_err(Failure::new("set the owner of"))?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777);
        fchmodat(nix::fcntl::AT_FDCWD, &target, mode, FchmodatFlags::FollowSymlink).map_err(Failure::new("set the mode of"))?;
    }
    for name in list_attributes(&source).map_err(Failure::new("list extended attributes of"))? {
        if NOT_COPIED.iter().any(|skipped| name.as_bytes() == skipped.as_bytes()) {
            continue;
        }
        if let Some(value) = get_attribute(&source, &name).map_err(Failure::new("read an extended attribute of"))? {
            set_attribute(&target, &name, &value).map_err(Failure::new("set an extended attribute of"))?;
        }
    }
    Ok(())
}

/// Last access and last change of content.
pub(crate) fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

/// True for errors that mean "this way of copying does not work between these files".
pub(crate) fn is_unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::EOPNOTSUPP | Errno::EXDEV | Errno::ENOTTY | Errno::ENOSYS | Errno::EINVAL)
}
