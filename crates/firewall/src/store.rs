//! `/var/fw`: one file for each rule and each remote instance (sections 2.3 and 6.1), as support tooling reads them.
//!
//! A file's name says what exists; one that cannot be used is named, and what was known of it before stays so (ruling 1). Who changes
//! files holds `/var/fw/.lockfile`. Every file is replaced whole, so readers need no lock; several files of one change are whole together
//! by a [`journal`].

mod look;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs::{self, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use look::read;
use look::{Look, Stamp, stamp};
use serde_json::Value;
use triton_files::{FileError, Layout, Lock, remove_if_present, sweep_temporaries, write_json, write_json_volatile};
use triton_fwrule::{Options, RemoteVm, Rule};
use triton_types::{InstanceUuid, RuleUuid};

use crate::{
    StoreError,
    copies::Copies,
    journal,
    mark::{Mark, Writing},
};

/// How long a change waits for another.
const PATIENCE: Duration = Duration::from_secs(60);

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
    news: News,
}

/// Rules and remote instances that are, or were, other ones than somebody knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Any of them.
    pub all: bool,
    /// These rules.
    pub rules: BTreeSet<RuleUuid>,
    /// These remote instances.
    pub remote_vms: BTreeSet<InstanceUuid>,
}

impl News {
    /// Nothing is known.
    pub fn everything() -> Self {
        Self { all: true, ..Self::default() }
    }
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
    /// While it is so, the contents are those of the files.
    mark: Option<Mark>,
    /// Somebody was killed and left what he had half written.
    leftovers: bool,
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
        Self { layout: layout.clone(), contents: Contents::default(), mark: None, leftovers: true }
    }

    fn rules(&self) -> PathBuf {
        self.layout.at("/var/fw/rules")
    }

    fn remote_vms(&self) -> PathBuf {
        self.layout.at("/var/fw/vms")
    }

    fn directory(&self) -> PathBuf {
        self.layout.at("/var/fw")
    }

    fn read_mark(&self) -> Option<Mark> {
        Mark::read(&self.directory(), [&self.rules(), &self.remote_vms()])
    }

    /// What is stored now, as [`Store::load`] says it, if anything shows that a file may have changed; else what it said last.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub fn refresh(&mut self) -> Result<&Contents, StoreError> {
        if self.mark.is_some() && self.mark == self.read_mark() {
            self.layout.check_store()?;
            return Ok(&self.contents);
        }
        self.load()
    }

    /// What is stored now. All files are looked at; those that changed since the last call are read.
    ///
    /// # Errors
    /// When a directory cannot be listed, or the file system of the node's state is not there: that is not an empty store.
    pub fn load(&mut self) -> Result<&Contents, StoreError> {
        self.layout.check_store()?;
        let mark = self.read_mark();
        self.mark = None;
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let mut stamps = BTreeMap::new();
        let contents = &mut self.contents;
        let before = std::mem::take(&mut contents.stamps);
        let copies = Copies::new(&self.layout.at("/var/fw"));
        let mut look = Look { before: &before, stamps: &mut stamps, bad: &mut contents.bad, leftovers: false };
        look.refresh(
            &rules,
            &mut contents.rules,
            &mut contents.news.rules,
            |uuid: &RuleUuid, object| {
                let rule = Rule::parse(object, &Options::default()).map_err(|error| error.to_string())?;
                if rule.uuid == *uuid { Ok(rule) } else { Err(format!("it is about rule {}", rule.uuid)) }
            },
            |uuid| copies.find(*uuid),
        )?;
        look.refresh(
            &remote_vms,
            &mut contents.remote_vms,
            &mut contents.news.remote_vms,
            |uuid: &InstanceUuid, object| {
                let vm = RemoteVm::parse(object).map_err(|error| error.to_string())?;
                if vm.uuid == *uuid { Ok(vm) } else { Err(format!("it is about instance {}", vm.uuid)) }
            },
            |_| None,
        )?;
        self.leftovers = look.leftovers;
        contents.bad.retain(|path, _| stamps.contains_key(path));
        contents.edition += u64::from(stamps != before);
        contents.stamps = stamps;
        // Whoever changed files meanwhile has said so since.
        self.mark = mark.filter(|mark| self.read_mark().as_ref() == Some(mark));
        Ok(&self.contents)
    }

    /// What changed in the contents since the last call of this.
    pub(crate) fn take_news(&mut self) -> News {
        std::mem::take(&mut self.contents.news)
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
            let writing = Writing::begin(&directory)?;
            self.carry_out(&writes, true)?;
            writing.done()?;
        } else if Writing::was_interrupted(&directory) {
            Writing::begin(&directory)?.done()?;
        }
        Ok(lock)
    }

    /// Writes and removes files durably, all of them or none, whoever is killed; the caller holds the lock.
    ///
    /// # Errors
    /// Names the file. What could not be ended is ended by the next one who takes the lock.
    pub(crate) fn write(&self, _lock: &Lock, writes: &Writes) -> Result<(), StoreError> {
        if writes.files() == 0 {
            return Ok(());
        }
        let writing = Writing::begin(&self.directory())?;
        if writes.files() == 1 {
            self.one(writes)?;
        } else {
            journal::write(&self.journal(), writes)?;
            triton_files::steps::reached("firewall.journal");
            self.carry_out(writes, self.leftovers)?;
        }
        Ok(writing.done()?)
    }

    /// Takes what was just written for known, instead of looking at all files again; the caller still holds the lock.
    ///
    /// # Errors
    /// When a file that was written is not there.
    pub(crate) fn absorb(&mut self, writes: Writes) -> Result<(), StoreError> {
        if writes.files() == 0 {
            return Ok(());
        }
        // Nobody else changed anything while the lock was held: the files are as they were known, but for these.
        let known_before = self.mark.take().is_some();
        let mark = self.read_mark();
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let contents = &mut self.contents;
        contents.edition += 1;
        contents.news.rules.extend(writes.rules.iter().map(|rule| rule.uuid).chain(writes.no_rules.iter().copied()));
        contents.news.remote_vms.extend(writes.remote_vms.iter().map(|vm| vm.uuid).chain(writes.no_remote_vms.iter().copied()));
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
        self.mark = mark.filter(|_| known_before);
        Ok(())
    }

    /// A change of one file is whole without a journal.
    fn one(&self, writes: &Writes) -> Result<(), StoreError> {
        self.remove_copies(writes)?;
        for (path, value) in self.targets(writes) {
            write_json(&path, &value, 0o644)?;
        }
        self.remove(writes)?;
        self.keep_copies(writes);
        triton_files::steps::reached("firewall.file");
        if self.leftovers {
            self.sweep();
        }
        Ok(())
    }

    /// What the journal says; then it goes. May be done again from the beginning.
    fn carry_out(&self, writes: &Writes, sweep: bool) -> Result<(), StoreError> {
        self.remove_copies(writes)?;
        for (path, value) in self.targets(writes) {
            write_json_volatile(&path, &value, 0o644)?;
            triton_files::steps::reached("firewall.file");
        }
        self.remove(writes)?;
        for directory in [self.rules(), self.remote_vms()] {
            let synced = File::open(&directory).and_then(|opened| nix::unistd::syncfs(&opened).map_err(io::Error::from));
            synced.map_err(|e| FileError::new("write to disk", &directory, e))?;
        }
        self.keep_copies(writes);
        if sweep {
            self.sweep();
        }
        remove_if_present(&self.journal())?;
        Ok(())
    }

    fn targets(&self, writes: &Writes) -> Vec<(PathBuf, Value)> {
        let (rules, remote_vms) = (self.rules(), self.remote_vms());
        let vms = writes.remote_vms.iter().map(|vm| (file(&remote_vms, vm.uuid), vm.to_json()));
        vms.chain(writes.rules.iter().map(|rule| (file(&rules, rule.uuid), rule.to_json()))).collect()
    }

    fn remove_copies(&self, writes: &Writes) -> Result<(), StoreError> {
        let copies = Copies::new(&self.directory());
        let mut changing = writes.rules.iter().map(|rule| rule.uuid).chain(writes.no_rules.iter().copied());
        Ok(changing.try_for_each(|uuid| copies.remove(uuid))?)
    }

    fn keep_copies(&self, writes: &Writes) {
        let copies = Copies::new(&self.directory());
        writes.rules.iter().for_each(|rule| copies.keep(rule));
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

fn file(directory: &Path, uuid: impl Display) -> PathBuf {
    directory.join(format!("{uuid}.json"))
}

#[cfg(test)]
mod tests;
