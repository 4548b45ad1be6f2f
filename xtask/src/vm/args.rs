//! Arguments of `xtask vm`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `xtask vm`.
#[derive(Args, Debug)]
pub struct VmArgs {
    /// Folder that holds the whole machine: disk, key, logs, state
    #[arg(long, value_name = "DIR", env = "TRITON_VM", default_value = "/var/lib/triton-vm", global = true)]
    pub dir: PathBuf,

    #[command(subcommand)]
    pub verb: VmVerb,
}

/// What to do with the machine.
#[derive(Subcommand, Debug)]
pub enum VmVerb {
    /// Boot a compute node, or have the saved one back
    ///
    /// Builds the image where it is not in the cache, makes a disk and boots; on the first boot it makes the pool `zones`
    /// and saves the booted machine. Running it again finds it running.
    Up(UpArgs),
    /// End the machine and remove its disk, key, state and logs
    Down,
    /// Show what runs; exit status 0 it runs, 1 it does not, 3 there is none
    Status,
    /// Open a shell on the node, or run a command with a terminal
    Ssh {
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Run a command on the node; its output and exit status are the command's
    Exec {
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Copy files to the node; without any, build the programs, copy them into place and restart the agents
    Push {
        /// Files or folders of this machine, then the folder on the node
        files: Vec<PathBuf>,
    },
    /// Print the serial console's log
    Log {
        /// Go on printing while the machine runs
        #[arg(short, long)]
        follow: bool,
    },
    /// Save, restore, list or remove states of the running machine
    Snapshot {
        /// What to do
        #[command(subcommand)]
        verb: SnapshotVerb,
    },
    /// Run tests on the node: those of drivers that need its kernel, and the scenarios of the whole node
    Test {
        /// Run only tests whose name contains this
        filter: Option<String>,

        /// Also kill at every step of every change: more than half an hour under emulation
        #[arg(long)]
        matrix: bool,
    },
}

/// What to do with saved states.
#[derive(Subcommand, Debug)]
pub enum SnapshotVerb {
    /// Save memory and disk under a name
    Save {
        /// The name
        #[arg(value_parser = name)]
        name: String,
    },
    /// Go back to a saved state; the node's clock is set right afterwards
    Restore {
        /// The name
        #[arg(value_parser = name)]
        name: String,
    },
    /// List them
    List,
    /// Remove one
    Remove {
        /// The name
        #[arg(value_parser = name)]
        name: String,
    },
}

/// Arguments of `xtask vm up`.
#[derive(Args, Debug, Clone)]
pub struct UpArgs {
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 3072, value_parser = clap::value_parser!(u32).range(1024..=65536))]
    pub memory: u32,

    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub cpus: u32,

    /// Boot even if a saved state is there
    #[arg(long)]
    pub boot: bool,

    /// Put optimised programs into the image
    #[arg(long)]
    pub release: bool,
}

/// Arguments of the hidden verb that runs on the node.
#[derive(Args, Debug)]
pub struct PrepareArgs {
    /// The pool
    #[arg(long)]
    pub pool: String,
}

/// A name that QEMU's monitor takes as one word.
fn name(text: &str) -> Result<String, String> {
    let legal = text.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if legal && !text.is_empty() && text.len() <= 32 { Ok(text.to_owned()) } else { Err("letters, digits, - and _, at most 32".to_owned()) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_of_states_are_one_plain_word() {
        assert_eq!(super::name("after-boot_2").as_deref(), Ok("after-boot_2"));
        for bad in ["", "a b", "a;quit", "../x", &"x".repeat(33)] {
            assert!(super::name(bad).is_err(), "{bad}");
        }
    }
}
