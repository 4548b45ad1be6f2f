//! Becoming a process that depends on nobody.

use std::{
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::{
        prctl::set_child_subreaper,
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::setsid,
};
use triton_types::InstanceUuid;

/// Starts the detached supervisor, a fresh process with the same descriptors, and leaves it alone.
pub fn detach(verb: &str, root: &Path, uuid: InstanceUuid, ready_fd: i32) -> io::Result<()> {
    Command::new("/proc/self/exe")
        .arg0("instance-monitor")
        .args([verb, "--detached", "--ready-fd", &ready_fd.to_string(), "--root"])
        .arg(root)
        .arg(uuid.to_string())
        .stdin(Stdio::null())
        .spawn()
        .map(drop)
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
