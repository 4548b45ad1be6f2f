//! What is known of the machine between calls.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use triton_types::ProcessRef;

/// Version of the file.
const FORMAT: u32 = 1;

/// The machine, as it was started last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    format: u32,
    /// QEMU.
    pub process: Option<ProcessRef>,
    /// The image's folder.
    pub image: PathBuf,
    /// How instructions run: `kvm`, or `tcg` for emulation.
    pub accel: String,
    /// MiB.
    pub memory: u32,
    /// Processors.
    pub cpus: u32,
    /// The node's ssh, on 127.0.0.1.
    pub ssh_port: u16,
    /// The node's cn-agent, on 127.0.0.1.
    pub agent_port: u16,
    /// The machine's identity, as its firmware tells.
    pub uuid: String,
    /// A booted and prepared state was saved.
    pub saved: bool,
    /// 0, or 1 for the second of a pair.
    #[serde(default)]
    pub number: u8,
    /// The set of devices that it was started with: a saved state fits its own only.
    #[serde(default)]
    pub devices: u32,
}

/// The set of devices that a machine is started with today.
pub const DEVICES: u32 = 2;

impl State {
    /// A machine that was not started yet.
    pub fn new(number: u8, image: PathBuf, accel: String, size: (u32, u32), ports: [u16; 2], uuid: String) -> Self {
        let ((memory, cpus), [ssh_port, agent_port]) = (size, ports);
        let (process, saved) = (None, false);
        Self { format: FORMAT, process, image, accel, memory, cpus, ssh_port, agent_port, uuid, saved, number, devices: DEVICES }
    }

    /// True if a state that `self` saved can be loaded by a machine like `other`.
    pub fn fits(&self, other: &Self) -> bool {
        self.saved
            && self.image == other.image
            && self.accel == other.accel
            && (self.memory, self.cpus, self.number, self.devices) == (other.memory, other.cpus, other.number, other.devices)
    }

    /// The machine below `dir`, if there is one.
    pub fn load(dir: &Path) -> Result<Option<Self>> {
        let state: Option<Self> = triton_files::read_json(&path(dir))?;
        if let Some(state) = &state
            && state.format != FORMAT
        {
            bail!("{} was written by another version of xtask: end that machine with the version that started it", path(dir).display());
        }
        Ok(state)
    }

    /// Writes it down.
    pub fn save(&self, dir: &Path) -> Result<()> {
        Ok(triton_files::write_json(&path(dir), self, 0o600)?)
    }

    /// QEMU, if it runs.
    pub fn running(&self) -> Option<ProcessRef> {
        self.process.filter(|process| triton_process::is_alive(*process))
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("state.json")
}
