//! What failed on which control group.

use std::{io, path::PathBuf};

/// An operation on control groups failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The mount table cannot be read.
    #[error("could not read the mounts of this process from {}", path.display())]
    Mounts {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No cgroup file system is mounted.
    #[error("no cgroup file system is mounted here")]
    None,
    /// A path that is empty, absolute, or has `.` or `..` in it: it could name a group of somebody else.
    #[error("{path:?} is not a relative path of a control group")]
    Path {
        /// The path.
        path: String,
    },
    /// A file or directory of a group could not be used.
    #[error("could not {action} {}", path.display())]
    Group {
        /// What was attempted.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Processes were still there at the deadline, after SIGKILL.
    #[error("processes of control group {path:?} are still there after they were killed: {pids:?}")]
    Survivors {
        /// The group.
        path: String,
        /// Some of the processes.
        pids: Vec<i32>,
    },
}

impl CgroupError {
    pub(crate) fn group(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Group { action, path, source }
    }
}
