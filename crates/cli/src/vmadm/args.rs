//! The command line of vmadm (instances.md section 4).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;
use triton_types::InstanceUuid;

/// Manage the instances of this compute node.
///
/// Data goes to standard output; everything said to people, success included, goes to standard error.
/// Exit status: 0 success, 1 the operation failed, 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "vmadm", version, disable_help_subcommand = true, infer_subcommands = false, subcommand_required = true)]
pub struct VmadmArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an instance from a JSON payload, and start it unless autoboot is false
    Create(Input),
    /// Stop an instance and destroy everything that belongs to it
    #[command(visible_alias = "destroy")]
    Delete(Target),
    /// Start a stopped instance; it will also start when the machine boots
    #[command(visible_alias = "boot")]
    Start(Target),
    /// Stop an instance; it will not start when the machine boots
    #[command(visible_alias = "halt")]
    Stop(Stop),
    /// Reboot a running instance with its current configuration
    Reboot(Reboot),
    /// Send a signal to the instance's init
    Kill(Kill),
    /// Print an instance as JSON
    #[command(visible_alias = "json")]
    Get(Target),
    /// Print a table of instances, or chosen fields of them
    List(List),
    /// Print the uuids, or the JSON, of instances that match
    Lookup(Lookup),
    /// Print what the kernel knows of a running instance as JSON
    Info(Info),
    /// Check a payload without changing anything
    Validate(Validate),
    /// Attach this terminal to the instance's console; Ctrl-] leaves
    Console(Target),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Where a payload comes from.
#[derive(Debug, Args)]
pub struct Input {
    /// Read the payload from FILE instead of standard input (`-`)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// One instance.
#[derive(Debug, Args)]
pub struct Target {
    /// The instance's uuid
    pub uuid: InstanceUuid,
}

/// Arguments of `stop`.
#[derive(Debug, Args)]
pub struct Stop {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Kill at once instead of asking the guest to shut down
    #[arg(short = 'F', long)]
    pub force: bool,
    /// Seconds to wait for the guest before it is killed [default: 60]
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
}

/// Arguments of `reboot`.
#[derive(Debug, Args)]
pub struct Reboot {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Reset at once instead of asking the guest to reboot
    #[arg(short = 'F', long)]
    pub force: bool,
}

/// Arguments of `kill`.
#[derive(Debug, Args)]
pub struct Kill {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// The signal: a number, a name, or a name with SIG; `-KILL` is short for `-s KILL`
    #[arg(short = 's', long, value_name = "SIGNAL", default_value = "SIGTERM")]
    pub signal: String,
}

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Fields joined by ':' and no header, for scripts
    #[arg(short = 'p', long)]
    pub parseable: bool,
    /// No header
    #[arg(short = 'H')]
    pub no_header: bool,
    /// A header even with -p
    #[arg(long = "header")]
    pub header: bool,
    /// Fields to print, comma-separated [default: uuid,type,ram,state,alias]
    #[arg(short = 'o', value_name = "FIELDS")]
    pub order: Option<String>,
    /// Fields to sort by, '-' in front for descending [default: ram,uuid]
    #[arg(short = 's', value_name = "FIELDS")]
    pub sort: Option<String>,
    /// Only instances whose field has this value (`k=v`) or matches this expression (`k=~re`)
    #[arg(value_name = "FIELD=VALUE")]
    pub filters: Vec<String>,
}

/// Arguments of `lookup`.
#[derive(Debug, Args)]
pub struct Lookup {
    /// Print JSON objects instead of uuids
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Fail unless exactly one instance matches
    #[arg(short = '1', long)]
    pub unique: bool,
    /// With -j, print only these fields, comma-separated
    #[arg(short = 'o', value_name = "FIELDS")]
    pub order: Option<String>,
    /// Only instances whose field has this value (`k=v`) or matches this expression (`k=~re`)
    #[arg(value_name = "FIELD=VALUE")]
    pub filters: Vec<String>,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Kinds of information, comma-separated [default: all]
    pub types: Option<String>,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// `create` or `update`
    pub action: String,
    /// For `update`: the brand of the instance
    pub brand: Option<String>,
    #[command(flatten)]
    pub input: Input,
}

/// True if the first word that is no option of vmadm itself asks for help: `help`, `-?`.
pub fn wants_help(args: &[std::ffi::OsString]) -> bool {
    let mut words = args.iter().skip(1).map(|word| word.to_string_lossy());
    while let Some(word) = words.next() {
        match word.as_ref() {
            "help" | "-?" => return true,
            "--root" => drop(words.next()),
            option if option.starts_with('-') => {}
            _ => return false,
        }
    }
    false
}

/// Rewrites what clap cannot read: `kill -9 UUID`, `kill -SIGKILL UUID` and `list -p -h`.
pub fn rewrite(args: impl IntoIterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
    let mut verb: Option<String> = None;
    let mut out = Vec::new();
    let mut value_of_root = false;
    for (index, arg) in args.into_iter().enumerate() {
        let text = arg.to_string_lossy().into_owned();
        if index > 0 && verb.is_none() && !value_of_root && !text.starts_with('-') {
            verb = Some(text.clone());
        }
        value_of_root = text == "--root";
        match verb.as_deref() {
            Some("kill") if is_signal_flag(&text) => {
                out.push("-s".into());
                out.push(text.trim_start_matches('-').into());
            }
            Some("list") if text == "-h" => out.push("--header".into()),
            _ => out.push(arg),
        }
    }
    out
}

fn is_signal_flag(text: &str) -> bool {
    text.strip_prefix('-')
        .is_some_and(|name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'+'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        rewrite(text.split(' ').map(Into::into)).into_iter().map(|s| s.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn signals_may_be_written_as_flags() {
        assert_eq!(words("vmadm kill -9 u").join(" "), "vmadm kill -s 9 u");
        assert_eq!(words("vmadm kill -SIGKILL u").join(" "), "vmadm kill -s SIGKILL u");
        assert_eq!(words("vmadm --root /kill kill -9 u").join(" "), "vmadm --root /kill kill -s 9 u");
        assert_eq!(words("vmadm kill -s 9 u").join(" "), "vmadm kill -s 9 u");
        assert_eq!(words("vmadm lookup -1 alias=x").join(" "), "vmadm lookup -1 alias=x");
        assert_eq!(words("vmadm list -p -h").join(" "), "vmadm list -p --header");
    }

    #[test]
    fn help_is_asked_for_where_a_verb_would_be() {
        let wants = |text: &str| wants_help(&text.split(' ').map(Into::into).collect::<Vec<_>>());
        for text in ["vmadm help", "vmadm -?", "vmadm --root /x help", "vmadm --root=/x -?"] {
            assert!(wants(text), "{text}");
        }
        for text in ["vmadm", "vmadm list", "vmadm --root help list", "vmadm lookup help"] {
            assert!(!wants(text), "{text}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        VmadmArgs::command().debug_assert();
    }
}
