//! Why ZFS did not do something.

use std::io;

/// What is missing on this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// A shared library cannot be loaded, or lacks a function.
    #[error("{library} cannot be used: {reason}")]
    Library {
        /// Its file name.
        library: &'static str,
        /// What the loader says.
        reason: String,
    },
    /// The kernel module does not answer.
    #[error("the kernel module does not answer ({0})")]
    Module(String),
    /// A command is not installed.
    #[error("the command {0} is not installed")]
    Command(&'static str),
}

/// Kinds of failure that callers tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// ZFS is not there at all.
    Unavailable,
    /// No such pool, dataset or snapshot.
    NotFound,
    /// It is there already.
    Exists,
    /// Mounted, held or otherwise in use.
    Busy,
    /// Clones depend on it.
    HasClones,
    /// Space, quota or a limit is exhausted.
    NoSpace,
    /// Not permitted.
    Denied,
    /// Arguments or data were refused.
    Invalid,
    /// The command did not end in its time; it was killed.
    TimedOut,
    /// Anything else; the text says what.
    Other,
}

/// A verb failed.
#[derive(Debug, thiserror::Error)]
pub enum ZfsError {
    /// ZFS is not there.
    #[error("ZFS is not available: {0}")]
    Unavailable(#[from] Unavailable),
    /// ZFS answered no.
    #[error("could not {action} {target}: {reason}")]
    Failed {
        /// The verb.
        action: &'static str,
        /// On what.
        target: String,
        /// Kind of the refusal.
        kind: FailureKind,
        /// What ZFS or the kernel says.
        reason: String,
    },
    /// A command's output is not what its documentation promises.
    #[error("{what} cannot be read: {line:?}")]
    Output {
        /// Which output.
        what: &'static str,
        /// The line in question, cut.
        line: String,
    },
}

impl ZfsError {
    /// The kind of failure.
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::Unavailable(_) => FailureKind::Unavailable,
            Self::Failed { kind, .. } => *kind,
            Self::Output { .. } => FailureKind::Other,
        }
    }

    /// From the errno of an `lzc_*` call, or of I/O around it.
    pub(crate) fn from_errno(action: &'static str, target: &dyn std::fmt::Display, errno: i32) -> Self {
        let kind = match errno {
            libc::ENOENT | libc::ESRCH => FailureKind::NotFound,
            libc::EEXIST => FailureKind::Exists,
            libc::EBUSY => FailureKind::Busy,
            libc::ENOSPC | libc::EDQUOT => FailureKind::NoSpace,
            libc::EPERM | libc::EACCES => FailureKind::Denied,
            libc::EINVAL | libc::ENAMETOOLONG | libc::EXDEV | libc::ENODEV => FailureKind::Invalid,
            _ => FailureKind::Other,
        };
        let reason = io::Error::from_raw_os_error(errno).to_string();
        Self::Failed { action, target: target.to_string(), kind, reason }
    }

    /// From what a command printed on its standard error.
    pub(crate) fn from_text(action: &'static str, target: &str, text: &str) -> Self {
        let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
        let kind = if has(&["ZFS modules cannot be auto-loaded", "modules are not loaded", "/dev/zfs", "Failed to initialize the libzfs"]) {
            return Unavailable::Module(one_line(text)).into();
        } else if has(&["does not exist", "no such pool", "could not find any snapshots"]) {
            FailureKind::NotFound
        } else if has(&["already exists", "dataset exists"]) {
            FailureKind::Exists
        } else if has(&["dependent clones"]) {
            FailureKind::HasClones
        } else if has(&["busy", "Device or resource busy"]) {
            FailureKind::Busy
        } else if has(&["out of space", "No space left", "quota exceeded", "Disc quota exceeded", "Disk quota exceeded"]) {
            FailureKind::NoSpace
        } else if has(&["permission denied", "Permission denied", "Operation not permitted"]) {
            FailureKind::Denied
        } else if has(&["invalid", "must be"]) {
            FailureKind::Invalid
        } else {
            FailureKind::Other
        };
        Self::Failed { action, target: target.to_owned(), kind, reason: one_line(text) }
    }
}

/// The text as one line of bounded length, for error messages.
fn one_line(text: &str) -> String {
    let mut line = text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = line.char_indices().nth(500) {
        line.truncate(end);
    }
    if line.is_empty() { "no reason was given".to_owned() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_commands_are_told_apart() {
        for (text, kind) in [
            ("cannot open 'zones/x': dataset does not exist\n", FailureKind::NotFound),
            ("cannot create 'zones/x': dataset already exists\n", FailureKind::Exists),
            ("cannot destroy 'zones/x': dataset is busy\n", FailureKind::Busy),
            ("cannot unmount '/zones/x': pool or dataset is busy\n", FailureKind::Busy),
            (
                "cannot destroy 'zones/x': filesystem has dependent clones\nuse '-R' to destroy the following datasets:\nzones/y\n",
                FailureKind::HasClones,
            ),
            ("cannot receive new filesystem stream: out of space\n", FailureKind::NoSpace),
            ("cannot set property for 'zones/x': 'quota' must be a number\n", FailureKind::Invalid),
            (
                "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger' and 'mount -t proc proc /proc' as root.\n",
                FailureKind::Unavailable,
            ),
            (
                "The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root to manually load them.\n",
                FailureKind::Unavailable,
            ),
            ("", FailureKind::Other),
        ] {
            assert_eq!(ZfsError::from_text("do", "zones/x", text).kind(), kind, "{text}");
        }
        let error = ZfsError::from_errno("clone", &"zones/x", libc::EEXIST);
        assert_eq!((error.kind(), error.to_string().as_str()), (FailureKind::Exists, "could not clone zones/x: File exists (os error 17)"));
    }
}
