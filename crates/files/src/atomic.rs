//! Files that are replaced whole: temporary file, fsync, rename, fsync of the directory (instances.md section 6.2).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Serialize, de::DeserializeOwned};

/// What could not be done to which file, and why.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {}", path.display())]
pub struct FileError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl FileError {
    /// An error of `action` ("read", "replace", …) on `path`.
    pub fn new(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self { action, path: path.into(), source }
    }

    /// Why, in the kernel's words.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

/// Temporary names begin with this, so that leftovers of a killed writer are recognised; readers of directories skip them.
const TEMPORARY: &str = ".new-";

fn temporary_name(path: &Path) -> Option<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name()?.to_str()?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    Some(path.with_file_name(format!("{TEMPORARY}{}-{number}-{name}", std::process::id())))
}

/// Replaces `path` with `bytes`: a reader, and a crash at any point, sees the old content or the new one.
///
/// # Errors
/// Names the path and the reason; the old content is then still there.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    replace(path, bytes, mode, true)
}

/// As [`write_atomic`] for what need not survive a power cut, such as all below `/run`: whole for every reader and after any
/// kill, without waiting for the disk.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    replace(path, bytes, mode, false)
}

fn replace(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), FileError> {
    let error = |source| FileError::new("replace", path, source);
    let temporary = temporary_name(path).ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
    let attempt = || {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        if !durable {
            return fs::rename(&temporary, path);
        }
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    attempt().map_err(|source| {
        let _ = fs::remove_file(&temporary);
        error(source)
    })
}

/// Makes a rename or removal in the directory of `path` durable.
fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// [`write_atomic`] of `value` as JSON, indented by two spaces, with a final newline.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json<T: Serialize + ?Sized>(path: &Path, value: &T, mode: u32) -> Result<(), FileError> {
    write_atomic(path, &json_text(path, value)?, mode)
}

/// [`write_volatile`] of `value` as JSON.
///
/// # Errors
/// As [`write_atomic`].
pub fn write_json_volatile<T: Serialize + ?Sized>(path: &Path, value: &T, mode: u32) -> Result<(), FileError> {
    write_volatile(path, &json_text(path, value)?, mode)
}

fn json_text<T: Serialize + ?Sized>(path: &Path, value: &T) -> Result<Vec<u8>, FileError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|e| FileError::new("serialise", path, e.into()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The content of `path`, or `None` if there is no such file.
///
/// # Errors
/// Every other reason why it cannot be read.
pub fn read_optional(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FileError::new("read", path, e)),
    }
}

/// The content of `path` if it has at most `limit` bytes.
///
/// # Errors
/// Also when the file is larger.
pub fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let error = |source| FileError::new("read", path, source);
    let mut bytes = Vec::new();
    File::open(path).map_err(error)?.take(limit + 1).read_to_end(&mut bytes).map_err(error)?;
    if bytes.len() as u64 > limit {
        return Err(error(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"))));
    }
    Ok(bytes)
}

/// The JSON document in `path`, or `None` if there is no such file.
///
/// # Errors
/// When the file cannot be read or is not such a document.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    match read_optional(path)? {
        None => Ok(None),
        Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| FileError::new("parse", path, e.into())),
    }
}

/// Removes `path`, durably; that it is not there is success.
///
/// # Errors
/// Every other reason.
pub fn remove_if_present(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Ok(()) => sync_parent(path).map_err(|e| FileError::new("remove", path, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(FileError::new("remove", path, e)),
    }
}

/// Removes the temporary files that killed writers left in `directory`. Those of living processes stay.
pub fn sweep_temporaries(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let writer = name.to_str().and_then(|n| n.strip_prefix(TEMPORARY)).and_then(|n| n.split('-').next());
        if writer.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> PathBuf {
        let directory = std::env::temp_dir().join(format!("triton-files-{}-{:?}", std::process::id(), std::thread::current().id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_file_is_replaced_whole_and_no_temporary_stays() {
        let directory = directory();
        let path = directory.join("a.json");
        write_json(&path, &[1, 2], 0o600).unwrap();
        write_json(&path, &[3], 0o600).unwrap();
        assert_eq!(read_json::<Vec<u8>>(&path).unwrap(), Some(vec![3]));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn temporaries_of_dead_writers_are_swept_and_only_those() {
        let directory = directory();
        fs::write(directory.join(".new-4194399-0-a.json"), "x").unwrap();
        let own = directory.join(format!(".new-{}-0-b.json", std::process::id()));
        fs::write(&own, "x").unwrap();
        sweep_temporaries(&directory);
        assert!(own.exists());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn absence_is_not_an_error_and_a_large_file_is() {
        let directory = directory();
        let path = directory.join("none");
        assert!(read_optional(&path).unwrap().is_none());
        remove_if_present(&path).unwrap();
        fs::write(&path, [0; 11]).unwrap();
        assert!(read_bounded(&path, 10).unwrap_err().to_string().contains("none"));
        assert_eq!(read_bounded(&path, 11).unwrap().len(), 11);
        fs::remove_dir_all(directory).unwrap();
    }
}
