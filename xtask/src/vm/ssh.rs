//! The way into the node: ssh on the forwarded port, over one connection that stays.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{disk, qemu, state::State};
use crate::{run, say::Progress};

/// The node, as ssh reaches it.
#[derive(Clone, Debug)]
pub struct Ssh {
    dir: PathBuf,
    port: u16,
}

impl Ssh {
    /// The machine below `dir`.
    pub fn new(dir: &Path, state: &State) -> Self {
        Self { dir: dir.to_owned(), port: state.ssh_port }
    }

    fn options(&self) -> Vec<String> {
        let mut words: Vec<String> = vec!["-i".to_owned(), disk::key(&self.dir).display().to_string()];
        // The node's keys are made at its first boot, on loopback: there is nobody to take them for another's.
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
            "ConnectTimeout=60",
            "ServerAliveInterval=30",
            "ServerAliveCountMax=20",
            "ControlMaster=auto",
            "ControlPersist=120",
            "BatchMode=yes",
        ] {
            words.extend(["-o".to_owned(), option.to_owned()]);
        }
        words.extend(["-o".to_owned(), format!("ControlPath={}", self.control().display())]);
        words
    }

    fn control(&self) -> PathBuf {
        self.dir.join("ssh-control")
    }

    /// A call of ssh with `script` for the node's shell.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.options()).args(["-p", &self.port.to_string(), "root@127.0.0.1", script]);
        command
    }

    /// As [`Ssh::command`], over a connection of its own that fails soon.
    pub fn alone(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        // The first value of an option counts.
        command.args(["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ConnectTimeout=20", "-o", "ServerAliveInterval=5"]);
        command.args(self.options()).args(["-p", &self.port.to_string(), "root@127.0.0.1", script]);
        command
    }

    /// As [`Ssh::command`], with a terminal; an empty script is a shell.
    pub fn terminal(&self, script: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(self.options()).args(["-t", "-p", &self.port.to_string(), "root@127.0.0.1"]);
        if !script.is_empty() {
            command.arg(script);
        }
        command
    }

    /// Runs a script; a failure is an error with what it said.
    pub fn run(&self, script: &str, limit: Duration, progress: &mut Progress) -> Result<String> {
        run::succeed(self.command(script), limit, progress)
    }

    /// Copies files and folders into a folder of the node, compressed on the way: the node's part is the slow one.
    pub fn push(&self, files: &[PathBuf], folder: &str, progress: &mut Progress) -> Result<()> {
        let mut pack = Command::new("tar");
        pack.args(["--owner=0", "--group=0", "--zstd", "-cf", "-"]);
        for file in files {
            let file = std::path::absolute(file)?;
            let (Some(above), Some(name)) = (file.parent(), file.file_name()) else { bail!("{} cannot be copied", file.display()) };
            pack.arg("-C").arg(above).arg(name);
        }
        let mut packing = pack.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("could not run tar")?;
        let archive = packing.stdout.take().context("tar has no output")?;
        let unpack = self.command(&format!("mkdir -p {0} && tar --zstd -xf - -C {0}", quoted(&[folder.to_owned()])));
        let unpacked = run::fed(unpack, archive.into(), Duration::from_secs(900), progress);
        let packed = packing.wait().context("could not wait for tar")?;
        unpacked?;
        if packed.success() { Ok(()) } else { bail!("tar ended with {packed}") }
    }

    /// Ends the connection that stays: a restored machine does not know it.
    pub fn forget(&self) {
        if self.control().exists() {
            let mut command = Command::new("ssh");
            command.args(self.options()).args(["-O", "exit", "-p", &self.port.to_string(), "root@127.0.0.1"]);
            let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            let _ = std::fs::remove_file(self.control());
        }
    }

    /// Waits until the node lets us in.
    pub fn wait(&self, state: &State, limit: Duration, progress: &mut Progress) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            let output = run::run(self.command("true"), Duration::from_secs(90), progress);
            let reason = match output {
                Ok(output) if output.success => return Ok(()),
                Ok(output) => output.text,
                Err(error) => format!("{error:#}"),
            };
            if state.running().is_none() {
                bail!("the machine ended; its console's log is {}", qemu::log(&self.dir).display());
            }
            if Instant::now() > deadline {
                bail!(
                    "the node did not let us in within {} s ({}); its console's log is {}",
                    limit.as_secs(),
                    reason.trim(),
                    qemu::log(&self.dir).display()
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Sets the node's clock: a restored machine has that of its snapshot.
    pub fn set_clock(&self, progress: &mut Progress) -> Result<()> {
        let now = jiff::Timestamp::now().as_second();
        self.run(&format!("date -u -s @{now} >/dev/null"), Duration::from_secs(120), progress).map(drop).context("could not set the clock")
    }
}

/// Words as one line for a shell.
pub fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_reach_the_nodes_shell_as_they_are() {
        let words = ["echo", "it's", "$HOME `x` \"y\""].map(str::to_owned);
        let output = std::process::Command::new("sh").args(["-c", &super::quoted(&words)]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it's $HOME `x` \"y\"\n");
    }
}
