//! Pseudo terminals by their master.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// Opens the other side of the pseudo terminal whose master this is, as nobody's controlling terminal. No path is needed: it
/// is the right one even where another `/dev/pts` is mounted.
///
/// # Errors
/// When it is no master, or its other side cannot be opened.
pub fn terminal_of_master(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC | libc::O_NONBLOCK;
    // SAFETY: this request takes flags by value and returns a new descriptor or -1.
    let raw = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}
