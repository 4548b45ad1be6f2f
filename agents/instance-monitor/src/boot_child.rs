//! The supervisor's side of a boot child.

use std::{
    io::{PipeReader, Read},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::boot::BootResult;

/// liblxc decides by what is on PATH whether it maps ids itself: with `newuidmap` there it would insist on `/etc/subuid`.
/// These directories have neither it nor `newgidmap`.
const PATH: &str = "/usr/sbin:/sbin";

/// A running boot. Its descriptor becomes readable when the child has ended.
pub struct BootChild {
    child: Child,
    result: PipeReader,
}

impl BootChild {
    /// Starts it, with nothing of this process but the result's descriptor.
    pub fn spawn(config: &Path, name: &str) -> std::io::Result<Self> {
        let (result, writer) = std::io::pipe()?;
        let child = Command::new("/proc/self/exe")
            .arg0("instance-monitor")
            .arg("boot")
            .arg("--config")
            .arg(config)
            .args(["--name", name, "--result-fd", "1"])
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, result })
    }

    /// Waits for its end; `None` if it was killed before it could say anything.
    pub fn finish(mut self) -> Option<BootResult> {
        let mut text = Vec::new();
        // Bounded: the other end is this very program.
        let _ = (&mut self.result).take(64 << 10).read_to_end(&mut text);
        let _ = self.child.wait();
        serde_json::from_slice(&text).ok()
    }

    /// Ends it by force.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl AsFd for BootChild {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.result.as_fd()
    }
}
