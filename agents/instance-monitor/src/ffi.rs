//! The FFI of this program: a child, descriptors given by number, dispositions of signals, the C library's heap.
#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd},
};

/// Takes over the descriptor `number`, which the starter of this process opened for it. At most once per number.
pub fn take_fd(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_GETFD only looks.
    if number < 0 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and by the contract of the option that named it nothing else in this process uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Splits this process, which has one thread; true in the child.
pub fn fork() -> io::Result<bool> {
    // SAFETY: without other threads nothing can be in the midst of a change in the child, whatever it does.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(pid == 0),
    }
}

/// Moves the descriptor `number` to 3, to be closed at exec, and closes every other one from 3 on: neither hooks nor a guest's
/// init get any. To be called before anything in this process has opened a file.
pub fn keep_only(number: i32) -> io::Result<OwnedFd> {
    const KEPT: i32 = 3;
    let check = |result: i64| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    if number != KEPT {
        // SAFETY: duplicates one descriptor onto a number that nothing of this process owns yet.
        check(i64::from(unsafe { libc::dup3(number, KEPT, libc::O_CLOEXEC) }))?;
    }
    // SAFETY: changes the flags of a descriptor.
    check(i64::from(unsafe { libc::fcntl(KEPT, libc::F_SETFD, libc::FD_CLOEXEC) }))?;
    // SAFETY: closes numbers that nothing of this process owns.
    check(unsafe { libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, 0u32) })?;
    // SAFETY: it is open, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(KEPT) })
}

/// Gives every signal its default disposition back. Rust's runtime ignores SIGPIPE, starters may ignore others, and exec
/// would pass all that on to a guest's init.
pub fn default_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // The runtime's handlers for stack overflow stay: exec resets handlers by itself.
        if !matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
            // SAFETY: SIG_DFL is no function of ours that could run; signals that cannot be set are refused.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Gives unused memory back to the kernel: monitors live long and do nothing (ruling 55).
pub fn trim_heap() {
    // SAFETY: malloc_trim only releases free pages of the heap.
    unsafe { libc::malloc_trim(0) };
}
