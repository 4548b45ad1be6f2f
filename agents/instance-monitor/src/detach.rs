//! Becoming a process that depends on nobody.

use std::io;

use nix::{
    sys::{
        prctl::set_child_subreaper,
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::setsid,
};

use crate::ffi;

/// Goes on in a child, which is nobody's: true there, false in the process that was started, which has nothing left to do. To be called
/// before this process has started a thread. To run the program anew for it would cost a start of a guest some milliseconds.
pub fn detach() -> io::Result<bool> {
    ffi::fork()
}

/// A session of its own when detached; children of children come here; no signal but SIGKILL ends this process: it ends
/// with its guest.
pub fn settle(detached: bool) -> nix::Result<()> {
    if detached {
        setsid()?;
    }
    set_child_subreaper(true)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?;
    umask(Mode::from_bits_truncate(0o022));
    nix::unistd::chdir("/")
}
