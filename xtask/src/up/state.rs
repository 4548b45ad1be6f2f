//! What `up` made, in one file of the node's root. Also the proof that the root is ours to remove.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use triton_files::Layout;
use triton_types::{ImageUuid, InstanceUuid, ProcessRef};

use super::headnode::Urls;

/// A program that `up` started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, and that of its log.
    pub name: String,
    /// The process.
    pub process: ProcessRef,
    /// What it was started with: when this differs, it is started again.
    pub arguments: Vec<String>,
}

/// An instance that `up` asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Chosen before it is asked for, so that a second `up` finds it.
    pub uuid: InstanceUuid,
    /// Its alias and host name.
    pub alias: String,
    /// Its address, without the prefix length.
    pub address: String,
}

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of this file's form.
    pub format: u32,
    /// Programs, in the order in which they were started.
    #[serde(default)]
    pub programs: Vec<Program>,
    /// Instances.
    #[serde(default)]
    pub instances: Vec<Instance>,
    /// The image they are made from.
    #[serde(default)]
    pub image: Option<ImageUuid>,
    /// Where the stand-in headnode listens on the machine's loopback.
    #[serde(default)]
    pub headnode: Option<Urls>,
}

impl State {
    /// Version of the file that this program writes.
    const FORMAT: u32 = 1;

    fn path(layout: &Layout) -> PathBuf {
        layout.at("/.triton-up.json")
    }

    /// A node with nothing in it.
    pub fn new() -> Self {
        Self { format: Self::FORMAT, ..Self::default() }
    }

    /// The node's state; `None` if `up` never ran with this root.
    pub fn load(layout: &Layout) -> Result<Option<Self>> {
        let path = Self::path(layout);
        let state: Option<Self> = triton_files::read_json(&path)?;
        if let Some(state) = &state {
            anyhow::ensure!(
                state.format == Self::FORMAT,
                "{} is of format {}, this program knows {}",
                path.display(),
                state.format,
                Self::FORMAT
            );
        }
        Ok(state)
    }

    /// Writes it.
    pub fn save(&self, layout: &Layout) -> Result<()> {
        triton_files::write_json(&Self::path(layout), self, 0o644).context("could not record what is up")
    }

    /// The program called `name`, if it was started and lives.
    pub fn running(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.name == name && triton_process::is_alive(program.process))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_back_and_a_later_format_is_refused_by_name() {
        let folder = std::env::temp_dir().join(format!("xtask-state-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let layout = Layout::new(&folder);
        assert_eq!(State::load(&layout).unwrap(), None);
        let mut state = State::new();
        state.instances.push(Instance { uuid: InstanceUuid::random(), alias: "up0".to_owned(), address: "10.0.0.1".to_owned() });
        state.save(&layout).unwrap();
        assert_eq!(State::load(&layout).unwrap(), Some(state.clone()));
        state.format = 99;
        state.save(&layout).unwrap();
        let error = State::load(&layout).unwrap_err().to_string();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.contains("format 99"), "{error}");
    }
}
