//! Arguments of `xtask vm`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Arguments of `xtask vm`.
#[derive(Args, Debug)]
pub struct VmArgs {
    /// Folder that holds the whole machine: disk, key, logs, state
    #[arg(long, value_name = "DIR", env = "TRITON_VM", default_value = "/var/lib/triton-vm", global = true)]
    pub dir: PathBuf,

    /// The other machine: a second node, joined to the first one by a wire of their own
    #[arg(long, global = true)]
    pub second: bool,

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
    /// Run tests on a node: those that need its kernel, and scenarios in which the machine itself ends
    ///
    /// They have a machine of their own, below the folder of the others, since they destroy what is on it. It ends with this
    /// command, however that ends; its booted state is kept for the next time, and goes with `vm down`.
    Test {
        #[command(flatten)]
        tests: TestArgs,
    },
}

/// Arguments of `xtask vm test`.
#[derive(Args, Debug, Clone, Default)]
pub struct TestArgs {
    /// Run only tests and scenarios whose name contains one of these, and whole test programs that are called so
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,

    /// Only what every landing runs
    #[arg(long, conflicts_with = "matrix")]
    pub quick: bool,

    /// Also kill at every step of every change, and cut the power at every step: more than an hour under emulation
    #[arg(long)]
    pub matrix: bool,

    /// Only what runs on the node, or only what is done to it from outside (power cuts, boots, pairs of nodes): each is about half of all
    #[arg(long, value_enum)]
    pub only: Option<Half>,

    /// Name what would run, and run nothing
    #[arg(long)]
    pub list: bool,
}

/// A half of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Half {
    /// Test programs.
    Programs,
    /// Scenarios.
    Scenarios,
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

impl UpArgs {
    /// Without any option.
    pub const fn usual() -> Self {
        Self { memory: 3072, cpus: 2, boot: false, release: false }
    }
}

/// Arguments of the hidden verb that runs on the node.
#[derive(Args, Debug)]
pub struct PrepareArgs {
    /// The pool
    #[arg(long)]
    pub pool: String,

    /// MAC address of the admin network's NIC
    #[arg(long)]
    pub admin: String,

    /// MAC address of the NIC that leads to the other machine of a pair
    #[arg(long)]
    pub wire: String,
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
