//! Which instances this node destroyed itself.
//!
//! Whoever tells a headnode what is gone may have been away when it went. That an instance is not here proves little (its files may
//! be what is missing); that this node destroyed it proves all. An empty file per instance, named by its uuid, in
//! `/var/triton/vmadm/gone`; forgotten after a month, the oldest first beyond ten thousand.

use std::{
    collections::BTreeSet,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use triton_files::Layout;
use triton_types::InstanceUuid;

/// Agents that were away longer compare with what is there.
const REMEMBERED: Duration = Duration::from_secs(30 * 86_400);
/// At most so many.
const LIMIT: usize = 10_000;

fn folder(layout: &Layout) -> PathBuf {
    layout.at("/var/triton/vmadm/gone")
}

/// Remembers that this node is about to forget an instance that it destroyed. A full disk keeps no deletion from its end.
pub(crate) fn remember(layout: &Layout, uuid: InstanceUuid) {
    let path = folder(layout).join(uuid.to_string());
    if let Err(error) = fs::create_dir_all(folder(layout)).and_then(|()| fs::write(&path, "")) {
        tracing::warn!(vm_uuid = %uuid, %error, "it is not remembered that this node destroyed it");
    }
}

/// The instances that this node destroyed and has not forgotten. One of them may be here again, or elsewhere.
pub fn gone(layout: &Layout) -> BTreeSet<InstanceUuid> {
    let names = fs::read_dir(folder(layout)).into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Forgets what is old, and the oldest of too many.
pub(crate) fn forget(layout: &Layout) {
    forget_but(layout, LIMIT, SystemTime::now());
}

fn forget_but(layout: &Layout, limit: usize, now: SystemTime) {
    let entries = fs::read_dir(folder(layout)).into_iter().flatten().flatten();
    let mut all: Vec<(SystemTime, PathBuf)> =
        entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
    all.sort_unstable();
    let many = all.len().saturating_sub(limit);
    for (number, (since, path)) in all.into_iter().enumerate() {
        // A clock that was set back makes nothing old.
        if number < many || now.duration_since(since).is_ok_and(|age| age > REMEMBERED) {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_destroyed_is_remembered_for_a_month_and_not_without_end() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert!(gone(&layout).is_empty());
        let uuids: Vec<InstanceUuid> = (0..4).map(|_| InstanceUuid::random()).collect();
        let now = SystemTime::now();
        for (days, uuid) in [40, 20, 10, 0].into_iter().zip(&uuids) {
            remember(&layout, *uuid);
            let file = fs::File::options().write(true).open(folder(&layout).join(uuid.to_string())).unwrap();
            file.set_modified(now - Duration::from_secs(days * 86_400)).unwrap();
        }
        assert_eq!(gone(&layout), uuids.iter().copied().collect());
        forget_but(&layout, 10, now);
        assert_eq!(gone(&layout), uuids[1..].iter().copied().collect());
        forget_but(&layout, 2, now);
        assert_eq!(gone(&layout), uuids[2..].iter().copied().collect());
    }
}
