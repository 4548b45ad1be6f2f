//! `/var/fw`: one file for each rule and each remote instance (sections 2.3 and 6.1), as support tooling reads them.
//!
//! A file's name says what exists; one that cannot be used is named and passed over, the others count (ruling 1). Who changes
//! files holds `/var/fw/.lockfile`. Every file is replaced whole, so readers need no lock.

use std::{
    collections::BTreeMap,
    fmt::Display,
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use serde_json::Value;
use triton_files::{FileError, Layout, Lock, read_bounded, remove_if_present, sweep_temporaries, write_json, write_json_volatile};
use triton_fwrule::{Options, RemoteVm, Rule};
use triton_types::{InstanceUuid, JsonMap, RuleUuid};

use crate::StoreError;

/// How long a change waits for another.
const PATIENCE: Duration = Duration::from_secs(60);
/// Larger than any file that is written here.
const LARGEST: u64 = 2 << 20;
/// So many files are written one by one; more of them are made durable together.
const ONE_BY_ONE: usize = 16;

/// What makes a file another one than it was.
type Stamp = (u64, i64, i64, u64);

/// What is stored.
#[derive(Debug, Default)]
pub struct Contents {
    /// Rules.
    pub rules: BTreeMap<RuleUuid, Rule>,
    /// Remote instances.
    pub remote_vms: BTreeMap<InstanceUuid, RemoteVm>,
    /// Files that cannot be used, and why. What they are about is not known; it must not be taken for deleted.
    pub bad: BTreeMap<PathBuf, String>,
    stamps: BTreeMap<PathBuf, Stamp>,
}

/// The files of a node.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    contents: Contents,
}

/// What to write and to remove.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) rules: Vec<Rule>,
    pub(crate) remote_vms: Vec<RemoteVm>,
    pub(crate) no_rules: Vec<RuleUuid>,
    pub(crate) no_remote_vms: Vec<InstanceUuid>,
}

impl Store {
    /// The store below `layout`. Nothing is read.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone(), contents: Contents::default() }
    }

    fn rules(&self) -> PathBuf {
        self.layout.at("/var/fw/rules")
    }

    fn remote_vms(&self) -> PathBuf {
        self.layout.at("/var/fw/vms")
    }

    /// What is stored now. Only files that changed since the last call are read.
    ///
    /// # Errors
    /// When a directory cannot be listed, or the file system of the node's state is not there: that is not an empty store.
    pub fn load(&mut self) -> Result<&Contents, StoreError> {
        self.layout.check_store()?;
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let mut stamps = BTreeMap::new();
        let contents = &mut self.contents;
        let before = std::mem::take(&mut contents.stamps);
        refresh(&rules, &before, &mut stamps, &mut contents.rules, &mut contents.bad, |uuid: &RuleUuid, object| {
            let rule = Rule::parse(object, &Options::default()).map_err(|error| error.to_string())?;
            if rule.uuid == *uuid { Ok(rule) } else { Err(format!("it is about rule {}", rule.uuid)) }
        })?;
        refresh(&remote_vms, &before, &mut stamps, &mut contents.remote_vms, &mut contents.bad, |uuid: &InstanceUuid, object| {
            let vm = RemoteVm::parse(object).map_err(|error| error.to_string())?;
            if vm.uuid == *uuid { Ok(vm) } else { Err(format!("it is about instance {}", vm.uuid)) }
        })?;
        contents.bad.retain(|path, _| stamps.contains_key(path));
        contents.stamps = stamps;
        Ok(&self.contents)
    }

    /// What [`Store::load`] found at its last call.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// Takes the lock under which files are changed.
    ///
    /// # Errors
    /// When somebody else holds it for too long.
    pub fn lock(&self, action: &str) -> Result<Lock, StoreError> {
        let directory = self.layout.at("/var/fw");
        for path in [&directory, &self.rules(), &self.remote_vms()] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| FileError::new("create directory", path, e))?;
        }
        Ok(Lock::take(&directory.join(".lockfile"), action, PATIENCE)?)
    }

    /// Writes and removes files, each durably; the caller holds the lock.
    ///
    /// # Errors
    /// Names the file. Those before it are as they should be.
    pub(crate) fn write(&self, _lock: &Lock, writes: &Writes) -> Result<(), StoreError> {
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let mut files: Vec<(PathBuf, Value)> = Vec::new();
        files.extend(writes.remote_vms.iter().map(|vm| (file(&remote_vms, vm.uuid), vm.to_json())));
        files.extend(writes.rules.iter().map(|rule| (file(&rules, rule.uuid), rule.to_json())));
        let many = files.len() > ONE_BY_ONE;
        for (path, value) in &files {
            if many {
                write_json_volatile(path, value, 0o644)?;
            } else {
                write_json(path, value, 0o644)?;
            }
            triton_files::steps::reached("firewall.file");
        }
        if many {
            for directory in [&rules, &remote_vms] {
                let synced = File::open(directory).and_then(|opened| nix::unistd::syncfs(&opened).map_err(io::Error::from));
                synced.map_err(|e| FileError::new("write to disk", directory, e))?;
            }
        }
        for uuid in &writes.no_rules {
            remove_if_present(&file(&rules, uuid))?;
        }
        for uuid in &writes.no_remote_vms {
            remove_if_present(&file(&remote_vms, uuid))?;
        }
        [rules, remote_vms].iter().for_each(|directory| sweep_temporaries(directory));
        Ok(())
    }
}

fn file(directory: &Path, uuid: impl Display) -> PathBuf {
    directory.join(format!("{uuid}.json"))
}

/// Brings `known` to what is in `directory`.
fn refresh<K: Ord + Copy + FromStr, V>(
    directory: &Path,
    before: &BTreeMap<PathBuf, Stamp>,
    stamps: &mut BTreeMap<PathBuf, Stamp>,
    known: &mut BTreeMap<K, V>,
    bad: &mut BTreeMap<PathBuf, String>,
    parse: impl Fn(&K, &JsonMap) -> Result<V, String>,
) -> Result<(), StoreError> {
    let list = |source| StoreError::List { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            known.clear();
            return Ok(());
        }
        Err(error) => return Err(list(error)),
    };
    let mut there = std::collections::BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(list)?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(stem) = name.to_str().filter(|name| !name.starts_with('.')).and_then(|name| name.strip_suffix(".json")) else { continue };
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                bad.insert(path, error.to_string());
                continue;
            }
        };
        let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        stamps.insert(path.clone(), stamp);
        let uuid = stem.parse::<K>().ok();
        there.extend(uuid);
        if before.get(&path) == Some(&stamp) {
            continue;
        }
        let value = match uuid {
            None => Err("its name is no uuid".to_owned()),
            Some(uuid) => read(&path).and_then(|object| parse(&uuid, &object)).map(|value| (uuid, value)),
        };
        match value {
            Ok((uuid, value)) => {
                bad.remove(&path);
                known.insert(uuid, value);
            }
            Err(reason) => {
                // What was known of it before counts no more than what is there now; its name is in `bad`.
                if let Some(uuid) = uuid {
                    known.remove(&uuid);
                }
                tracing::warn!(path = %path.display(), reason, "a file of the firewall cannot be used");
                bad.insert(path, reason);
            }
        }
    }
    known.retain(|uuid, _| there.contains(uuid));
    Ok(())
}

fn read(path: &Path) -> Result<JsonMap, String> {
    let bytes = read_bounded(path, LARGEST).map_err(|error| {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {source}")
    })?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
