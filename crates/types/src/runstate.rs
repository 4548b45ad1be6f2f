//! `/run/triton/instances/<uuid>.json`: what an instance is right now (design section 4).
//!
//! A stable protocol between monitors and agents of different versions (ruling 58): fields are only added.

use serde::{Deserialize, Serialize};

use crate::{InstanceUuid, ProcessRef, Timestamp};

/// How far an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunPhase {
    /// No init, and nothing under way.
    Stopped,
    /// The monitor was launched; init has not begun.
    Starting,
    /// Init is alive.
    Running,
    /// A stop or reboot was asked for and init has not ended.
    Stopping,
}

/// How the last run of an instance's init ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// When it ended.
    pub at: Timestamp,
    /// `exit_status` of the VM object: 0 to 255 for an exit, minus the signal's number for a death by signal.
    pub status: i32,
    /// The kernel killed for lack of memory during this run.
    #[serde(default)]
    pub oom: bool,
}

/// The run-state file. Absent is the same as [`RunState::stopped`] with generation 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunState {
    /// Version of the format, 1.
    pub format: u32,
    /// Whose state this is.
    pub uuid: InstanceUuid,
    /// Grows with every change of the instance, its metadata included (ruling 2).
    pub generation: u64,
    /// How far it is.
    pub phase: RunPhase,
    /// The guest's init, while there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<ProcessRef>,
    /// The supervisor that is the guest's parent, or has adopted it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<ProcessRef>,
    /// The supervisor took the guest over from one that died: its exit status will not be known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// When init began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_timestamp: Option<Timestamp>,
    /// How the last run ended; absent until the first end and after the end of an adopted run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_exit: Option<ExitRecord>,
    /// Why the last start failed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_error: Option<String>,
    /// When the file was written.
    pub updated: Timestamp,
}

impl RunState {
    /// The version of the format that this code writes.
    pub const FORMAT: u32 = 1;

    /// The state of an instance that was never started since the machine booted.
    pub fn stopped(uuid: InstanceUuid) -> Self {
        Self {
            format: Self::FORMAT,
            uuid,
            generation: 0,
            phase: RunPhase::Stopped,
            init: None,
            supervisor: None,
            adopted: false,
            boot_timestamp: None,
            last_exit: None,
            start_error: None,
            updated: Timestamp::now(),
        }
    }
}
