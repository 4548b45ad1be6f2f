//! The run-state files: read by everybody, changed under a short lock of their own.
//!
//! The monitor of a running instance writes here while `vmadm` or an agent holds the instance's lock, so the two locks
//! are different. Every change bumps the generation (ruling 2).

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use triton_files::{FileError, Layout, Lock, LockError, read_json, remove_if_present, write_json_volatile};
use triton_types::{InstanceUuid, RunState, Timestamp};

/// How long a writer waits for another one; writes take milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A run-state file could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RunStateError {
    /// The file itself.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its lock.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Written by a newer version, whose meaning is not known (ruling 58).
    #[error("the run-state of {uuid} has format {format}; this version reads up to {}", RunState::FORMAT)]
    Newer {
        /// The instance.
        uuid: InstanceUuid,
        /// The format found.
        format: u32,
    },
}

/// The one field that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

/// The run-state files of one node.
#[derive(Clone, Debug)]
pub struct RunStates {
    layout: Layout,
}

impl RunStates {
    /// Those below `layout`.
    pub fn new(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    fn lock_path(&self, uuid: InstanceUuid) -> PathBuf {
        self.layout.locks().join(format!("run.{uuid}.lock"))
    }

    /// The state in the file; that of a stopped instance when there is none (ruling 43).
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn read(&self, uuid: InstanceUuid) -> Result<RunState, RunStateError> {
        Ok(self.find(uuid)?.unwrap_or_else(|| RunState::stopped(uuid)))
    }

    /// The state in the file, if there is one.
    ///
    /// # Errors
    /// When the file is there and cannot be used.
    pub fn find(&self, uuid: InstanceUuid) -> Result<Option<RunState>, RunStateError> {
        let path = self.layout.run_state(uuid);
        let newer = |format: u32| RunStateError::Newer { uuid, format };
        match read_json::<RunState>(&path) {
            Ok(Some(state)) if state.format > RunState::FORMAT => Err(newer(state.format)),
            Ok(state) => Ok(state),
            // What a newer version wrote may have another shape altogether: it is refused by name, not taken for garbage.
            Err(error) => match read_json::<Versioned>(&path) {
                Ok(Some(Versioned { format })) if format > RunState::FORMAT => Err(newer(format)),
                _ => Err(error.into()),
            },
        }
    }

    /// Changes the state and bumps its generation. A file that cannot be parsed is replaced.
    ///
    /// # Errors
    /// When the lock is not had in time or the file cannot be written.
    pub fn update(&self, uuid: InstanceUuid, change: impl FnOnce(&mut RunState)) -> Result<RunState, RunStateError> {
        let _lock = Lock::take(&self.lock_path(uuid), "update run-state", PATIENCE)?;
        let mut state = match self.read(uuid) {
            Err(RunStateError::File(_)) => RunState::stopped(uuid),
            other => other?,
        };
        change(&mut state);
        state.format = RunState::FORMAT;
        state.generation += 1;
        state.updated = Timestamp::now();
        // Below /run, which a power cut empties anyway (ruling 43).
        write_json_volatile(&self.layout.run_state(uuid), &state, 0o644)?;
        Ok(state)
    }

    /// Tells watchers that the instance's configuration changed.
    ///
    /// # Errors
    /// As [`RunStates::update`].
    pub fn bump(&self, uuid: InstanceUuid) -> Result<(), RunStateError> {
        self.update(uuid, |_| ()).map(drop)
    }

    /// Forgets a deleted instance.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn remove(&self, uuid: InstanceUuid) -> Result<(), RunStateError> {
        remove_if_present(&self.layout.run_state(uuid))?;
        remove_if_present(&self.lock_path(uuid))?;
        Ok(())
    }
}
