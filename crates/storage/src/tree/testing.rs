//! Trees with everything in them, for tests: made, described, and removed again whatever happens.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::stat::{Mode, SFlag, makedev, mknod},
};

/// A directory of a test's own, removed with everything in it.
pub(crate) struct Scratch(pub PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("triton-storage-{}-{name}", std::process::id()));
        let _ = super::remove_tree(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn join(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = super::remove_tree(&self.0);
    }
}

/// Runs `test` on a thread with a mount namespace of its own, with a tmpfs of `size` bytes on `place`. All of it ends with
/// the thread.
pub(crate) fn with_tmpfs<T: Send>(place: &Path, size: u64, test: impl FnOnce() -> T + Send) -> T {
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = umount2(self.0, MntFlags::MNT_DETACH);
        }
    }
    fs::create_dir_all(place).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), Some(format!("size={size}").as_str())).unwrap();
            let _mounted = Mounted(place);
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// `security.capability`: net_bind_service, effective, version 2.
pub(crate) const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `system.posix_acl_access`: user::rw-, user:1000:r--, group::r--, group:50:rw-, mask::rw-, other::r--.
pub(crate) fn acl(user: u32, group: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    let undefined = u32::MAX;
    for (tag, permissions, id) in
        [(1u16, 6u16, undefined), (2, 4, user), (4, 4, undefined), (8, 6, group), (16, 6, undefined), (32, 4, undefined)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Fills `top` with every kind of file there is.
pub(crate) fn fill(top: &Path) {
    let own = |path: &Path, uid, gid, mode| {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap();
        if !path.is_symlink() {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    for (directory, uid, mode) in
        [("bin", 0, 0o755), ("home", 0, 0o711), ("home/ann", 1000, 0o2750), ("tmp", 0, 0o1777), ("empty", 65535, 0o700)]
    {
        fs::create_dir(top.join(directory)).unwrap();
        own(&top.join(directory), uid, uid, mode);
    }
    fs::write(top.join("bin/su"), "set-uid").unwrap();
    own(&top.join("bin/su"), 0, 0, 0o4755);
    fs::write(top.join("bin/wall"), "set-gid").unwrap();
    own(&top.join("bin/wall"), 0, 5, 0o2755);
    fs::write(top.join("bin/ping"), "capable").unwrap();
    own(&top.join("bin/ping"), 0, 0, 0o755);
    xattr::set(top.join("bin/ping"), "security.capability", &CAPABILITY).unwrap();
    fs::write(top.join("home/ann/notes"), "with attributes").unwrap();
    own(&top.join("home/ann/notes"), 1000, 1000, 0o640);
    xattr::set(top.join("home/ann/notes"), "user.comment", b"hello").unwrap();
    xattr::set(top.join("home/ann/notes"), "system.posix_acl_access", &acl(1000, 50)).unwrap();
    xattr::set(top.join("home/ann"), "system.posix_acl_default", &acl(1001, 51)).unwrap();
    xattr::set(top.join("home"), "trusted.note", b"on a directory").unwrap();
    fs::hard_link(top.join("home/ann/notes"), top.join("tmp/other-name")).unwrap();
    fs::hard_link(top.join("bin/su"), top.join("bin/sudo")).unwrap();
    symlink("/etc/passwd", top.join("home/ann/link")).unwrap();
    own(&top.join("home/ann/link"), 1000, 1000, 0);
    symlink("nowhere/at/all", top.join("dangling")).unwrap();
    let node = |name: &str, kind, device| mknod(&top.join(name), kind, Mode::from_bits_truncate(0o620), device).unwrap();
    node("pipe", SFlag::S_IFIFO, 0);
    node("null", SFlag::S_IFCHR, makedev(1, 3));
    node("loop", SFlag::S_IFBLK, makedev(7, 77));
    own(&top.join("pipe"), 1000, 5, 0o620);
    drop(UnixListener::bind(top.join("socket")).unwrap());
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"middle", 8 << 20).unwrap();
    sparse.set_len(16 << 20).unwrap();
    fs::write(top.join("name with \n newline \\ and \u{e9}"), "x").unwrap();
    fs::write(top.join("large"), vec![7; 3 << 20]).unwrap();
    let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for path in ["bin/su", "home/ann/notes", "bin", "home"] {
        fs::File::open(top.join(path)).unwrap().set_modified(old).unwrap();
    }
}

/// What can be told about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub mode: u32,
    pub owner: (u32, u32),
    pub names: u64,
    pub device: u64,
    pub modified: (i64, i64),
    pub content: Option<Vec<u8>>,
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// Everything about every file below `top` (and `top` itself, without its names and time).
pub(crate) fn describe(top: &Path) -> BTreeMap<PathBuf, Described> {
    let mut all = BTreeMap::new();
    let mut pending = vec![top.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_file() {
            Some(fs::read(&path).unwrap())
        } else if kind.is_symlink() {
            Some(fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes())
        } else {
            None
        };
        if kind.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let attributes = xattr::list(&path).unwrap().map(|name| {
            let value = xattr::get(&path, &name).unwrap().unwrap_or_default();
            (name.into_string().unwrap(), value)
        });
        let is_node = kind.is_block_device() || kind.is_char_device();
        let described = Described {
            mode: meta.mode(),
            owner: (meta.uid(), meta.gid()),
            names: if kind.is_dir() { 0 } else { meta.nlink() },
            device: if is_node { meta.rdev() } else { 0 },
            modified: if path == top { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) },
            content,
            attributes: attributes.collect(),
        };
        all.insert(path.strip_prefix(top).unwrap().to_owned(), described);
    }
    all
}
