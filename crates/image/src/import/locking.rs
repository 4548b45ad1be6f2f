//! Import locks: `/var/run/img.<uuid>.import.lock`, taken from the image down to its base.

use std::time::{Duration, Instant};

use triton_files::{Lock, LockError};
use triton_types::ImageUuid;

use super::{Found, ImportOptions, Locks};
use crate::{CancelToken, Event, ImageError, Images, Progress};

/// How long a wait lasts before the operator is told.
const TELL_AFTER: Duration = Duration::from_secs(1);
/// How often a wait looks whether it was cancelled.
const SLICE: Duration = Duration::from_millis(250);

impl Images {
    /// Takes the lock of one image.
    pub(crate) fn lock(
        &self,
        uuid: ImageUuid,
        action: &str,
        patience: Duration,
        progress: &dyn Progress,
        cancel: &CancelToken,
    ) -> Result<Lock, ImageError> {
        let path = self.layout.image_lock(uuid);
        let begin = Instant::now();
        let mut told = false;
        loop {
            let waited = begin.elapsed();
            match Lock::take(&path, action, SLICE.min(patience.saturating_sub(waited))) {
                Ok(lock) => return Ok(lock),
                Err(LockError::Held { .. }) if cancel.is_cancelled() => return Err(ImageError::Cancelled(uuid)),
                Err(LockError::Held { .. }) if begin.elapsed() < patience => {}
                Err(source) => return Err(ImageError::Locked { uuid, source }),
            }
            if !told && begin.elapsed() >= TELL_AFTER {
                told = true;
                progress.event(&Event::WaitingForLock(uuid));
            }
        }
    }

    /// Locks all images of the chain in its order (top to base: every process takes them in the same direction, so none waits
    /// for another in a circle). Returns those that are still missing.
    pub(super) fn lock_chain(
        &self,
        chain: Vec<Found>,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<(Locks, Vec<Found>), ImageError> {
        let mut locks = Locks::new();
        let mut missing = Vec::new();
        for found in chain {
            let uuid = found.manifest.uuid;
            let lock = self.lock(uuid, "import", options.patience, progress, &options.cancel)?;
            if self.is_installed(uuid)? {
                // Its origins are installed too, then.
                break;
            }
            locks.push(lock);
            missing.push(found);
        }
        Ok((locks, missing))
    }
}
