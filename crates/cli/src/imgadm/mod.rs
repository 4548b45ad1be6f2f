//! `imgadm` (instances.md section 8.8): thin over `triton-image`.
//!
//! Results and progress in words go to standard output, errors and the progress bar to standard error.

mod args;
mod bar;
mod create;
mod fields;
mod local;
mod output;
mod remote;
mod sources;
mod table;

use std::{
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, error::ErrorKind};
use serde_json::json;
use triton_agent::{chain, logs};
use triton_image::ImageError;
use triton_types::Timestamp;

use args::{Imgadm, Verb};

/// Why imgadm ends with another status than 0.
#[derive(Debug)]
pub(crate) struct Failure {
    code: &'static str,
    message: String,
    status: u8,
}

impl Failure {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: 1 }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: "UsageError", message: message.into(), status: 2 }
    }
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self { code: error.code(), message: chain(&error).to_string(), status: error.exit_code() }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // A reader that has seen enough is no failure.
            io::ErrorKind::BrokenPipe => Self { code: "BrokenPipe", message: String::new(), status: 0 },
            _ => Self::new("InternalError", format!("could not write: {error}")),
        }
    }
}

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let machine_readable = words.iter().skip(1).take_while(|word| *word != "--").any(|word| word == "-E");
    let (verb, result) = match Imgadm::try_parse_from(&words) {
        Ok(args) => {
            let verb = args.verb.as_ref().and_then(Verb::name).map(str::to_owned);
            (verb, run(&args))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = write!(io::stdout(), "{}", error.render());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let verb = words.iter().skip(1).filter_map(|word| word.to_str()).find(|word| Imgadm::command().find_subcommand(word).is_some());
            let text = error.render().to_string();
            let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            (verb.map(str::to_owned), Err(Failure::usage(text)))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.status == 0 => ExitCode::SUCCESS,
        Err(failure) => {
            report(verb.as_deref(), &failure, machine_readable);
            ExitCode::from(failure.status)
        }
    }
}

/// The error as a line for people; with `-E` as a log record too, the last line of standard error.
fn report(verb: Option<&str>, failure: &Failure, machine_readable: bool) {
    let name = verb.map_or_else(|| "imgadm".to_owned(), |verb| format!("imgadm {verb}"));
    let mut stderr = io::stderr().lock();
    if failure.code != "NoCommand" {
        let _ = writeln!(stderr, "{name}: error ({}): {}", failure.code, failure.message);
    }
    if machine_readable {
        let record = json!({
            "v": 0, "name": "imgadm", "hostname": logs::hostname(), "pid": std::process::id(), "level": 50,
            "err": {"code": failure.code, "message": failure.message, "exitStatus": failure.status},
            "msg": failure.message, "time": Timestamp::now().to_string()
        });
        let _ = writeln!(stderr, "{record}");
    }
}

fn run(args: &Imgadm) -> Result<(), Failure> {
    let level = match (args.verbose, std::env::var("IMGADM_LOG_LEVEL")) {
        (true, _) => logs::parse_level("trace"),
        (false, Ok(level)) => logs::parse_level(&level),
        (false, Err(_)) => logs::parse_level("warn"),
    };
    logs::init("imgadm", level, logs::Output::Stderr);
    let Some(verb) = &args.verb else {
        write!(io::stdout(), "{}", Imgadm::command().render_help())?;
        return Err(Failure::new("NoCommand", "no command was given"));
    };
    match verb {
        Verb::Help { verb } => return help(verb.as_deref()),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Imgadm::command(), "imgadm", &mut script);
            return Ok(io::stdout().write_all(&script)?);
        }
        Verb::Unknown(words) => return Err(unknown(&words.first().map(|word| word.to_string_lossy()).unwrap_or_default())),
        _ => {}
    }
    let layout = args.common.layout();
    // Before any thread.
    triton_agent::enter_namespaces(&layout).map_err(|error| Failure::new("InternalError", chain(&error).to_string()))?;
    match verb {
        Verb::Sources(sources) => sources::run(&layout, sources),
        Verb::Avail(avail) => remote::avail(&layout, avail),
        Verb::Show(show) => remote::show(&layout, show),
        Verb::List(list) => local::list(&layout, list),
        Verb::Get(get) => local::get(&layout, get),
        Verb::Import(import) => local::import(&layout, import),
        Verb::ImportOci(import) => local::import_oci(&layout, import),
        Verb::Install(install) => local::install(&layout, install),
        Verb::Delete(delete) => local::delete(&layout, delete),
        Verb::Ancestry(ancestry) => local::ancestry(&layout, ancestry),
        Verb::Vacuum(vacuum) => local::vacuum(&layout, vacuum),
        Verb::Update(update) => remote::update(&layout, update),
        Verb::Create(create) => create::create(&layout, create),
        Verb::Publish(publish) => create::publish(publish),
        Verb::Help { .. } | Verb::Completion { .. } | Verb::Unknown(_) => Ok(()),
    }
}

fn unknown(word: &str) -> Failure {
    Failure::new("UnknownCommand", format!("unknown command: {word:?}"))
}

fn help(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = Imgadm::command();
    command.build();
    let text = match verb {
        None => command.render_help(),
        Some(verb) => command.find_subcommand_mut(verb).ok_or_else(|| unknown(verb))?.render_long_help(),
    };
    Ok(write!(io::stdout(), "{text}")?)
}
