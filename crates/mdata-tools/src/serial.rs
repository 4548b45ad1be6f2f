//! The second serial line, which several processes share (metadata.md section 5.3).

use std::{
    fs::File,
    io::{self, Read, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    time::{Duration, Instant},
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};
use triton_mdata::client::RESET_ANSWER;

use crate::transport::{Line, next};

/// Silence after which the line counts as empty.
const SILENCE: Duration = Duration::from_millis(100);
/// Longest time that it is emptied for.
const EMPTYING: Duration = Duration::from_secs(5);
/// Until the service answers an empty line.
const RESET: Duration = Duration::from_secs(2);

/// The line, locked, raw and empty.
pub(crate) struct Serial {
    file: File,
    patience: Duration,
}

impl Serial {
    /// The device.
    pub(crate) const PATH: &'static str = "/dev/ttyS1";

    /// Opens the line and brings it to order. The lock lasts until it is closed.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = nix::libc::O_NOCTTY | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
        let file = File::options().read(true).write(true).custom_flags(flags).open(Self::PATH)?;
        let mut settings = tcgetattr(&file)?;
        let lock =
            nix::libc::flock { l_type: nix::libc::F_WRLCK as i16, l_whence: nix::libc::SEEK_SET as i16, l_start: 0, l_len: 0, l_pid: 0 };
        fcntl(&file, FcntlArg::F_SETLKW(&lock))?;
        cfmakeraw(&mut settings);
        tcsetattr(&file, SetArg::TCSANOW, &settings)?;
        let mut line = Self { file, patience: SILENCE };
        line.empty()?;
        line.write_all(b"\n")?;
        match next(&mut line, &mut Vec::new(), RESET)?.as_str() {
            RESET_ANSWER => Ok(line),
            other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("nobody serves metadata there: it said {other:?}"))),
        }
    }

    fn empty(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        let mut chunk = [0; 4096];
        while begin.elapsed() < EMPTYING {
            match self.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Ok(()),
                other => other.map(drop)?,
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "the line is never silent"))
    }

    fn wait(&self, events: PollFlags) -> io::Result<()> {
        let mut fds = [PollFd::new(self.file.as_fd(), events)];
        match poll(&mut fds, PollTimeout::try_from(self.patience).unwrap_or(PollTimeout::MAX))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

impl Line for Serial {
    fn patience(&mut self, patience: Duration) -> io::Result<()> {
        self.patience = patience.max(Duration::from_millis(1));
        Ok(())
    }
}

impl Read for Serial {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait(PollFlags::POLLIN)?;
        (&self.file).read(buffer)
    }
}

impl Write for Serial {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match (&self.file).write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wait(PollFlags::POLLOUT)?,
                other => return other,
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
