//! Readers of what `zfs list -Hp`, `zpool list -Hp` and `zpool status` print. Pure functions, tested on recorded output.

use std::str::FromStr;

use crate::{DatasetName, SnapshotName, ZfsError};

/// Kind of a dataset that is no snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// A file system.
    Filesystem,
    /// A block device.
    Volume,
}

/// A file system or volume. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Name.
    pub name: DatasetName,
    /// Kind.
    pub kind: DatasetKind,
    /// Used by it, its snapshots and everything below.
    pub used: u64,
    /// Still available to it.
    pub available: u64,
    /// Reachable through it, shared blocks included.
    pub referenced: u64,
    /// Its quota; `None` without one and for volumes.
    pub quota: Option<u64>,
    /// The snapshot that it is a clone of.
    pub origin: Option<SnapshotName>,
    /// Whether it is mounted; false for volumes.
    pub mounted: bool,
    /// Where it is or would be mounted; `None` for volumes and for `none` and `legacy`.
    pub mountpoint: Option<String>,
    /// The `compression` property.
    pub compression: String,
    /// Block size of new files; `None` for volumes.
    pub recordsize: Option<u64>,
    /// Seconds since 1970.
    pub creation: u64,
    /// True when the user property `imgadm:ignore` is `true`.
    pub imgadm_ignore: bool,
}

/// A snapshot. Sizes are bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    /// Name.
    pub name: SnapshotName,
    /// What its destruction would free. Changes with the dataset.
    pub used: u64,
    /// Reachable through it. Never changes.
    pub referenced: u64,
    /// Seconds since 1970.
    pub creation: u64,
    /// Number of user holds.
    pub holds: u64,
    /// The snapshot's guid, kept by send and receive.
    pub guid: u64,
}

/// A pool as `zpool list` shows it: raw space, which differs from what datasets can use under raidz.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Name.
    pub name: String,
    /// Raw bytes.
    pub size: u64,
    /// Raw bytes in use.
    pub allocated: u64,
    /// Raw bytes free.
    pub free: u64,
    /// `ONLINE`, `DEGRADED`, `FAULTED`, `OFFLINE`, `UNAVAIL`, `REMOVED` or `SUSPENDED`.
    pub health: String,
    /// The pool's guid.
    pub guid: u64,
}

/// What `zpool status` says about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolHealth {
    /// State of the pool.
    pub state: String,
    /// What is wrong, if something is.
    pub status: Option<String>,
    /// Advice of ZFS.
    pub action: Option<String>,
    /// The last or current scrub or resilver.
    pub scan: Option<String>,
    /// `No known data errors`, or what is known.
    pub errors: Option<String>,
}

struct Row<'a> {
    what: &'static str,
    line: &'a str,
    fields: std::str::Split<'a, char>,
}

impl<'a> Row<'a> {
    fn new(what: &'static str, line: &'a str) -> Self {
        Self { what, line, fields: line.split('\t') }
    }

    fn error(&self) -> ZfsError {
        ZfsError::Output { what: self.what, line: self.line.chars().take(200).collect() }
    }

    fn text(&mut self) -> Result<&'a str, ZfsError> {
        self.fields.next().ok_or_else(|| self.error())
    }

    /// A value, or `None` for `-` and the other words that mean "no value".
    fn optional<T: FromStr>(&mut self, nothing: &[&str]) -> Result<Option<T>, ZfsError> {
        let text = self.text()?;
        if text == "-" || nothing.contains(&text) { Ok(None) } else { text.parse().map(Some).map_err(|_| self.error()) }
    }

    fn value<T: FromStr>(&mut self) -> Result<T, ZfsError> {
        self.optional(&[])?.ok_or_else(|| self.error())
    }

    fn end<T>(mut self, value: T) -> Result<T, ZfsError> {
        if self.fields.next().is_some() { Err(self.error()) } else { Ok(value) }
    }
}

