//! The argument that every program takes.

use std::path::PathBuf;

use triton_files::Layout;

/// Flattened into the arguments of every agent and tool: `#[command(flatten)] common: CommonArgs`.
#[derive(Clone, Debug, clap::Args)]
pub struct CommonArgs {
    /// Use the compute node whose files lie below this directory
    #[arg(long, value_name = "DIR", env = "TRITON_ROOT", default_value = "/", global = true)]
    pub root: PathBuf,
}

impl CommonArgs {
    /// The paths of the compute node. A relative root is taken from the current directory, so that a later change of
    /// directory does not move the node.
    pub fn layout(&self) -> Layout {
        Layout::new(std::path::absolute(&self.root).unwrap_or_else(|_| self.root.clone()))
    }
}
