//! The guard file of a creation (cn-agent.md section 3.3): other tools see by it that an instance is being made.
//!
//! Within the agent the order of tasks is what counts; path and name are kept for compatibility.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use triton_files::Layout;
use triton_types::InstanceUuid;

/// After this time a guard file is taken for a leftover.
pub const STALE: Duration = Duration::from_secs(600);
const PREFIXES: [&str; 2] = ["machine-provision-", "machine-creation-"];

/// A guard file that goes with this value, however the creation ends.
#[derive(Debug)]
pub struct ProvisionGuard(PathBuf);

impl ProvisionGuard {
    /// Makes the guard file. That it cannot be made is logged only, as upstream.
    pub fn create(layout: &Layout, uuid: InstanceUuid) -> Self {
        let path = layout.provision_guard(uuid);
        let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
        if let Err(error) = parent.and_then(|()| fs::write(&path, b"")) {
            tracing::warn!(%error, path = %path.display(), "the guard file of a creation could not be made");
        }
        Self(path)
    }
}

impl Drop for ProvisionGuard {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::error!(%error, path = %self.0.display(), "the guard file of a creation could not be removed");
            }
            _ => {}
        }
    }
}

/// Removes the guard files that an earlier run of the agent left: no task survives a restart. Gives their number.
pub fn remove_stale_guards(layout: &Layout) -> usize {
    let directory = layout.at("/var/tmp");
    let mut removed = 0;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_str().is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
        // Never a directory, and never through a link: /var/tmp belongs to everybody.
        if ours && entry.file_type().is_ok_and(|kind| kind.is_file()) && fs::remove_file(entry.path()).is_ok() {
            removed += 1;
        }
    }
    removed
}

/// What a guard file says to somebody who wants to delete the instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GuardState {
    /// There is none.
    Absent,
    /// A creation is under way.
    Fresh,
    /// It is a leftover.
    Stale,
}

/// Looks at a guard file; `now` is the clock of the file system's times.
///
/// # Errors
/// Any but that it is not there.
pub(crate) fn look(path: &Path, now: SystemTime) -> std::io::Result<GuardState> {
    use std::os::unix::fs::MetadataExt;
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(GuardState::Absent),
        Err(error) => Err(error),
        Ok(metadata) => {
            let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
            let age = now.duration_since(changed).unwrap_or_default();
            Ok(if age > STALE { GuardState::Stale } else { GuardState::Fresh })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 57
    #[test]
    fn both_kinds_of_leftovers_go_at_start_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let directory = layout.at("/var/tmp");
        fs::create_dir_all(directory.join("machine-provision-directory")).unwrap();
        for name in ["machine-provision-a", "machine-creation-b", "machine-c"] {
            fs::write(directory.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("/nonexistent", directory.join("machine-creation-link")).unwrap();
        assert_eq!(remove_stale_guards(&layout), 2);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
    }

    /// cn-agent case 34
    #[test]
    fn a_guard_older_than_ten_minutes_is_stale() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let uuid = InstanceUuid::random();
        let path = layout.provision_guard(uuid);
        assert_eq!(look(&path, SystemTime::now()).unwrap(), GuardState::Absent);
        let guard = ProvisionGuard::create(&layout, uuid);
        assert_eq!(look(&path, SystemTime::now()).unwrap(), GuardState::Fresh);
        assert_eq!(look(&path, SystemTime::now() + STALE + Duration::from_secs(2)).unwrap(), GuardState::Stale);
        drop(guard);
        assert!(!path.exists());
    }
}
