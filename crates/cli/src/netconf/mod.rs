//! `triton-netconf`: the host's network configuration, written at boot from what the headnode gave (platform.md sections
//! 3.4 and 3.5). Thin over the crate of that name: reads, writes, says what is wrong.

mod args;
mod machine;
mod output;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use triton_agent::chain;
use triton_files::{FileError, read_bounded, read_optional};
use triton_netconf::{Facts, Networking, NodeSettings, Problem, boot_mac, check_hash, dhcp_all_nics, plan, render};

use args::{Args, Generate, Verb};

/// More than a node's networks ever need.
const LIMIT: u64 = 1 << 20;
/// Everything was written, but not everything that was asked for could be.
const WITH_PROBLEMS: u8 = 3;

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.verb {
        Verb::Generate(generate) => run(&args, generate),
        Verb::DhcpAllNics => print(dhcp_all_nics().text.as_bytes()),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Args::command(), "triton-netconf", &mut script);
            print(&script)
        }
    };
    match result {
        Ok(problems) if problems.is_empty() => ExitCode::SUCCESS,
        Ok(problems) => {
            for problem in problems {
                say(&problem);
            }
            ExitCode::from(WITH_PROBLEMS)
        }
        Err(error) => {
            say(&chain(&error).to_string());
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "triton-netconf: {text}");
}

fn print(text: &[u8]) -> Result<Vec<String>, FileError> {
    // A reader that has seen enough is no failure.
    let _ = io::stdout().write_all(text);
    Ok(Vec::new())
}

/// Writes the files; the problems that the operator should know.
fn run(args: &Args, generate: &Generate) -> Result<Vec<String>, FileError> {
    let layout = args.common.layout();
    let mut problems: Vec<String> = Vec::new();
    let default = layout.config().join("triton-networking.json");
    let networking = networking(generate.networking.as_deref(), &default, generate.hash.as_deref(), &mut problems);
    let default = layout.config().join("node.config");
    let node_config = read_optional(generate.node_config.as_deref().unwrap_or(&default)).unwrap_or_else(|error| {
        problems.push(chain(&error).to_string());
        None
    });
    let command_line = read_optional(&generate.cmdline).ok().flatten().unwrap_or_default();
    let facts = Facts {
        settings: NodeSettings::parse(&String::from_utf8_lossy(&node_config.unwrap_or_default())),
        boot_mac: boot_mac(&String::from_utf8_lossy(&command_line)),
        nics: machine::nics(&generate.sysfs),
    };
    let (plan, more) = plan(networking.as_ref(), &facts);
    problems.extend(more.iter().map(ToString::to_string));
    let out = generate.out.clone().unwrap_or_else(|| layout.root().to_owned());
    let changes = output::changes(&out, &render(&plan))?;
    for change in &changes {
        if generate.check {
            let _ = writeln!(io::stdout(), "{change}");
        } else {
            change.make(&out)?;
        }
    }
    Ok(problems)
}

/// The document. That the node was not given one is no problem; that the one it was given is of no use, is.
fn networking(given: Option<&Path>, default: &Path, hash: Option<&Path>, problems: &mut Vec<String>) -> Option<Networking> {
    let path = given.unwrap_or(default);
    let bytes = match read_bounded(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            problems.push(Problem::Unreadable(chain(&error).to_string()).to_string());
            return None;
        }
    };
    let beside = path.with_file_name(format!("{}.hash", path.file_name().unwrap_or_default().to_string_lossy()));
    let hash = read_optional(hash.unwrap_or(&beside)).ok().flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    // The copy that the node keeps has no hash beside it.
    if given.is_some() || hash.is_some() {
        problems.extend(check_hash(&bytes, hash.as_deref()).map(|problem| problem.to_string()));
    }
    let (networking, more) = Networking::parse(&bytes);
    problems.extend(more.iter().map(|problem| format!("{}: {problem}", path.display())));
    networking
}
