//! The pool itself: marker, names, private copies under way, removal.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2},
};
use serde::{Deserialize, Serialize};
use triton_files::{read_json, steps::reached, write_json};
use triton_types::{ImageUuid, InstanceUuid, StorageKind};

use crate::{
    StorageError, TreeError,
    layout::{FINAL, Places},
    tree::{mount_below, remove_tree},
};

const MARKER: &str = ".triton-pool.json";
const DESTROYING: &str = ".destroying-";
/// Suffixes of directories that are private to the call that fills them.
pub(super) const CLONING: &str = "-cloning";
pub(super) const ROLLBACK: &str = "-rollback";
pub(super) const REPLACING: &str = "-reprovisioning";

#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    format: u32,
    kind: StorageKind,
    pool: String,
}

/// A pool of directories.
#[derive(Debug)]
pub(crate) struct DirPool {
    pub(super) places: Places,
    name: String,
    /// Bytes used, and when they were counted.
    pub(super) measured: Mutex<HashMap<InstanceUuid, (Instant, u64)>>,
}

/// A copy under way: a directory that is locked as long as its maker lives.
pub(super) struct Work {
    pub path: PathBuf,
    _lock: Flock<File>,
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TreeError {
    move |source| TreeError::new(action, path, source)
}

pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), TreeError> {
    DirBuilder::new().mode(mode).create(path).map_err(io_error("create the directory", path))?;
    // Whatever the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error("set the mode of", path))
}

/// Renames and refuses to replace.
pub(super) fn rename_new(from: &Path, to: &Path) -> Result<(), TreeError> {
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).map_err(|e| TreeError::new("rename to", to, e))
}

/// Makes renames in `directory` durable.
pub(super) fn sync_directory(directory: &Path) -> Result<(), TreeError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(io_error("make durable", directory))
}

/// Makes everything on the file system of `path` durable.
pub(crate) fn sync_all(path: &Path) -> Result<(), TreeError> {
    let file = File::open(path).map_err(io_error("open", path))?;
    nix::unistd::syncfs(&file).map_err(|e| TreeError::new("make durable", path, e))
}

