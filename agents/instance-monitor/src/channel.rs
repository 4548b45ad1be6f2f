//! The fifo by which the `start-host` hook tells the supervisor who init is.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::records::InitNotice;

const NAME: &str = "monitor.fifo";

/// The supervisor's end. A line is shorter than PIPE_BUF, so it comes whole.
pub struct Receiver {
    file: File,
}

impl Receiver {
    /// Makes the fifo anew: nothing of an earlier boot is in it.
    pub fn new(directory: &Path) -> io::Result<Self> {
        let path = directory.join(NAME);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        mkfifo(&path, Mode::from_bits_truncate(0o600))?;
        // Open for writing too, so that it never reads as ended.
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path)?;
        Ok(Self { file })
    }

    /// What was said, if anything was.
    pub fn receive(&mut self) -> Option<InitNotice> {
        let mut buffer = [0; 512];
        let count = self.file.read(&mut buffer).ok()?;
        let line = buffer[..count].split(|byte| *byte == b'\n').next()?;
        serde_json::from_slice(line).ok()
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Tells the supervisor.
///
/// # Errors
/// ENXIO when there is none: the start must then fail, since nobody would follow the guest.
pub fn send(directory: &Path, notice: &InitNotice) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(directory.join(NAME))?;
    let line = serde_json::to_string(notice)?;
    file.write_all(format!("{line}\n").as_bytes())
}
