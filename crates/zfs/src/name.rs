//! Names of datasets and snapshots that exist only if ZFS accepts them, so that none can be read as an option or another name.

use std::{fmt, str::FromStr};

/// A text that is no name of a dataset or snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: {reason}")]
pub struct NameError {
    what: &'static str,
    text: String,
    reason: &'static str,
}

/// Longest name in bytes, snapshot part included (`ZFS_MAX_DATASET_NAME_LEN` without its NUL).
const MAX: usize = 255;

/// Beginnings that `zpool create` reserves for kinds of devices.
const RESERVED_POOLS: [&str; 5] = ["mirror", "raidz", "draid", "spare", "log"];

fn legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)
}

fn check_component(component: &str) -> Result<(), &'static str> {
    match component {
        "" => Err("a component is empty"),
        "." | ".." => Err("a component is a relative path"),
        _ if component.starts_with('-') => Err("a component begins with a hyphen"),
        _ if !component.bytes().all(legal) => Err("only letters, digits and -_.: are legal"),
        _ => Ok(()),
    }
}

fn check_dataset(text: &str) -> Result<(), &'static str> {
    if text.len() > MAX {
        return Err("longer than 255 bytes");
    }
    let pool = text.split('/').next().unwrap_or_default();
    if !pool.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err("the pool's name must begin with a letter");
    }
    if RESERVED_POOLS.iter().any(|word| pool.starts_with(word)) {
        return Err("the pool's name begins with a reserved word");
    }
    text.split('/').try_for_each(check_component)
}

fn error(what: &'static str, text: &str) -> impl FnOnce(&'static str) -> NameError {
    move |reason| NameError { what, text: text.chars().take(80).collect(), reason }
}

/// The name of a file system or volume, such as `zones/0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatasetName(String);

impl DatasetName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pool's name.
    pub fn pool(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// The dataset `component` directly below.
    ///
    /// # Errors
    /// When the component or the whole is no legal name.
    pub fn child(&self, component: &str) -> Result<Self, NameError> {
        format!("{}/{component}", self.0).parse()
    }

    /// The last component.
    pub fn leaf(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The snapshot `name` of this dataset.
    ///
    /// # Errors
    /// When the name or the whole is not legal.
    pub fn snapshot(&self, name: &str) -> Result<SnapshotName, NameError> {
        format!("{}@{name}", self.0).parse()
    }
}

impl FromStr for DatasetName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        check_dataset(text).map_err(error("a dataset's name", text))?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DatasetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The full name of a snapshot, such as `zones/0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10@final`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotName {
    full: String,
    at: usize,
}

impl SnapshotName {
    /// The full text.
    pub fn as_str(&self) -> &str {
        &self.full
    }

    /// The dataset that it is a snapshot of.
    pub fn dataset(&self) -> DatasetName {
        DatasetName(self.full[..self.at].to_owned())
    }

    /// The part after `@`.
    pub fn name(&self) -> &str {
        &self.full[self.at + 1..]
    }
}

impl FromStr for SnapshotName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |reason| error("a snapshot's name", text)(reason);
        if text.len() > MAX {
            return Err(fail("longer than 255 bytes"));
        }
        let (dataset, name) = text.split_once('@').ok_or_else(|| fail("there is no @"))?;
        check_dataset(dataset).and_then(|()| check_component(name)).map_err(fail)?;
        Ok(Self { full: text.to_owned(), at: dataset.len() })
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names_are_taken_apart() {
        let snapshot: SnapshotName = "zones/a-b_c.d:e@final".parse().unwrap();
        assert_eq!((snapshot.dataset().as_str(), snapshot.name()), ("zones/a-b_c.d:e", "final"));
        assert_eq!((snapshot.dataset().pool(), snapshot.dataset().leaf()), ("zones", "a-b_c.d:e"));
        let pool: DatasetName = "zones".parse().unwrap();
        assert_eq!(pool.child("x").unwrap().snapshot("y").unwrap().to_string(), "zones/x@y");
    }

    #[test]
    fn what_could_be_read_as_something_else_is_no_name() {
        for bad in ["", "/a", "a/", "a//b", "-r", "a/-r", "a@b", "a b", "a/..", "a/.", "a\n", "1a", "mirror-0", "a%b", "a#b", "é"] {
            assert!(bad.parse::<DatasetName>().is_err(), "{bad:?}");
        }
        for bad in ["a", "a@", "a@b@c", "a@b/c", "@b", "a@-r", "a@..", "a,b@c", "a@b,c", "a@b%c"] {
            assert!(bad.parse::<SnapshotName>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(256).parse::<DatasetName>().is_err());
        assert!(format!("a@{}", "b".repeat(254)).parse::<SnapshotName>().is_err());
    }
}
