//! `nictagadm` (net-agent.md section 10.1): thin over `triton-nictag`.

mod args;
mod change;
mod list;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};
use triton_agent::chain;
use triton_nictag::{NicTagError, NicTags};
use triton_types::NicTag;

use args::{Exists, Nictagadm, Verb};

/// Why nictagadm ends with another status than 0.
#[derive(Debug)]
enum Failure {
    /// The text, as an error; status 1.
    Failed(String),
    /// What had to be said was said; status 1.
    Silent,
    /// Nobody reads our output any more; status 0.
    BrokenPipe,
}

impl From<NicTagError> for Failure {
    fn from(error: NicTagError) -> Self {
        Self::Failed(chain(&error).to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Failed(error.to_string()),
        }
    }
}

fn failed<T>(text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Failed(text.into()))
}

/// To standard error; that nobody reads it is no reason to fail.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = match Nictagadm::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => {
            let _ = write!(io::stderr(), "{}", error.render());
            return ExitCode::from(2);
        }
        Err(help) => {
            let _ = write!(io::stdout(), "{}", help.render());
            return ExitCode::SUCCESS;
        }
    };
    match run(&args) {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Silent) => ExitCode::FAILURE,
        Err(Failure::Failed(text)) => {
            say(&format!("Error: {text}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Nictagadm) -> Result<(), Failure> {
    match &args.verb {
        Verb::Help { verb } => return help(verb.as_deref()),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Nictagadm::command(), "nictagadm", &mut script);
            return Ok(io::stdout().write_all(&script)?);
        }
        _ => {}
    }
    let layout = args.common.layout();
    // Before any thread.
    triton_agent::enter_namespaces(&layout).or_else(|error| failed(chain(&error).to_string()))?;
    let verbose = |text: &str| {
        if args.verbose {
            say(&format!("+ {text}"));
        }
    };
    match &args.verb {
        Verb::Add(add) => change::add(&layout, add, &verbose),
        Verb::Update(update) => change::update(&layout, update, &verbose),
        Verb::Delete(delete) => change::delete(&layout, delete, &verbose),
        Verb::Exists(asked) => exists(&NicTags::load(&layout)?, asked),
        Verb::List(list) => list::list(&NicTags::load(&layout)?, list),
        Verb::Vms { name } => list::vms(&layout, &tag(name)?),
        Verb::Help { .. } | Verb::Completion { .. } => Ok(()),
    }
}

fn tag(name: &str) -> Result<NicTag, Failure> {
    name.parse().or_else(|_| failed(format!("nic tag name {name:?} is invalid: letters, digits and '_' only")))
}

fn help(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = Nictagadm::command();
    command.build();
    let text = match verb {
        None => command.render_help(),
        Some(verb) => match command.find_subcommand_mut(verb) {
            Some(found) => found.render_long_help(),
            None => return failed(format!("unknown command: {verb:?}")),
        },
    };
    Ok(write!(io::stdout(), "{text}")?)
}

/// A name that cannot be a tag's is a tag that does not exist.
fn exists(tags: &NicTags, asked: &Exists) -> Result<(), Failure> {
    let missing: Vec<&String> = asked.names.iter().filter(|name| !is_there(tags, name)).collect();
    for name in &missing {
        say(&if asked.list { (*name).clone() } else { format!("Error: nic tag {name:?} does not exist") });
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::Silent) }
}

/// Whether a tag exists; of an overlay rule, each of its numbered networks does, and the rule's bare name does not.
fn is_there(tags: &NicTags, name: &str) -> bool {
    match name.split_once('/') {
        Some((rule, number)) => {
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            digits
                && number.parse::<u64>().is_ok_and(|number| number < u64::from(u32::MAX))
                && tags.overlay_rules().any(|known| known == rule)
        }
        None => name.parse().is_ok_and(|name| tags.contains(&name)),
    }
}