impl DirPool {
    /// Makes the pool at `path`, or checks the one that is there. An existing directory must be empty (a fresh file system's
    /// `lost+found` counts as nothing).
    pub(crate) fn create(path: &Path, name: &str) -> Result<(), StorageError> {
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o711).create(path).map_err(io_error("create the directory", path))?;
        } else if !path.join(MARKER).exists() {
            for entry in fs::read_dir(path).map_err(io_error("read the directory", path))? {
                let entry = entry.map_err(io_error("read the directory", path))?;
                let file = entry.file_name();
                if file != "lost+found" && !file.to_string_lossy().starts_with(".new-") {
                    let reason = format!("{} holds other files, such as {}", path.display(), file.display());
                    return Err(StorageError::PoolMissing { pool: name.to_owned(), reason });
                }
            }
        }
        if !path.join(MARKER).exists() {
            write_json(&path.join(MARKER), &Marker { format: 1, kind: StorageKind::Dir, pool: name.to_owned() }, 0o644)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).map_err(io_error("set the mode of", path))?;
        Ok(())
    }

    pub(crate) fn open(path: &Path, name: &str) -> Result<Self, StorageError> {
        let pool = Self { places: Places::new(path.to_owned()), name: name.to_owned(), measured: Mutex::default() };
        pool.check_marker()?;
        Ok(pool)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        self.places.pool()
    }

    /// Invariant 1: without the marker nothing is known about what is below.
    pub(super) fn check_marker(&self) -> Result<(), StorageError> {
        let missing = |reason: String| StorageError::PoolMissing { pool: self.name.clone(), reason };
        let path = self.path().join(MARKER);
        match read_json::<Marker>(&path)? {
            None => Err(missing(format!("{} does not exist: is its file system mounted?", path.display()))),
            Some(marker) if marker.format > 1 => Err(missing(format!("{} has the newer format {}", path.display(), marker.format))),
            Some(marker) if marker.pool != self.name => Err(missing(format!("{} belongs to pool {:?}", path.display(), marker.pool))),
            Some(_) => Ok(()),
        }
    }

    pub(super) fn image(&self, image: ImageUuid) -> PathBuf {
        self.path().join(image.to_string())
    }

    /// Directories directly below the pool that satisfy `want`.
    pub(super) fn entries<T>(&self, want: impl Fn(&str, &Path) -> Option<T>) -> Result<Vec<T>, StorageError> {
        self.check_marker()?;
        let path = self.path();
        let mut found = Vec::new();
        for entry in fs::read_dir(path).map_err(io_error("read the directory", path))? {
            let entry = entry.map_err(io_error("read the directory", path))?;
            if let Some(value) = entry.file_name().to_str().and_then(|name| want(name, &entry.path())) {
                found.push(value);
            }
        }
        Ok(found)
    }

    /// Begins a private copy at `path`, removing one that a killed call left.
    pub(super) fn begin_work(&self, path: PathBuf) -> Result<Work, StorageError> {
        for _ in 0..8 {
            self.clear_work(&path)?;
            match make_directory(&path, 0o700) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            }
            reached("storage.work.directory-made");
            // Between the two lines above and below a sweep may take the directory for a leftover: then again.
            if let Some(lock) = lock_directory(&path)? {
                return Ok(Work { path, _lock: lock });
            }
        }
        Err(in_use(&path))
    }

    /// Removes a copy that no living process is making; absent is success.
    pub(super) fn clear_work(&self, path: &Path) -> Result<bool, StorageError> {
        if !path.exists() {
            return Ok(false);
        }
        match lock_directory(path)? {
            Some(_lock) => self.bury(path),
            None if path.exists() => Err(in_use(path)),
            None => Ok(false),
        }
    }

    /// Destroys `path`: renamed away first, then removed. False when it was not there.
    pub(super) fn bury(&self, path: &Path) -> Result<bool, StorageError> {
        if let Some(mount) = mount_below(path) {
            return Err(StorageError::InUse {
                what: "directory",
                name: path.display().to_string(),
                by: format!("the mount on {}", mount.display()),
            });
        }
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let grave = self.path().join(format!("{DESTROYING}{name}-{}", uuid::Uuid::new_v4().simple()));
        match fs::rename(path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(TreeError::new("destroy", path, error).into()),
            Ok(()) => {}
        }
        reached("storage.destroy.renamed");
        remove_tree(&grave)?;
        reached("storage.destroy.removed");
        Ok(true)
    }

    /// Removes what killed destructions of this instance left. The caller holds its lock, so that none is under way.
    pub(super) fn empty_graves(&self, instance: InstanceUuid) -> Result<(), StorageError> {
        let prefix = format!("{DESTROYING}{instance}");
        for grave in self.entries(|name, path| name.starts_with(&prefix).then(|| path.to_owned()))? {
            remove_tree(&grave)?;
        }
        Ok(())
    }

    /// Removes what killed calls left.
    pub(super) fn sweep_leftovers(&self) -> Result<Vec<String>, StorageError> {
        let leftovers = self.entries(|name, path| {
            let ours = name.starts_with(DESTROYING) || [CLONING, ROLLBACK, REPLACING].iter().any(|suffix| name.ends_with(suffix));
            ours.then(|| (name.to_owned(), path.to_owned()))
        })?;
        let mut removed = Vec::new();
        let mut failure = None;
        for (name, path) in leftovers.into_iter().chain(self.unfinished_snapshots()?) {
            let result =
                if name.starts_with(DESTROYING) { remove_tree(&path).map(|()| true).map_err(Into::into) } else { self.clear_work(&path) };
            match result {
                Ok(true) => removed.push(name),
                // A living process is at it.
                Ok(false) | Err(StorageError::InUse { .. }) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        triton_files::sweep_temporaries(self.path());
        failure.map_or(Ok(removed), Err)
    }
}

fn in_use(path: &Path) -> StorageError {
    StorageError::InUse { what: "directory", name: path.display().to_string(), by: "another process that is filling it".to_owned() }
}

/// Locks the directory at `path`; `None` when it is locked, gone or replaced.
fn lock_directory(path: &Path) -> Result<Option<Flock<File>>, StorageError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error).into()),
    };
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(TreeError::new("lock", path, errno).into()),
    };
    let ours = lock.metadata().map_err(io_error("examine", path))?;
    match fs::symlink_metadata(path) {
        Ok(named) if (named.dev(), named.ino()) == (ours.dev(), ours.ino()) => Ok(Some(lock)),
        _ => Ok(None),
    }
}

/// True when the directory at `path` is a complete image.
pub(super) fn is_image(path: &Path) -> bool {
    path.join(FINAL).exists()
}
