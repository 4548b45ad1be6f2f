//! Locks between processes: `flock`, with a note inside that says who holds it and why.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{errno::Errno, fcntl::Flock, fcntl::FlockArg};
use serde::{Deserialize, Serialize};
use triton_types::Timestamp;

use crate::FileError;

/// Who holds a lock. For operators; the kernel, not this note, says whether it is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// What it does, such as `start` or `import`.
    pub action: String,
    /// Since when.
    pub since: Timestamp,
}

/// A lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else held it until the deadline.
    #[error("lock {} is held by {}", path.display(), describe(holder))]
    Held {
        /// The lock.
        path: PathBuf,
        /// Its holder, if the note could be read.
        holder: Option<Holder>,
    },
    /// The lock's file could not be used.
    #[error(transparent)]
    File(#[from] FileError),
}

fn describe(holder: &Option<Holder>) -> String {
    match holder {
        Some(Holder { pid, action, since }) => format!("process {pid} for {action:?} since {since}"),
        None => "an unknown process".to_owned(),
    }
}

/// An exclusive lock, held until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock in `path` for `action`, waiting at most `patience`.
    ///
    /// # Errors
    /// [`LockError::Held`] names the holder.
    pub fn take(path: &Path, action: &str, patience: Duration) -> Result<Self, LockError> {
        Self::take_telling(path, action, patience, Duration::MAX, || ())
    }

    /// As [`Lock::take`]; calls `waiting` once when the wait has lasted `tell_after`.
    ///
    /// # Errors
    /// As [`Lock::take`].
    pub fn take_telling(
        path: &Path,
        action: &str,
        patience: Duration,
        tell_after: Duration,
        waiting: impl FnOnce(),
    ) -> Result<Self, LockError> {
        let begin = Instant::now();
        let mut pause = Duration::from_millis(1);
        let mut waiting = Some(waiting);
        loop {
            if let Some(lock) = Self::attempt(path, action)? {
                return Ok(lock);
            }
            let waited = begin.elapsed();
            if waited >= patience {
                return Err(LockError::Held { path: path.to_owned(), holder: Self::holder(path) });
            }
            if waited >= tell_after
                && let Some(tell) = waiting.take()
            {
                tell();
            }
            std::thread::sleep(pause.min(patience - waited));
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// One try, without waiting.
    fn attempt(path: &Path, action: &str) -> Result<Option<Self>, FileError> {
        let error = |source| FileError::new("lock", path, source);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(error)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => return Ok(None),
            Err((_, errno)) => return Err(error(errno.into())),
        };
        // The file may have been removed (and made anew by another) between open and lock: then this lock guards nothing.
        let ours = file.metadata().map_err(error)?;
        match std::fs::metadata(path) {
            Ok(named) if named.ino() == ours.ino() && named.dev() == ours.dev() => {}
            _ => return Ok(None),
        }
        let note = Holder { pid: std::process::id(), action: action.to_owned(), since: Timestamp::now() };
        let text = serde_json::to_vec(&note).unwrap_or_default();
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(&text)).map_err(error)?;
        Ok(Some(Self { file, path: path.to_owned() }))
    }

    /// Who holds the lock in `path`, if its note can be read.
    pub fn holder(path: &Path) -> Option<Holder> {
        let mut text = String::new();
        File::open(path).ok()?.take(4096).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// True if nobody holds the lock in `path` now.
    pub fn is_free(path: &Path) -> bool {
        match File::open(path) {
            Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_ok(),
            Err(_) => true,
        }
    }

    /// Releases the lock and removes its file: for locks of things that are gone for good.
    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("triton-lock-{}-{name}", std::process::id()))
    }

    #[test]
    fn a_second_taker_learns_who_holds_it_and_gets_it_afterwards() {
        let path = path("held");
        let lock = Lock::take(&path, "start", Duration::ZERO).unwrap();
        let text = Lock::take(&path, "stop", Duration::from_millis(5)).unwrap_err().to_string();
        assert!(text.contains("\"start\"") && text.contains(&std::process::id().to_string()), "{text}");
        assert!(!Lock::is_free(&path));
        drop(lock);
        assert!(Lock::is_free(&path));
        Lock::take(&path, "stop", Duration::ZERO).unwrap().remove();
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_whose_file_was_removed_meanwhile_is_not_shared() {
        let path = path("removed");
        Lock::take(&path, "delete", Duration::ZERO).unwrap().remove();
        let lock = Lock::take(&path, "create", Duration::ZERO).unwrap();
        assert!(matches!(Lock::take(&path, "create", Duration::ZERO), Err(LockError::Held { .. })));
        lock.remove();
    }
}
