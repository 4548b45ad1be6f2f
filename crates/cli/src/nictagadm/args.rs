//! The command line of nictagadm (net-agent.md section 10.1).

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;

/// Manage the NIC tags of this compute node.
///
/// A tag is the name of a physical network. Changes last until the headnode sends the node's networks again, which it does
/// at every network boot.
/// Exit status: 0 success, 1 failure, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "nictagadm", version, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Nictagadm {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Say on standard error what is done
    #[arg(short)]
    pub(crate) verbose: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add a tag
    Add(Change),
    /// Remove a tag that no instance uses
    Delete(Delete),
    /// Tell by the exit status whether tags exist
    Exists(Exists),
    /// Print a table of tags
    List(List),
    /// Move a tag to another NIC or aggregation, or change its MTU
    Update(Change),
    /// Print the uuids of the instances that have a NIC on a tag
    Vms {
        /// The tag
        name: String,
    },
    /// Explain a command
    Help {
        /// The command
        verb: Option<String>,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Change {
    /// An etherstub: a network within this node, without a NIC; its name ends in a digit
    #[arg(short)]
    pub(crate) local: bool,
    /// `mac=...` and `mtu=...`, separated by commas
    #[arg(short, value_name = "PROP=VALUE,...")]
    pub(crate) properties: Vec<String>,
    /// The tag: letters, digits and '_', at most 30
    pub(crate) name: String,
    /// MAC address of the NIC, or name of the aggregation, that provides the tag
    pub(crate) mac: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Even if instances use it
    #[arg(short)]
    pub(crate) force: bool,
    /// The tag
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Exists {
    /// Print the bare names of those that do not exist
    #[arg(short)]
    pub(crate) list: bool,
    /// The tags
    #[arg(required = true)]
    pub(crate) names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only etherstubs
    #[arg(short)]
    pub(crate) local: bool,
    /// No etherstubs
    #[arg(short = 'L')]
    pub(crate) not_local: bool,
    /// For scripts: no header, fields with a delimiter
    #[arg(short)]
    pub(crate) parsable: bool,
    /// The delimiter
    #[arg(short, value_name = "DELIMITER")]
    pub(crate) delimiter: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Nictagadm::command().debug_assert();
    }
}
