//! The command line of triton-netconf.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;

/// Write the host's network configuration from networking.json and node.config.
///
/// Used in the initramfs and after boot; needs no daemon. What is wrong in the input is named on standard error and left
/// out, everything else is configured.
/// Exit status: 0 success, 1 a file could not be written, 2 wrong usage, 3 success, but something was named.
#[derive(Debug, Parser)]
#[command(name = "triton-netconf", version, disable_help_subcommand = true)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Write the files of systemd-networkd, chrony and udev, and the host name
    Generate(Generate),
    /// Print the file with which an image offers DHCP to nodes without a configuration
    DhcpAllNics,
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Generate {
    /// What booter gave; it comes with a hash. Absent: the node's own copy, which has none and may be missing
    #[arg(long, value_name = "FILE")]
    pub(crate) networking: Option<PathBuf>,
    /// The hash of networking.json [default: beside it, with .hash behind its name]
    #[arg(long, value_name = "FILE")]
    pub(crate) hash: Option<PathBuf>,
    /// node.config [default: the node's own copy]
    #[arg(long, value_name = "FILE")]
    pub(crate) node_config: Option<PathBuf>,
    /// Write below this directory instead of the root
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Write nothing; print which files would be written or removed
    #[arg(long)]
    pub(crate) check: bool,
    /// Where the kernel tells of this machine's NICs
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub(crate) sysfs: PathBuf,
    /// The kernel's command line
    #[arg(long, value_name = "FILE", default_value = "/proc/cmdline")]
    pub(crate) cmdline: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
