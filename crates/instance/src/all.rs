//! All instances at once: mounted and started when the machine boots, ended when it goes down (instances case 74, ruling 40).

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use triton_types::{InstanceUuid, Lifecycle, StorageKind};

use crate::{InstanceError, Instances, StopOptions, instances::PATIENCE, observe::Presence};

/// What came of it.
#[derive(Debug, Default)]
pub struct AllReport {
    /// Those that were started or ended, in the order in which they were done.
    pub done: Vec<InstanceUuid>,
    /// Those that could not be, and why.
    pub failed: Vec<(InstanceUuid, InstanceError)>,
}

/// Told of each instance when it is done.
pub type Progress<'a> = dyn Fn(InstanceUuid, Result<(), &InstanceError>) + Sync + 'a;

impl Instances {
    /// Starts every instance that is to run when the machine runs, at most `jobs` at a time. Those that run already are left alone;
    /// one that cannot be started does not keep the others from it. Done again, it does what is left.
    ///
    /// # Errors
    /// When the store of instances is not there.
    pub fn boot_all(&self, jobs: usize, progress: &Progress<'_>) -> Result<AllReport, InstanceError> {
        let mut wanted = Vec::new();
        let mut unreadable = Vec::new();
        for uuid in self.machines.uuids()? {
            match self.machines.read_alone(uuid) {
                Ok(file) if file.config.autoboot && file.lifecycle == Lifecycle::Installed => wanted.push(uuid),
                Ok(_) | Err(InstanceError::NotFound { .. }) => {}
                Err(error) => unreadable.push((uuid, error)),
            }
        }
        for (uuid, error) in &unreadable {
            progress(*uuid, Err(error));
        }
        let mut report = in_parallel(&wanted, jobs, progress, |uuid| {
            if self.run_of(uuid).1 == Presence::Running {
                return Ok(false);
            }
            match self.start(uuid) {
                Ok(()) => Ok(true),
                // Somebody was faster, or it was deleted meanwhile.
                Err(InstanceError::AlreadyRunning { .. } | InstanceError::NotFound { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        });
        report.failed.extend(unreadable);
        Ok(report)
    }

    /// Mounts the dataset of every instance, at most `jobs` at a time: the documents of an instance are on it, and readers that
    /// do not mount would take them for empty. Where instances are directories there is nothing to do.
    ///
    /// # Errors
    /// When the store of instances is not there.
    pub fn mount_all(&self, jobs: usize, progress: &Progress<'_>) -> Result<AllReport, InstanceError> {
        let uuids = self.machines.uuids()?;
        if self.storage.kind() == StorageKind::Dir {
            return Ok(AllReport::default());
        }
        Ok(in_parallel(&uuids, jobs, progress, |uuid| {
            // One that is being made, or is half gone, is for those who finish that.
            match self.machines.read_alone(uuid) {
                Ok(file) if file.lifecycle == Lifecycle::Installed => {}
                Ok(_) | Err(InstanceError::NotFound { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
            if self.storage.root(uuid).is_dir() {
                return Ok(false);
            }
            self.storage.mount_instance(uuid).map_err(InstanceError::step("mount", uuid))?;
            Ok(true)
        }))
    }

    /// Ends every guest, at most `jobs` at a time, each asked first and killed after `timeout`. `autoboot` stays as it is.
    ///
    /// # Errors
    /// When the store of instances is not there.
    pub fn halt_all(&self, jobs: usize, timeout: Duration, progress: &Progress<'_>) -> Result<AllReport, InstanceError> {
        let running: Vec<InstanceUuid> =
            self.machines.uuids()?.into_iter().filter(|uuid| self.run_of(*uuid).1 != Presence::Stopped).collect();
        let options = StopOptions { force: false, timeout: Some(timeout) };
        Ok(in_parallel(&running, jobs, progress, |uuid| {
            let _lock = match self.lock(uuid, "halt", PATIENCE.min(timeout)) {
                Err(InstanceError::NotFound { .. }) => return Ok(false),
                lock => lock?,
            };
            self.halt(uuid, options).map(|()| true)
        }))
    }
}

/// Does `each` for all of `uuids` on at most `jobs` threads.
fn in_parallel(
    uuids: &[InstanceUuid],
    jobs: usize,
    progress: &Progress<'_>,
    each: impl Fn(InstanceUuid) -> Result<bool, InstanceError> + Sync,
) -> AllReport {
    let (next, report) = (AtomicUsize::new(0), Mutex::new(AllReport::default()));
    let work = || {
        while let Some(&uuid) = uuids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = each(uuid);
            match &result {
                Ok(true) => progress(uuid, Ok(())),
                Ok(false) => continue,
                Err(error) => progress(uuid, Err(error)),
            }
            let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(_) => report.done.push(uuid),
                Err(error) => report.failed.push((uuid, error)),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, uuids.len().max(1)) {
            scope.spawn(work);
        }
    });
    report.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_by_no_more_threads_than_allowed_and_failures_are_kept() {
        let uuids: Vec<_> = (0..50).map(|_| InstanceUuid::random()).collect();
        let (now, most, told) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        let bad = uuids[7];
        let report = in_parallel(
            &uuids,
            4,
            &|_, _| {
                told.fetch_add(1, Ordering::SeqCst);
            },
            |uuid| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                if uuid == bad { Err(InstanceError::NotFound { uuid }) } else { Ok(uuid != uuids[8]) }
            },
        );
        assert_eq!((report.done.len(), report.failed.len(), told.into_inner()), (48, 1, 49));
        assert!(most.into_inner() <= 4 && report.failed[0].0 == bad);
        assert_eq!(in_parallel(&[], 4, &|_, _| {}, |_| Ok(true)).done.len(), 0);
    }
}
