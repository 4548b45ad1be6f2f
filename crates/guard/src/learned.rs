//! Addresses that were learned, kept in files below `/run` beside the table: whoever makes the table anew has them at hand, also when
//! somebody emptied it and whoever learned them was killed (ruling 25).
//!
//! One file per link, written under the guard's lock. Times are those of the machine's clock that no one sets (`CLOCK_BOOTTIME`).

use std::{
    fs::DirBuilder,
    net::IpAddr,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json, remove_if_present, write_json_volatile};

/// Addresses of one NIC; who learns more loses the ones that would end first.
pub const LEARNED_MOST: usize = 64;

/// An address that a NIC was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub address: IpAddr,
    /// Time until it ends.
    pub left: Duration,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u32,
    addresses: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    address: IpAddr,
    /// Milliseconds of `CLOCK_BOOTTIME`.
    until: u64,
}

/// The files.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self { folder: layout.at("/run/triton/guard-learned") }
    }

    /// Links have names of our own making; others have no file.
    fn path(&self, link: &str) -> Option<PathBuf> {
        let plain = !link.is_empty() && link.len() <= 15 && link.bytes().all(|byte| byte.is_ascii_alphanumeric());
        plain.then(|| self.folder.join(format!("{link}.json")))
    }

    /// What is in force of a link. A file that cannot be used is as none: its addresses are learned again.
    fn entries(path: &Path) -> Vec<Entry> {
        let file: File = read_json(path).unwrap_or_default().unwrap_or_default();
        let now = now();
        file.addresses.into_iter().filter(|entry| file.format == 1 && entry.until > now).take(LEARNED_MOST).collect()
    }

    fn write(path: &Path, addresses: Vec<Entry>) -> Result<(), FileError> {
        if addresses.is_empty() {
            return remove_if_present(path);
        }
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(|error| FileError::new("make", folder, error))?;
        }
        write_json_volatile(path, &File { format: 1, addresses }, 0o600)
    }

    /// What is in force of a link.
    pub(crate) fn of(&self, link: &str) -> Vec<Learned> {
        let now = now();
        let entries = self.path(link).map(|path| Self::entries(&path)).unwrap_or_default();
        let left = |entry: &Entry| Duration::from_millis(entry.until.saturating_sub(now).max(1));
        entries.iter().map(|entry| Learned { address: entry.address, left: left(entry) }).collect()
    }

    /// Adds or prolongs an address; those that had to go for it.
    pub(crate) fn add(&self, link: &str, address: IpAddr, lifetime: Duration) -> Result<Vec<IpAddr>, FileError> {
        let Some(path) = self.path(link) else { return Ok(Vec::new()) };
        let mut entries = Self::entries(&path);
        entries.retain(|entry| entry.address != address);
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.until));
        let gone = entries.split_off(entries.len().min(LEARNED_MOST - 1));
        entries.push(Entry { address, until: now().saturating_add(millis(lifetime)) });
        Self::write(&path, entries)?;
        Ok(gone.into_iter().map(|entry| entry.address).collect())
    }

    /// Keeps those of a link that `keep` says.
    pub(crate) fn retain(&self, link: &str, keep: impl Fn(IpAddr) -> bool) -> Result<(), FileError> {
        let Some(path) = self.path(link) else { return Ok(()) };
        let mut entries = Self::entries(&path);
        let before = entries.len();
        entries.retain(|entry| keep(entry.address));
        if entries.len() < before || entries.is_empty() { Self::write(&path, entries) } else { Ok(()) }
    }
}
