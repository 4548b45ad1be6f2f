//! Waiting for a group to become empty, without polling it.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An open `cgroup.events`. Its descriptor becomes ready for POLLPRI when the group becomes populated or empty.
#[derive(Debug)]
pub struct PopulationWatch {
    file: File,
}

impl PopulationWatch {
    pub(crate) fn new(file: File) -> Self {
        Self { file }
    }

    /// Whether the group or one below it has processes; false also when the group is gone. Reading arms the descriptor again.
    pub fn populated(&mut self) -> bool {
        let mut text = String::new();
        let read = self.file.seek(SeekFrom::Start(0)).and_then(|_| self.file.read_to_string(&mut text));
        read.is_ok() && is_populated(&text)
    }

    /// Waits until the group is empty; false at the deadline.
    pub fn wait_empty(&mut self, deadline: Instant) -> bool {
        loop {
            if !self.populated() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            // A removed group's file is never ready again: so no wait is longer than a second.
            let pause = PollTimeout::try_from(left.min(Duration::from_secs(1))).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)], pause);
        }
    }
}

impl AsFd for PopulationWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub(crate) fn is_populated(events: &str) -> bool {
    events.lines().any(|line| line == "populated 1")
}
