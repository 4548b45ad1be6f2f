//! Pidfds: the FFI of this crate.
#![allow(unsafe_code)]

use std::{
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use triton_types::ProcessRef;

use crate::is_alive;

/// A process that cannot be mistaken for another one, however long it is held.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens `process`; `None` if it has ended.
    pub fn open(process: ProcessRef) -> Option<Self> {
        // SAFETY: pidfd_open takes two integers and returns a new descriptor or -1.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
        let raw = i32::try_from(raw).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the kernel just gave this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // The pid may have been reused before it was opened; after it, it cannot be.
        is_alive(process).then_some(Self { fd })
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// ESRCH when the process has ended.
    pub fn signal(&self, signal: i32) -> Result<(), Errno> {
        // SAFETY: the descriptor is ours and open; a null siginfo means "as kill(2)".
        let result =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, std::ptr::null::<libc::siginfo_t>(), 0) };
        Errno::result(result).map(drop)
    }

    /// Waits until the process has ended; false at the deadline.
    pub fn wait(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left.min(Duration::from_secs(3600))).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if left.is_zero() => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return true,
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
