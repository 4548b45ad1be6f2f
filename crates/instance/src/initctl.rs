//! Asking System V's init for a runlevel, as `telinit` does: by a request of 384 bytes in the fifo `/run/initctl`.
//!
//! Its signals do not do: what SIGPWR does is a line of the guest's `inittab`, which most distributions leave empty.

use std::{
    fs::File,
    io::{self, Write},
    os::{fd::AsRawFd, unix::fs::FileTypeExt},
};

use nix::{
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use crate::guest_init::Request;

/// Where the fifo is, below the guest's root.
const PATHS: [&str; 2] = ["run/initctl", "dev/initctl"];
/// `struct init_request`: magic, command, runlevel, seconds between SIGTERM and SIGKILL, and room for data.
const SIZE: usize = 384;
const MAGIC: i32 = 0x0309_1969;
const RUNLEVEL: i32 = 1;

fn request(request: Request) -> [u8; SIZE] {
    let runlevel = match request {
        Request::Halt => b'0',
        Request::Reboot => b'6',
    };
    let mut bytes = [0; SIZE];
    for (index, field) in [MAGIC, RUNLEVEL, i32::from(runlevel), 5].into_iter().enumerate() {
        bytes[index * 4..index * 4 + 4].copy_from_slice(&field.to_ne_bytes());
    }
    bytes
}

/// Asks the init with this pid, if it listens. What lies in the guest's files is its own: nothing is opened but a fifo that no link
/// leads to, and nothing is waited for.
///
/// # Errors
/// When there is no fifo, or nobody reads it.
pub(crate) fn ask(pid: i32, wanted: Request) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = open(format!("/proc/{pid}/root").as_str(), flags, Mode::empty())?;
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    for path in PATHS {
        let Ok(found) = openat2(&root, path, how).map(File::from) else { continue };
        // Looked at before it is opened: opening a device does something.
        if !found.metadata()?.file_type().is_fifo() {
            continue;
        }
        let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fifo = open(format!("/proc/self/fd/{}", found.as_raw_fd()).as_str(), flags, Mode::empty())?;
        return File::from(fifo).write_all(&request(wanted));
    }
    Err(io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_init_reads_it() {
        let bytes = request(Request::Reboot);
        assert_eq!(bytes[..16], [&MAGIC.to_ne_bytes()[..], &1i32.to_ne_bytes(), &54i32.to_ne_bytes(), &5i32.to_ne_bytes()].concat());
        assert!(bytes[16..].iter().all(|byte| *byte == 0));
    }
}
