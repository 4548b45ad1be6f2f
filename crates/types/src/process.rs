//! A process that can be recognised again.

use serde::{Deserialize, Serialize};

/// A process id together with its start time, so that a reused pid is not mistaken for the process that was meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessRef {
    /// The process id in the host's pid namespace.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub start_ticks: u64,
}
