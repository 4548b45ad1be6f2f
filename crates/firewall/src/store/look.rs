//! One look at all files of a folder: those that changed since the last one are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use triton_files::read_bounded;
use triton_types::JsonMap;

use crate::StoreError;

/// Larger than any file that is written here.
pub(super) const LARGEST: u64 = 2 << 20;
/// What makes a file another one than it was.
pub(super) type Stamp = (u64, i64, i64, u64);

/// The stamp of a file.
pub(super) fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
}

/// One look at all files.
pub(super) struct Look<'a> {
    pub(super) before: &'a BTreeMap<PathBuf, Stamp>,
    pub(super) stamps: &'a mut BTreeMap<PathBuf, Stamp>,
    pub(super) bad: &'a mut BTreeMap<PathBuf, String>,
    /// There are files that somebody began to write.
    pub(super) leftovers: bool,
}

impl Look<'_> {
    /// Brings `known` to what is in `directory`, and adds what differs to `news`.
    pub(super) fn refresh<K: Ord + Copy + FromStr, V>(
        &mut self,
        directory: &Path,
        known: &mut BTreeMap<K, V>,
        news: &mut BTreeSet<K>,
        parse: impl Fn(&K, &JsonMap) -> Result<V, String>,
        copy: impl Fn(&K) -> Option<V>,
    ) -> Result<(), StoreError> {
        let list = |source| StoreError::List { path: directory.to_owned(), source };
        let entries = match fs::read_dir(directory) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(list(error)),
        };
        let mut there = BTreeSet::new();
        for entry in entries.into_iter().flatten() {
            let entry = entry.map_err(list)?;
            let (name, path) = (entry.file_name(), entry.path());
            let name = name.to_str().unwrap_or_default();
            self.leftovers |= name.starts_with('.');
            let Some(stem) = name.strip_suffix(".json").filter(|name| !name.starts_with('.')) else { continue };
            let uuid = stem.parse::<K>().ok();
            let stamp = match stamp(&path) {
                Ok(stamp) => stamp,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    there.extend(uuid);
                    self.stamps.insert(path.clone(), Stamp::default());
                    self.bad.insert(path, error.to_string());
                    continue;
                }
            };
            self.stamps.insert(path.clone(), stamp);
            there.extend(uuid);
            if self.before.get(&path) == Some(&stamp) {
                continue;
            }
            let value = match uuid {
                None => Err("its name is no uuid".to_owned()),
                Some(uuid) => read(&path).and_then(|object| parse(&uuid, &object)).map(|value| (uuid, value)),
            };
            match value {
                Ok((uuid, value)) => {
                    self.bad.remove(&path);
                    known.insert(uuid, value);
                    news.insert(uuid);
                }
                Err(reason) => {
                    tracing::warn!(path = %path.display(), reason, "a file of the firewall cannot be used");
                    // Who knew it goes on with that; who did not may find what it said.
                    if let Some(uuid) = uuid.filter(|uuid| !known.contains_key(uuid))
                        && let Some(value) = copy(&uuid)
                    {
                        known.insert(uuid, value);
                        news.insert(uuid);
                    }
                    self.bad.insert(path, reason);
                }
            }
        }
        news.extend(known.keys().filter(|uuid| !there.contains(uuid)));
        known.retain(|uuid, _| there.contains(uuid));
        Ok(())
    }
}

/// The object in a file.
pub(crate) fn read(path: &Path) -> Result<JsonMap, String> {
    let bytes = read_bounded(path, LARGEST).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}
