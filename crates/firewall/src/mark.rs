//! How a process that knows the files of `/var/fw` finds out that nobody changed one, without looking at each.
//!
//! Who changes files by this library says so in `/var/fw/.generation` before the first one, and says after the last one that it is done:
//! each time with words that were never there before. Who changes files otherwise (an editor that replaces them, `mv`, an older version) is
//! given away by the times of the folders. Only writing into a file that is there shows in neither: firewaller hears of that from the kernel,
//! and looks at all files every few minutes.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use triton_files::{FileError, read_bounded};

/// Its name in `/var/fw`.
const NAME: &str = ".generation";
/// Begins the words of who is not done yet.
const WRITING: &str = "writing ";
const LARGEST: u64 = 256;

/// What shows that nothing changed: the words, and what the folders are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    words: Vec<u8>,
    folders: [Option<Folder>; 2],
}

/// Number, and when anything in it came or went.
type Folder = (u64, u64, i64, i64);

impl Mark {
    /// As it is now; none while somebody writes, or was killed before he was done: then all files are to be looked at.
    pub(crate) fn read(directory: &Path, folders: [&Path; 2]) -> Option<Self> {
        let words = match fs::symlink_metadata(directory.join(NAME)) {
            // Nobody has changed anything by this version.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            _ => read_bounded(&directory.join(NAME), LARGEST).ok()?,
        };
        let folder = |path: &Path| {
            let found = fs::metadata(path).ok()?;
            Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec()))
        };
        (!words.starts_with(WRITING.as_bytes())).then(|| Self { words, folders: folders.map(folder) })
    }
}

/// Who changes files: says so, and when it is done.
#[derive(Debug)]
pub(crate) struct Writing {
    path: PathBuf,
}

impl Writing {
    /// Files of this directory are being changed; the caller holds the lock.
    ///
    /// # Errors
    /// When it cannot be said: then no file may be changed.
    pub(crate) fn begin(directory: &Path) -> Result<Self, FileError> {
        let path = directory.join(NAME);
        say(&path, WRITING)?;
        Ok(Self { path })
    }

    /// They are as they are to be. Where this is not said, others look at all files each time, until the next change.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(crate) fn done(self) -> Result<(), FileError> {
        say(&self.path, "")
    }

    /// Whether somebody was killed before he was done; the caller holds the lock.
    pub(crate) fn was_interrupted(directory: &Path) -> bool {
        read_bounded(&directory.join(NAME), LARGEST).is_ok_and(|words| words.starts_with(WRITING.as_bytes()))
    }
}

/// Short, and written at once: who reads meanwhile sees the one or the other, or what is like neither.
fn say(path: &Path, what: &str) -> Result<(), FileError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let words = format!("{what}{}.{:09} {}\n", now.as_secs(), now.subsec_nanos(), std::process::id());
    let open = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o644).open(path);
    open.and_then(|mut file| file.write_all(words.as_bytes())).map_err(|error| FileError::new("write", path, error))
}
