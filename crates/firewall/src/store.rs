//! `/var/fw`: one file for each rule and each remote instance (sections 2.3 and 6.1), as support tooling reads them.
//!
//! A file's name says what exists; one that cannot be used is named, and what was known of it before stays so (ruling 1). Who changes
//! files holds `/var/fw/.lockfile`. Every file is replaced whole, so readers need no lock; several files of one change are whole together
//! by a [`journal`].

use std::{
    collections::{BTreeMap, BTreeSet},
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

use crate::{StoreError, journal};

/// How long a change waits for another.
const PATIENCE: Duration = Duration::from_secs(60);
/// Larger than any file that is written here.
const LARGEST: u64 = 2 << 20;
/// What makes a file another one than it was.
type Stamp = (u64, i64, i64, u64);

/// What is stored.
#[derive(Debug, Default)]
pub struct Contents {
    /// Rules.
    pub rules: BTreeMap<RuleUuid, Rule>,
    /// Remote instances.
    pub remote_vms: BTreeMap<InstanceUuid, RemoteVm>,
    /// Files that cannot be used, and why. It must not be taken for deleted; what was known of it before is among the others.
    pub bad: BTreeMap<PathBuf, String>,
    stamps: BTreeMap<PathBuf, Stamp>,
    edition: u64,
}

impl Contents {
    /// Another number whenever a file was found to be another one, to have come or to be gone.
    pub fn edition(&self) -> u64 {
        self.edition
    }

    /// Whether the file of this rule or remote instance cannot be used.
    pub fn is_bad(&self, uuid: impl Display) -> bool {
        let name = if self.bad.is_empty() { return false } else { format!("{uuid}.json") };
        self.bad.keys().any(|path| path.file_name().is_some_and(|file| file == name.as_str()))
    }

    /// What files are about that cannot be used, and of which nothing was known before.
    pub(crate) fn unknown(&self) -> Unknown {
        let mut unknown = Unknown::default();
        for path in self.bad.keys() {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if path.parent().is_some_and(|folder| folder.ends_with("rules")) {
                unknown.rules.extend(stem.parse::<RuleUuid>().ok().filter(|uuid| !self.rules.contains_key(uuid)));
            } else {
                unknown.remote_vms |= stem.parse::<InstanceUuid>().is_ok_and(|uuid| !self.remote_vms.contains_key(&uuid));
            }
        }
        unknown
    }
}

/// What exists and is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Rules.
    pub(crate) rules: BTreeSet<RuleUuid>,
    /// There are such remote instances.
    pub(crate) remote_vms: bool,
}

/// The files of a node.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    contents: Contents,
}

/// What to write and to remove.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Writes {
    pub(crate) rules: Vec<Rule>,
    pub(crate) remote_vms: Vec<RemoteVm>,
    pub(crate) no_rules: Vec<RuleUuid>,
    pub(crate) no_remote_vms: Vec<InstanceUuid>,
}

