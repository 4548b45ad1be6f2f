//! Configuration: JSON files of the contracts and the environment, both read once, before anything is bound.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use triton_files::read_bounded;

/// A configuration file is refused above this size: it is not one.
const MAX_CONFIG: u64 = 4 << 20;

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration could not be read")]
    Read(#[from] triton_files::FileError),
    /// The file is not the document that was expected.
    #[error("the configuration {} is not valid: line {}, column {}", path.display(), source.line(), source.column())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong where.
        source: serde_json::Error,
    },
}

/// Reads a configuration file that must exist.
///
/// # Errors
/// Names the file, and the place in it.
pub fn load_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = read_bounded(path, MAX_CONFIG)?;
    serde_json::from_slice(&bytes).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}

/// Reads a configuration file; `None` if there is no such file.
///
/// # Errors
/// As [`load_json`].
pub fn load_json_optional<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ConfigError> {
    match load_json(path) {
        Err(ConfigError::Read(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// Where variables come from: the process's environment, or a map in tests.
pub trait Environment: Send + Sync {
    /// The variable's value, if it is set and is UTF-8.
    fn get(&self, name: &str) -> Option<String>;

    /// True for a variable that is set to anything but nothing, `0` or `false`.
    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
    }
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Environment for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain;

    #[test]
    fn a_broken_file_is_an_error_with_its_place_and_a_missing_one_is_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.config.json");
        assert!(load_json_optional::<Vec<u8>>(&path).unwrap().is_none());
        assert!(chain(&load_json::<Vec<u8>>(&path).unwrap_err()).to_string().contains("agent.config.json"));
        std::fs::write(&path, "[1,\n 2,,3]").unwrap();
        let text = chain(&load_json_optional::<Vec<u8>>(&path).unwrap_err()).to_string();
        assert!(text.contains("agent.config.json") && text.contains("line 2"), "{text}");
    }

    #[test]
    fn a_flag_is_on_unless_it_is_empty_zero_or_false() {
        let map: BTreeMap<String, String> =
            [("A", "1"), ("B", "0"), ("C", ""), ("D", "yes")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        assert_eq!(["A", "B", "C", "D", "E"].map(|name| map.flag(name)), [true, false, false, true, false]);
    }
}