fn rows<T>(text: &str, read: impl Fn(&str) -> Result<T, ZfsError>) -> Result<Vec<T>, ZfsError> {
    text.lines().filter(|line| !line.is_empty()).map(read).collect()
}

/// Reads `zfs list -Hp` of file systems and volumes.
///
/// # Errors
/// Names the first line that is not such a row.
pub fn parse_datasets(text: &str) -> Result<Vec<Dataset>, ZfsError> {
    rows(text, |line| {
        let mut row = Row::new("a row of zfs list", line);
        let name = row.value()?;
        let kind = match row.text()? {
            "filesystem" => DatasetKind::Filesystem,
            "volume" => DatasetKind::Volume,
            _ => return Err(row.error()),
        };
        let dataset = Dataset {
            name,
            kind,
            used: row.value()?,
            available: row.value()?,
            referenced: row.value()?,
            quota: row.optional(&["0", "none"])?,
            origin: row.optional(&[])?,
            mounted: row.text()? == "yes",
            mountpoint: row.optional(&["none", "legacy"])?,
            compression: row.text()?.to_owned(),
            recordsize: row.optional(&[])?,
            creation: row.value()?,
            imgadm_ignore: row.text()? == "true",
        };
        row.end(dataset)
    })
}

/// Reads `zfs list -Hp -t snapshot`.
///
/// # Errors
/// Names the first line that is not such a row.
pub fn parse_snapshots(text: &str) -> Result<Vec<SnapshotRow>, ZfsError> {
    rows(text, |line| {
        let mut row = Row::new("a row of zfs list -t snapshot", line);
        let snapshot = SnapshotRow {
            name: row.value()?,
            used: row.value()?,
            referenced: row.value()?,
            creation: row.value()?,
            holds: row.value()?,
            guid: row.value()?,
        };
        row.end(snapshot)
    })
}

/// Reads `zpool list -Hp`.
///
/// # Errors
/// Names the first line that is not such a row.
pub fn parse_pools(text: &str) -> Result<Vec<Pool>, ZfsError> {
    rows(text, |line| {
        let mut row = Row::new("a row of zpool list", line);
        // A faulted pool shows "-" for its sizes.
        let pool = Pool {
            name: row.value()?,
            size: row.optional(&[])?.unwrap_or(0),
            allocated: row.optional(&[])?.unwrap_or(0),
            free: row.optional(&[])?.unwrap_or(0),
            health: row.value()?,
            guid: row.optional(&[])?.unwrap_or(0),
        };
        row.end(pool)
    })
}

/// Reads the head of `zpool status` of one pool: the `key: value` block, continuation lines joined, without the tree of devices.
///
/// # Errors
/// When there is no `state:`.
pub fn parse_pool_status(text: &str) -> Result<PoolHealth, ZfsError> {
    let mut health = PoolHealth::default();
    let mut current: Option<&'static str> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        let key = ["pool", "state", "status", "action", "scan", "see", "remove", "checkpoint", "config", "errors"]
            .into_iter()
            .find(|key| trimmed.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')) && !line.starts_with('\t'));
        let (key, value) = match (key, current) {
            (Some(key), _) => (key, trimmed[key.len() + 1..].trim()),
            (None, Some(key)) if line.starts_with('\t') => (key, trimmed),
            _ => continue,
        };
        current = Some(key);
        let place = match key {
            "state" => {
                health.state.push_str(value);
                continue;
            }
            "status" => &mut health.status,
            "action" => &mut health.action,
            "scan" => &mut health.scan,
            "errors" => &mut health.errors,
            _ => continue,
        };
        match place {
            Some(text) if !value.is_empty() => {
                text.push(' ');
                text.push_str(value);
            }
            Some(_) => {}
            None => *place = Some(value.to_owned()),
        }
    }
    if health.state.is_empty() {
        return Err(ZfsError::Output { what: "zpool status", line: text.chars().take(200).collect() });
    }
    Ok(health)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
