//! `vmadm` (instances.md section 4): thin over `triton-instance` and `triton-vmspec`.

mod args;
mod input;
mod verbs;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind};

use args::{VmadmArgs, rewrite, wants_help};

/// Why vmadm ends with another status than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation failed: the text, on standard error; status 1.
    Failed(String),
    /// The command line is wrong: the text and the usage, on standard error; status 2.
    Usage(String),
    /// Not a failure: a message, on standard error; status 0 (instances.md section 4.2, start of a running instance).
    Told(String),
    /// Nobody reads our output any more; status 0.
    BrokenPipe,
}

impl From<triton_instance::InstanceError> for Failure {
    fn from(error: triton_instance::InstanceError) -> Self {
        Self::Failed(triton_instance::chain(&error))
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

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = match parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(args) {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Told(text)) => {
            say(&text);
            ExitCode::SUCCESS
        }
        Err(Failure::Failed(text)) => {
            say(&text);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(text)) => {
            say(&text);
            say(&usage());
            ExitCode::from(2)
        }
    }
}

/// To standard error; that nobody reads it is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn usage() -> String {
    VmadmArgs::command().render_help().to_string()
}

fn parse() -> Result<VmadmArgs, ExitCode> {
    let words = rewrite(std::env::args_os());
    if wants_help(&words) {
        let _ = write!(io::stdout(), "{}", usage());
        return Err(ExitCode::SUCCESS);
    }
    VmadmArgs::try_parse_from(words).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = write!(io::stdout(), "{error}");
            ExitCode::SUCCESS
        }
        ErrorKind::InvalidSubcommand => {
            let word = error.get(clap::error::ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
            say(&format!("Invalid command: \"{word}\"."));
            say(&usage());
            ExitCode::from(2)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say(&usage());
            ExitCode::from(2)
        }
        _ => {
            let _ = write!(io::stderr(), "{error}");
            ExitCode::from(2)
        }
    })
}

fn run(args: VmadmArgs) -> Result<(), Failure> {
    let layout = args.common.layout();
    if let args::Verb::Completion { shell } = args.verb {
        clap_complete::generate(shell, &mut VmadmArgs::command(), "vmadm", &mut io::stdout());
        return Ok(());
    }
    triton_agent::enter_namespaces(&layout).map_err(|error| Failure::Failed(triton_agent::chain(&error).to_string()))?;
    if let Ok(level) = std::env::var("VMADM_DEBUG_LEVEL") {
        let level = triton_agent::logs::parse_level(&level);
        triton_agent::logs::init("vmadm", level, triton_agent::logs::Output::Stderr);
    }
    verbs::run(&layout, args.verb)
}
