//! A machine that stays, in the hands of another verb.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use triton_types::ProcessRef;

use super::{
    args::UpArgs,
    qemu::{self, Life},
    ssh::Ssh,
    state::State,
    up::{self, Place},
};
use crate::say::Progress;

/// Longest script.
const SCRIPT: Duration = Duration::from_secs(300);

/// A running machine.
#[derive(Debug)]
pub struct Machine {
    dir: PathBuf,
    state: State,
    ssh: Ssh,
}

impl Machine {
    /// Boots the machine in `dir`, has its saved state back, or finds it running.
    pub fn up(dir: &Path, release: bool, progress: &mut Progress) -> Result<Self> {
        let args = UpArgs { release, ..UpArgs::usual() };
        let state = up::up(&Place::first(dir), &args, Life::Own, progress)?;
        Ok(Self { dir: dir.to_owned(), ssh: Ssh::new(dir, &state), state })
    }

    /// QEMU.
    pub fn process(&self) -> Option<ProcessRef> {
        self.state.process
    }

    /// Loopback ports of ssh and of cn-agent.
    pub fn ports(&self) -> (u16, u16) {
        (self.state.ssh_port, self.state.agent_port)
    }

    /// Runs a script; returns what it said.
    pub fn run(&self, script: &str, progress: &mut Progress) -> Result<String> {
        self.ssh.run(script, SCRIPT, progress)
    }

    /// Copies files and folders into a folder of the node.
    pub fn push(&self, files: &[PathBuf], folder: &str, progress: &mut Progress) -> Result<()> {
        self.ssh.push(files, folder, progress)
    }

    /// Opens a port of the node on a free port of loopback, which it returns.
    pub fn forward(&self, inside: u16) -> Result<u16> {
        let [local, _] = qemu::free_ports()?;
        qemu::forward(&self.dir, local, inside)?;
        Ok(local)
    }
}
