//! From the files as they should be to changes of those that are there.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use triton_files::{FileError, read_optional, remove_if_present, steps, write_atomic};
use triton_netconf::{DHCP_ALL_NICS, File, OWNED};

/// One change; the path is below the output directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Write(File),
    Remove(String),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(file) => write!(f, "write {}", file.path),
            Self::Remove(path) => write!(f, "remove {path}"),
        }
    }
}

impl Change {
    pub(super) fn make(&self, out: &Path) -> Result<(), FileError> {
        match self {
            Self::Write(file) => {
                let path = out.join(&file.path);
                if let Some(directory) = path.parent() {
                    fs::create_dir_all(directory).map_err(|e| FileError::new("create directory", directory, e))?;
                }
                write_atomic(&path, file.text.as_bytes(), 0o644)?;
            }
            Self::Remove(path) => remove_if_present(&out.join(path))?,
        }
        steps::reached("netconf.changed");
        Ok(())
    }
}

/// What differs. Files of ours that no longer belong are removed first: two that match one link would be a draw.
pub(super) fn changes(out: &Path, files: &[File]) -> Result<Vec<Change>, FileError> {
    let mut changes = Vec::new();
    // The empty file that masks is ours; one with something in it is the operator's.
    let foreign = |path: &str| path.ends_with(DHCP_ALL_NICS) && fs::metadata(out.join(path)).is_ok_and(|meta| meta.len() > 0);
    for (directory, start) in OWNED {
        for name in names(&out.join(directory))?.into_iter().filter(|name| name.starts_with(start)) {
            let path = format!("{directory}/{name}");
            if !foreign(&path) && files.iter().all(|file| file.path != path) {
                changes.push(Change::Remove(path));
            }
        }
    }
    for file in files {
        if !foreign(&file.path) && read_optional(&out.join(&file.path))?.as_deref() != Some(file.text.as_bytes()) {
            changes.push(Change::Write(file.clone()));
        }
    }
    Ok(changes)
}

fn names(directory: &PathBuf) -> Result<Vec<String>, FileError> {
    let error = |e| FileError::new("list", directory, e);
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(error(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(error)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}