impl Writes {
    fn files(&self) -> usize {
        self.rules.len() + self.remote_vms.len() + self.no_rules.len() + self.no_remote_vms.len()
    }
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
        contents.edition += u64::from(stamps != before);
        contents.stamps = stamps;
        Ok(&self.contents)
    }

    /// What [`Store::load`] found at its last call.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    fn journal(&self) -> PathBuf {
        self.layout.at("/var/fw").join(journal::NAME)
    }

    /// Ends a change that somebody began and could not end. Waits for one that is under way.
    ///
    /// # Errors
    /// When it cannot be ended.
    pub fn settle(&self) -> Result<(), StoreError> {
        // Its name is there only between the first and the last file of a change.
        if fs::symlink_metadata(self.journal()).is_ok() { self.lock("end a change of rules").map(drop) } else { Ok(()) }
    }

    /// Takes the lock under which files are changed, and ends a change that was interrupted.
    ///
    /// # Errors
    /// When somebody else holds it for too long, or that change cannot be ended.
    pub fn lock(&self, action: &str) -> Result<Lock, StoreError> {
        let directory = self.layout.at("/var/fw");
        for path in [&directory, &self.rules(), &self.remote_vms()] {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(|e| FileError::new("create directory", path, e))?;
        }
        let lock = Lock::take(&directory.join(".lockfile"), action, PATIENCE)?;
        if let Some(writes) = journal::read(&self.journal())? {
            tracing::warn!(files = writes.files(), "a change of rules was interrupted: it is ended");
            self.carry_out(&writes)?;
        }
        Ok(lock)
    }

    /// Writes and removes files durably, all of them or none, whoever is killed; the caller holds the lock.
    ///
    /// # Errors
    /// Names the file. What could not be ended is ended by the next one who takes the lock.
    pub(crate) fn write(&self, _lock: &Lock, writes: &Writes) -> Result<(), StoreError> {
        match writes.files() {
            0 => Ok(()),
            1 => self.one(writes),
            _ => {
                journal::write(&self.journal(), writes)?;
                triton_files::steps::reached("firewall.journal");
                self.carry_out(writes)
            }
        }
    }

    /// Takes what was just written for known, instead of looking at all files again.
    ///
    /// # Errors
    /// When a file that was written is not there.
    pub(crate) fn absorb(&mut self, writes: Writes) -> Result<(), StoreError> {
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let contents = &mut self.contents;
        contents.edition += u64::from(writes.files() > 0);
        let mut known = |path: PathBuf| -> Result<(), StoreError> {
            contents.stamps.insert(path.clone(), stamp(&path).map_err(|e| FileError::new("look at", &path, e))?);
            contents.bad.remove(&path);
            Ok(())
        };
        for rule in writes.rules {
            known(file(&rules, rule.uuid))?;
            contents.rules.insert(rule.uuid, rule);
        }
        for vm in writes.remote_vms {
            known(file(&remote_vms, vm.uuid))?;
            contents.remote_vms.insert(vm.uuid, vm);
        }
        let mut forget = |path: PathBuf| {
            contents.stamps.remove(&path);
            contents.bad.remove(&path);
        };
        for uuid in writes.no_rules {
            forget(file(&rules, uuid));
            contents.rules.remove(&uuid);
        }
        for uuid in writes.no_remote_vms {
            forget(file(&remote_vms, uuid));
            contents.remote_vms.remove(&uuid);
        }
        Ok(())
    }

    /// A change of one file is whole without a journal.
    fn one(&self, writes: &Writes) -> Result<(), StoreError> {
        for (path, value) in self.targets(writes) {
            write_json(&path, &value, 0o644)?;
        }
        self.remove(writes)?;
        triton_files::steps::reached("firewall.file");
        self.sweep();
        Ok(())
    }

    /// What the journal says; then it goes. May be done again from the beginning.
    fn carry_out(&self, writes: &Writes) -> Result<(), StoreError> {
        for (path, value) in self.targets(writes) {
            write_json_volatile(&path, &value, 0o644)?;
            triton_files::steps::reached("firewall.file");
        }
        self.remove(writes)?;
        for directory in [self.rules(), self.remote_vms()] {
            let synced = File::open(&directory).and_then(|opened| nix::unistd::syncfs(&opened).map_err(io::Error::from));
            synced.map_err(|e| FileError::new("write to disk", &directory, e))?;
        }
        self.sweep();
        remove_if_present(&self.journal())?;
        Ok(())
    }

    fn targets(&self, writes: &Writes) -> Vec<(PathBuf, Value)> {
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let vms = writes.remote_vms.iter().map(|vm| (file(&remote_vms, vm.uuid), vm.to_json()));
        vms.chain(writes.rules.iter().map(|rule| (file(&rules, rule.uuid), rule.to_json()))).collect()
    }

    fn remove(&self, writes: &Writes) -> Result<(), StoreError> {
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let going = writes.no_rules.iter().map(|uuid| file(&rules, uuid));
        for path in going.chain(writes.no_remote_vms.iter().map(|uuid| file(&remote_vms, uuid))) {
            remove_if_present(&path)?;
        }
        Ok(())
    }

    fn sweep(&self) {
        [self.layout.at("/var/fw"), self.rules(), self.remote_vms()].iter().for_each(|directory| sweep_temporaries(directory));
    }
}

fn stamp(path: &Path) -> io::Result<Stamp> {
    fs::metadata(path).map(|metadata| (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len()))
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
    let mut there = BTreeSet::new();
    for entry in entries {
        let entry = entry.map_err(list)?;
        let (name, path) = (entry.file_name(), entry.path());
        let Some(stem) = name.to_str().filter(|name| !name.starts_with('.')).and_then(|name| name.strip_suffix(".json")) else { continue };
        let stamp = match stamp(&path) {
            Ok(stamp) => stamp,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                bad.insert(path, error.to_string());
                continue;
            }
        };
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
