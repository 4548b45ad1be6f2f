//! A terminal for a program inside a guest, and what a caller may send to one.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    pty::{Winsize, openpty},
    unistd::{read, write},
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, unix::AsyncFd};

/// A line of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Data(String),
    Resize { width: u16, height: u16 },
    End,
}

impl Input {
    /// `None` for a line that says nothing.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let line: Value = serde_json::from_slice(line.trim_ascii()).ok()?;
        let number = |key: &str| u16::try_from(line["resize"][key].as_u64()?).ok();
        match line["type"].as_str()? {
            "end" => Some(Self::End),
            "stdin" | "tty" => match (number("w"), number("h")) {
                (Some(width), Some(height)) => Some(Self::Resize { width, height }),
                _ => Some(Self::Data(line["data"].as_str()?.to_owned())),
            },
            _ => None,
        }
    }
}

/// The near side of a terminal. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Terminal(Arc<AsyncFd<OwnedFd>>);

impl Terminal {
    /// A new terminal, with its far side.
    pub(super) fn open() -> io::Result<(Self, OwnedFd)> {
        let pair = openpty(None, None)?;
        for side in [&pair.master, &pair.slave] {
            fcntl(side, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
        }
        fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK | OFlag::O_RDWR))?;
        Ok((Self(Arc::new(ffi::watch(pair.master)?)), pair.slave))
    }

    /// Says how large the caller's window is.
    pub(super) fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        ffi::set_size(self.0.get_ref().as_raw_fd(), &size).map_err(io::Error::from)
    }
}

impl AsyncRead for Terminal {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let result = guard.try_io(|inner| Ok(read(inner.get_ref(), buffer.initialize_unfilled())?));
            match result {
                Ok(Ok(count)) => {
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // The last program at its far side has ended.
                Ok(Err(error)) if error.raw_os_error() == Some(nix::libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Terminal {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|inner| Ok(write(inner.get_ref(), bytes)?)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

mod ffi {
    //! The calls that have no safe form.
    #![allow(unsafe_code)]

    use std::{
        io,
        os::fd::{OwnedFd, RawFd},
    };

    use nix::pty::Winsize;
    use tokio::io::unix::AsyncFd;

    /// Has the runtime watch a descriptor.
    pub(super) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
        // SAFETY: the result owns the descriptor and gives out no way to replace or close it before it is no more watched.
        Ok(unsafe { AsyncFd::register(fd) }?)
    }

    nix::ioctl_write_ptr_bad!(set_window, nix::libc::TIOCSWINSZ, Winsize);

    /// Sets the size of the terminal behind `fd`.
    pub(super) fn set_size(fd: RawFd, size: &Winsize) -> nix::Result<()> {
        // SAFETY: the kernel reads one Winsize, which lives until the call returns; the descriptor is the caller's.
        unsafe { set_window(fd, size) }.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn lines_are_data_sizes_or_the_end() {
        for (line, expected) in [
            (r#"{"type":"stdin","data":"x\n"}"#, Some(Input::Data("x\n".to_owned()))),
            (r#"{"type":"tty","resize":{"w":80,"h":25}}"#, Some(Input::Resize { width: 80, height: 25 })),
            ("{\"type\":\"end\"}\r\n", Some(Input::End)),
            (r#"{"type":"tty","resize":{"w":-1,"h":70000}}"#, None),
            (r#"{"type":"stdin","data":5}"#, None),
            ("[]", None),
            ("nonsense", None),
        ] {
            assert_eq!(Input::parse(line.as_bytes()), expected, "{line}");
        }
    }

    #[tokio::test]
    async fn what_is_typed_arrives_and_the_end_of_the_far_side_is_the_end() {
        let (mut terminal, far) = Terminal::open().unwrap();
        terminal.resize(100, 30).unwrap();
        let shell = std::process::Command::new("/bin/sh")
            .args(["-c", "read word; stty size; echo got $word"])
            .stdin(far.try_clone().unwrap())
            .stdout(far.try_clone().unwrap())
            .stderr(far)
            .spawn();
        let mut shell = shell.unwrap();
        terminal.write_all(b"hello\n").await.unwrap();
        let mut said = String::new();
        terminal.read_to_string(&mut said).await.unwrap();
        assert!(said.contains("30 100") && said.contains("got hello"), "{said}");
        shell.wait().unwrap();
    }
}
