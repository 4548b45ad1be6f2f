//! Writes below a guest's root that the guest cannot divert (design section 9, invariant 3; ruling 51).
//!
//! Every directory on the way must be a real directory, reached by descriptors from the root; the last component is
//! replaced by a new file and a rename, and never followed.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2, renameat},
    sys::stat::{Mode, fchmod, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, fchownat, unlinkat},
};

/// What could not be done to which path of a guest, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path:?} below {}", root.display())]
pub struct SafeRootError {
    action: &'static str,
    root: PathBuf,
    path: PathBuf,
    source: io::Error,
}

/// A directory tree that somebody hostile may write to.
#[derive(Debug)]
pub struct SafeRoot {
    root: OwnedFd,
    path: PathBuf,
    owner: (u32, u32),
}

impl SafeRoot {
    /// Opens the tree at `path`. Files and directories made in it will belong to `owner` (uid, gid as they are on disk).
    ///
    /// # Errors
    /// When `path` is not a directory (a link to one is not).
    pub fn open(path: &Path, owner: (u32, u32)) -> Result<Self, SafeRootError> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open(path, flags, Mode::empty()).map_err(|errno| SafeRootError {
            action: "open",
            root: path.to_owned(),
            path: PathBuf::new(),
            source: errno.into(),
        })?;
        Ok(Self { root, path: path.to_owned(), owner })
    }

    fn error(&self, action: &'static str, path: &Path) -> impl Fn(Errno) -> SafeRootError {
        move |errno| SafeRootError { action, root: self.path.clone(), path: path.to_owned(), source: errno.into() }
    }

    /// Splits into directory and last component; refuses `..` and empty paths.
    fn split<'a>(&self, path: &'a Path) -> Result<(Vec<&'a OsStr>, &'a OsStr), SafeRootError> {
        let mut names = Vec::new();
        for component in path.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => return Err(self.error("use", path)(Errno::EINVAL)),
            }
        }
        let last = names.pop().ok_or_else(|| self.error("use", path)(Errno::EINVAL))?;
        Ok((names, last))
    }

    /// Descends through `names`, each a real directory; makes missing ones when `create` says so.
    fn descend(&self, names: &[&OsStr], create: bool) -> Result<OwnedFd, Errno> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV);
        let mut directory = self.root.try_clone().map_err(|_| Errno::EMFILE)?;
        for name in names {
            directory = match openat2(&directory, *name, how) {
                Err(Errno::ENOENT) if create => {
                    match mkdirat(&directory, *name, Mode::from_bits_truncate(0o755)) {
                        Ok(()) => {
                            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
                            fchownat(&directory, *name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                        }
                        Err(Errno::EEXIST) => {}
                        Err(errno) => return Err(errno),
                    }
                    openat2(&directory, *name, how)?
                }
                other => other?,
            };
        }
        Ok(directory)
    }

    /// Writes `bytes` to `path` with `mode`, making missing directories, replacing whatever the last component is
    /// (a link is replaced, not followed; a directory is refused).
    ///
    /// # Errors
    /// When a directory on the way is a link, a mount point or no directory; and what the file system says.
    pub fn write(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), SafeRootError> {
        self.replace(path.as_ref(), bytes, mode, true)
    }

    /// As [`SafeRoot::write`], without waiting for the disk: for what is written again anyway, and for what the caller makes durable
    /// together with more.
    ///
    /// # Errors
    /// As [`SafeRoot::write`].
    pub fn place(&self, path: impl AsRef<Path>, bytes: &[u8], mode: u32) -> Result<(), SafeRootError> {
        self.replace(path.as_ref(), bytes, mode, false)
    }

    fn replace(&self, path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), SafeRootError> {
        let (names, last) = self.split(path)?;
        let error = self.error("write", path);
        let directory = self.descend(&names, true).map_err(&error)?;
        let temporary = format!(".triton-new-{}", rand::random::<u64>());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = openat(&directory, temporary.as_str(), flags, Mode::from_bits_truncate(0o600)).map_err(&error)?;
        let mut file = File::from(fd);
        let attempt = || -> Result<(), Errno> {
            file.write_all(bytes).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            fchown(file.as_fd(), Some(Uid::from_raw(self.owner.0)), Some(Gid::from_raw(self.owner.1)))?;
            fchmod(file.as_fd(), Mode::from_bits_truncate(mode))?;
            if durable {
                file.sync_all().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
            }
            renameat(&directory, temporary.as_str(), &directory, last)
        };
        let mut attempt = attempt;
        attempt().map_err(|errno| {
            let _ = unlinkat(&directory, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
            error(errno)
        })
    }

    /// Makes the directory `path` and those above it; existing ones stay as they are.
    ///
    /// # Errors
    /// As [`SafeRoot::write`].
    pub fn create_directory(&self, path: impl AsRef<Path>) -> Result<(), SafeRootError> {
        let path = path.as_ref();
        let (mut names, last) = self.split(path)?;
        names.push(last);
        self.descend(&names, true).map(drop).map_err(self.error("create directory", path))
    }

    /// The content of the regular file `path`, at most `limit` bytes of it; `None` if there is no such file.
    ///
    /// # Errors
    /// When any component, the last included, is a link, or the last is no regular file.
    pub fn read(&self, path: impl AsRef<Path>, limit: u64) -> Result<Option<Vec<u8>>, SafeRootError> {
        let path = path.as_ref();
        let (names, last) = self.split(path)?;
        let error = self.error("read", path);
        let directory = match self.descend(&names, false) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(&error)?,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(&directory, last, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(&error)?,
        };
        let file = File::from(fd);
        if !file.metadata().is_ok_and(|m| m.is_file()) {
            return Err(error(Errno::EINVAL));
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(|e| error(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
        Ok(Some(bytes))
    }

    /// True if `path` exists below the root, whatever it is. Links on the way make it false.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let Ok((names, last)) = self.split(path.as_ref()) else { return false };
        self.descend(&names, false).is_ok_and(|d| fstatat(&d, last, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok())
    }

    /// True if `path` is a directory below the root. Links, on the way or in its place, make it false.
    pub fn is_directory(&self, path: impl AsRef<Path>) -> bool {
        let Ok((mut names, last)) = self.split(path.as_ref()) else { return false };
        names.push(last);
        self.descend(&names, false).is_ok()
    }

    /// Removes the file or link `path`; that it is not there is success.
    ///
    /// # Errors
    /// As [`SafeRoot::write`].
    pub fn remove(&self, path: impl AsRef<Path>) -> Result<(), SafeRootError> {
        let path = path.as_ref();
        let (names, last) = self.split(path)?;
        let result = self.descend(&names, false).and_then(|d| unlinkat(&d, last, UnlinkatFlags::NoRemoveDir));
        match result {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.error("remove", path)(errno)),
        }
    }

    /// The raw descriptor of the root, for `/proc/self/fd` paths.
    pub fn as_raw_fd(&self) -> i32 {
        self.root.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    struct Tree(PathBuf);
    impl Tree {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("triton-saferoot-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(path.join("root/etc")).unwrap();
            fs::write(path.join("victim"), "host").unwrap();
            fs::create_dir(path.join("victims")).unwrap();
            Self(path)
        }
        fn root(&self) -> SafeRoot {
            let id = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
            SafeRoot::open(&self.0.join("root"), id).unwrap()
        }
    }
    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_link_in_last_place_is_replaced_and_its_target_stays() {
        let tree = Tree::new("last");
        symlink(tree.0.join("victim"), tree.0.join("root/etc/resolv.conf")).unwrap();
        tree.root().write("/etc/resolv.conf", b"nameserver 8.8.8.8\n", 0o644).unwrap();
        assert_eq!(fs::read_to_string(tree.0.join("victim")).unwrap(), "host");
        assert!(!fs::symlink_metadata(tree.0.join("root/etc/resolv.conf")).unwrap().is_symlink());
    }

    #[test]
    fn a_link_on_the_way_is_refused_whether_absolute_relative_or_dotted() {
        for (name, target) in [("abs", "/tmp"), ("rel", "../victims"), ("self", ".")] {
            let tree = Tree::new(name);
            symlink(target, tree.0.join("root/etc/sub")).unwrap();
            let error = tree.root().write("/etc/sub/file", b"x", 0o644).unwrap_err();
            assert!(error.to_string().contains("etc/sub/file"), "{error}");
            assert!(fs::read_dir(tree.0.join("victims")).unwrap().next().is_none());
        }
        let tree = Tree::new("dots");
        assert!(tree.root().write("/etc/../../victim", b"x", 0o644).is_err());
    }

    #[test]
    fn missing_directories_are_made_and_reading_follows_no_link() {
        let tree = Tree::new("make");
        let root = tree.root();
        root.write("/var/lib/cloud/seed/meta-data", b"a", 0o600).unwrap();
        assert_eq!(root.read("/var/lib/cloud/seed/meta-data", 10).unwrap().unwrap(), b"a");
        assert_eq!(root.read("/nope/x", 10).unwrap(), None);
        symlink(tree.0.join("victim"), tree.0.join("root/etc/secret")).unwrap();
        assert!(root.read("/etc/secret", 10).is_err());
        assert!(root.exists("/etc/secret") && !root.exists("/etc/none"));
    }
}
