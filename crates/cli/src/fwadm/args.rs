//! The command line of fwadm (firewaller.md section 10).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;

/// Manage the Cloud Firewall of this compute node.
///
/// Rules and remote VMs are kept in /var/fw; a change is written first, then put in force in one transaction. Rules that are added here
/// without created_by are sent to the headnode by firewaller at its next synchronisation.
/// Exit status: 0 success, 1 failure, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "fwadm", version, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Fwadm {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Print JSON, errors too
    #[arg(short, long, global = true)]
    pub(crate) json: bool,
    /// Print the VMs that a change affects; details of a status
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// Check a change and print what it would do, without doing it
    #[arg(long, global = true)]
    pub(crate) dryrun: bool,
    /// Accepted for scripts of SmartOS: there are no generated files to print here
    #[arg(long, global = true, hide = true)]
    pub(crate) stdout: bool,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Add rules and remote VMs, or a rule given as words
    Add(Add),
    /// Add or replace remote VMs
    AddRvm(File),
    /// Delete rules; unknown ones are ignored
    Delete(Uuids),
    /// Delete remote VMs; unknown ones are ignored
    DeleteRvm(Uuids),
    /// Disable rules
    Disable(Uuids),
    /// Enable rules
    Enable(Uuids),
    /// Print a rule as JSON
    Get(One),
    /// Print a remote VM as JSON
    GetRvm(One),
    /// Print a table of all rules
    List(List),
    /// Print all remote VMs as JSON
    #[command(visible_alias = "rvms")]
    ListRvms,
    /// Print the rules that name a VM, disabled ones too
    Rules(Of),
    /// Print the rules that name a remote VM, disabled ones too
    RvmRules(Of),
    /// Enable the firewall of a VM
    Start(One),
    /// Disable the firewall of a VM
    Stop(One),
    /// Print whether the firewall of a VM is running
    Status(One),
    /// Print how many packets each rule of a VM decided about
    Stats(One),
    /// Change fields of rules; replace remote VMs
    Update(Update),
    /// Print the VMs with their firewall enabled that a rule names
    Vms(One),
    /// Read rules from standard input, one a line, and print each in its normal form, or what is wrong with it, as a line of JSON
    Parse,
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

/// Fields of a rule.
#[derive(Debug, Args)]
pub(crate) struct Fields {
    /// The rule is enabled
    #[arg(short, long)]
    pub(crate) enable: bool,
    /// The rule is about the VMs of all owners
    #[arg(short, long)]
    pub(crate) global: bool,
    /// The rule is about the VMs of this owner
    #[arg(short = 'O', long, value_name = "UUID")]
    pub(crate) owner_uuid: Option<String>,
    /// A description
    #[arg(long, visible_alias = "description", value_name = "TEXT")]
    pub(crate) desc: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) fields: Fields,
    /// Read {"rules": [], "remoteVMs": [], "localVMs": []} or one rule from a file; `-` or no rule: from standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The rule, as words
    #[arg(value_name = "RULE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    #[command(flatten)]
    pub(crate) fields: Fields,
    /// The rule is disabled
    #[arg(short, long, conflicts_with = "enable")]
    pub(crate) disable: bool,
    /// Read {"rules": [], "remoteVMs": [], "localVMs": []} or one rule from a file; `-` or no words: from standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// UUID of the rule, and its new text as words
    #[arg(value_name = "UUID RULE", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct File {
    /// Read the JSON from a file; `-` or without it: from standard input
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its UUID
    pub(crate) uuid: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Uuids {
    /// Their UUIDs
    #[arg(value_name = "UUID")]
    pub(crate) uuids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Its UUID
    pub(crate) uuid: Option<String>,
    #[command(flatten)]
    pub(crate) list: List,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Fields to print, separated by commas: uuid, enabled, rule, owner_uuid, global, version, created_by, description, log
    #[arg(short, long, value_name = "FIELD,...")]
    pub(crate) output: Option<String>,
    /// For scripts: no header, fields with a delimiter
    #[arg(short, long)]
    pub(crate) parsable: bool,
    /// The delimiter, instead of `:`
    #[arg(short, long, value_name = "CHARACTER")]
    pub(crate) delimiter: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Fwadm::command().debug_assert();
    }
}
