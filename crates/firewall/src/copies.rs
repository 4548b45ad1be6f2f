//! A second copy of the file of each rule, for when the file is damaged (ruling 1).
//!
//! It never says what exists: only what a rule said whose file is there and cannot be used. It is gone before the file changes and comes
//! after it, so it is never older than what was written by this library; what somebody edited by hand is not in it. Where it is missing or
//! damaged, too, the lines that are in force stay as they are.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use triton_files::{FileError, write_json_volatile};
use triton_fwrule::{Options, Rule};
use triton_types::RuleUuid;

use crate::store::read;

/// The folder of the copies in `/var/fw`.
#[derive(Debug)]
pub(crate) struct Copies(PathBuf);

impl Copies {
    /// Those beside the files of this directory. Nothing is read.
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.join(".copies"))
    }

    fn file(&self, uuid: RuleUuid) -> PathBuf {
        self.0.join(format!("{uuid}.json"))
    }

    /// What a rule said.
    pub(crate) fn find(&self, uuid: RuleUuid) -> Option<Rule> {
        let rule = Rule::parse(&read(&self.file(uuid)).ok()?, &Options::default()).ok()?;
        (rule.uuid == uuid).then_some(rule)
    }

    /// The file of this rule changes or goes. File systems keep the order of this and of what follows; that is all it takes.
    ///
    /// # Errors
    /// When the copy cannot be removed: then its file must not change.
    pub(crate) fn remove(&self, uuid: RuleUuid) -> Result<(), FileError> {
        let path = self.file(uuid);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// The file of this rule says this now. Without the copy nothing is lost but time.
    pub(crate) fn keep(&self, rule: &Rule) {
        let keep = || -> Result<(), FileError> {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(&self.0)
                .map_err(|e| FileError::new("create directory", &self.0, e))?;
            write_json_volatile(&self.file(rule.uuid), &rule.to_json(), 0o644)
        };
        if let Err(error) = keep() {
            tracing::warn!(rule = %rule.uuid, %error, "no second copy of a rule is kept");
        }
    }
}
