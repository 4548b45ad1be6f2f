//! Waiting for those who read below a mount point for a moment.
//!
//! Every agent that hears of a change reads the instance's files below its mount point, and ZFS unmounts nothing that has an
//! open file. Such readers are gone in milliseconds; who stays longer is named.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use triton_zfs::{FailureKind, ZfsError};

/// How long readers are waited for: a node with fifty creations at once answers within seconds.
const PATIENCE: Duration = Duration::from_secs(15);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// So many processes are named.
const NAMED: usize = 3;

/// Does `work` until it is not refused because something is busy, for a while.
pub(super) fn patiently<T>(work: impl FnMut() -> Result<T, ZfsError>) -> Result<T, ZfsError> {
    for_at_most(PATIENCE, work)
}

fn for_at_most<T>(patience: Duration, mut work: impl FnMut() -> Result<T, ZfsError>) -> Result<T, ZfsError> {
    let end = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    loop {
        match work() {
            Err(error) if error.kind() == FailureKind::Busy && Instant::now() + pause < end => sleep(pause),
            other => return other,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Processes with an open file, a working or a root directory at or below `path`: `name (pid)`, a few of them.
pub(super) fn users(path: &Path) -> Vec<String> {
    let below = |link: &Path| fs::read_link(link).is_ok_and(|target| target.starts_with(path));
    let uses = |process: &Path| {
        below(&process.join("cwd"))
            || below(&process.join("root"))
            || fs::read_dir(process.join("fd")).into_iter().flatten().flatten().any(|fd| below(&fd.path()))
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) && uses(&entry.path()))
        .take(NAMED)
        .map(|entry| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} ({})", name.trim_end(), entry.file_name().display())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::testing::Scratch;

    fn refused(kind: FailureKind) -> ZfsError {
        ZfsError::Failed { action: "unmount", target: "zones/x".to_owned(), kind, reason: "no".to_owned() }
    }

    #[test]
    fn what_is_busy_is_tried_again_and_nothing_else() {
        let mut tries = 0;
        let done = for_at_most(Duration::from_secs(5), || {
            tries += 1;
            if tries < 4 { Err(refused(FailureKind::Busy)) } else { Ok(tries) }
        });
        assert_eq!(done.unwrap(), 4);
        let mut tries = 0;
        let failed = for_at_most::<()>(Duration::from_secs(5), || {
            tries += 1;
            Err(refused(FailureKind::NotFound))
        });
        assert_eq!((failed.unwrap_err().kind(), tries), (FailureKind::NotFound, 1));
        let failed = for_at_most::<()>(Duration::from_millis(30), || Err(refused(FailureKind::Busy)));
        assert_eq!(failed.unwrap_err().kind(), FailureKind::Busy);
    }

    #[test]
    fn who_has_a_file_open_is_named() {
        let folder = Scratch::new("users");
        let path = folder.0.canonicalize().unwrap();
        assert_eq!(users(&path), Vec::<String>::new());
        let _open = fs::File::create(path.join("file")).unwrap();
        let found = users(&path);
        assert!(found.len() == 1 && found[0].ends_with(&format!("({})", std::process::id())), "{found:?}");
    }
}
