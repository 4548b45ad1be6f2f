//! `console`: the operator's terminal on the guest's console, until Ctrl-] (instances.md section 7.3).

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    process::ExitCode,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};
use triton_files::Layout;
use triton_lxc::LibLxc;
use triton_types::InstanceUuid;

use crate::{boot::lxcpath, note::chain};

/// Ctrl-].
const ESCAPE: u8 = 0x1d;

/// Attaches to the console of a running guest.
pub fn console(root: &Path, uuid: InstanceUuid) -> ExitCode {
    match attach(root, uuid) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn attach(root: &Path, uuid: InstanceUuid) -> Result<(), String> {
    let config = Layout::new(root).runtime(uuid).join("lxc.conf");
    let library = LibLxc::load().map_err(|e| chain(&e))?;
    let container = library.open(&uuid.to_string(), &lxcpath(&config)).map_err(|e| chain(&e))?;
    let console = container.console().map_err(|e| chain(&e))?;
    let stdin = io::stdin();
    let _raw = RawTerminal::new(stdin.as_fd()).map_err(|e| format!("the terminal cannot be set up: {e}"))?;
    if stdin.is_terminal() {
        eprint!("Connected to the console of {uuid}; Ctrl-] ends.\r\n");
    }
    let master = File::from(console.master.try_clone().map_err(|e| format!("the console cannot be used: {e}"))?);
    relay(stdin.as_fd(), master).map_err(|e| format!("the console broke off: {e}"))
}

/// Copies both ways until the escape key, the end of input, or the guest's end.
fn relay(input: BorrowedFd<'_>, mut master: File) -> io::Result<()> {
    let mut reader = File::from(input.try_clone_to_owned()?);
    let mut output = io::stdout().lock();
    let mut buffer = [0; 4096];
    loop {
        let mut fds = [PollFd::new(input, PollFlags::POLLIN), PollFd::new(master.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let (typed, printed) = (ready(&fds[0]), ready(&fds[1]));
        if printed {
            match master.read(&mut buffer) {
                Ok(0) => return Ok(()),
                // The other end of a pseudo terminal is gone.
                Err(e) if e.raw_os_error() == Some(libc::EIO) => return Ok(()),
                Err(e) => return Err(e),
                Ok(count) => output.write_all(&buffer[..count]).and_then(|()| output.flush())?,
            }
        }
        if typed {
            let count = reader.read(&mut buffer)?;
            let end = buffer[..count].iter().position(|byte| *byte == ESCAPE);
            master.write_all(&buffer[..end.unwrap_or(count)])?;
            if count == 0 || end.is_some() {
                return Ok(());
            }
        }
    }
}

/// A terminal in raw mode, as it was before when dropped.
struct RawTerminal<'a> {
    fd: BorrowedFd<'a>,
    before: Option<Termios>,
}

impl<'a> RawTerminal<'a> {
    fn new(fd: BorrowedFd<'a>) -> nix::Result<Self> {
        let before = match tcgetattr(fd) {
            Ok(before) => before,
            Err(Errno::ENOTTY) => return Ok(Self { fd, before: None }),
            Err(errno) => return Err(errno),
        };
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(fd, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { fd, before: Some(before) })
    }
}

impl Drop for RawTerminal<'_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(self.fd, SetArg::TCSADRAIN, before);
        }
    }
}
