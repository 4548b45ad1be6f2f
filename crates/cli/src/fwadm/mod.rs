//! `fwadm` (firewaller.md section 10): thin over `triton-firewall`.

mod args;
mod change;
mod parse;
mod show;
mod table;
mod vm;

use std::{
    io::{self, Write},
    process::ExitCode,
    str::FromStr,
};

use clap::{CommandFactory, Parser};
use serde::Serialize;
use serde_json::json;
use triton_agent::chain;
use triton_files::Layout;
use triton_firewall::{Firewall, FirewallError, LocalVm};

use args::{Fwadm, Verb};

/// Why fwadm ends with another status than 0.
#[derive(Debug, PartialEq)]
enum Failure {
    /// These texts, each an error; status 1.
    Failed(Vec<String>),
    /// Wrong usage; status 2.
    Usage(String),
    /// Nobody reads our output any more; status 0.
    BrokenPipe,
}

impl Failure {
    fn failed(text: impl Into<String>) -> Self {
        Self::Failed(vec![text.into()])
    }
}

impl From<FirewallError> for Failure {
    fn from(error: FirewallError) -> Self {
        match error {
            FirewallError::Refused(reasons) => Self::Failed(reasons),
            error => Self::failed(chain(&error).to_string()),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::failed(error.to_string()),
        }
    }
}

/// What every verb needs.
struct Session<'a> {
    args: &'a Fwadm,
    layout: Layout,
    firewall: Firewall,
}

impl Session<'_> {
    fn locals(&self) -> Result<Vec<LocalVm>, Failure> {
        triton_instance::firewall::local_vms(&self.layout).map_err(|reason| FirewallError::Instances(reason).into())
    }
}

/// Runs the tool with the arguments of the process.
pub fn main() -> ExitCode {
    let args = match Fwadm::try_parse() {
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
    let (status, texts) = match run(&args) {
        Ok(()) | Err(Failure::BrokenPipe) => return ExitCode::SUCCESS,
        Err(Failure::Failed(texts)) => (1, texts),
        Err(Failure::Usage(text)) => (2, vec![text]),
    };
    // That nobody reads it is no reason to fail otherwise.
    if args.json {
        let errors: Vec<_> = texts.iter().map(|text| json!({"message": text})).collect();
        let _ = writeln!(io::stderr(), "{}", json!({"errors": errors}));
    } else {
        for text in texts {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
    ExitCode::from(status)
}

fn run(args: &Fwadm) -> Result<(), Failure> {
    match &args.verb {
        Verb::Help { verb } => return help(verb.as_deref()),
        Verb::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Fwadm::command(), "fwadm", &mut script);
            return Ok(io::stdout().write_all(&script)?);
        }
        Verb::Parse => return parse::parse(io::stdin().lock(), io::stdout().lock()),
        _ => {}
    }
    // What is wrong with the arguments is said before anything is looked at.
    match &args.verb {
        Verb::List(list) => table::check(list, args.json)?,
        Verb::Rules(of) | Verb::RvmRules(of) => table::check(&of.list, args.json)?,
        _ => {}
    }
    if !nix::unistd::geteuid().is_root() {
        return Err(Failure::Usage("fwadm must be run as root".to_owned()));
    }
    let layout = args.common.layout();
    // Before any thread.
    triton_agent::enter_namespaces(&layout).map_err(|error| Failure::failed(chain(&error).to_string()))?;
    let mut session = Session { args, firewall: Firewall::open(&layout)?, layout };
    match &args.verb {
        Verb::Add(add) => change::add(&mut session, add),
        Verb::AddRvm(file) => change::add_remote_vms(&mut session, file),
        Verb::Update(update) => change::update(&mut session, update),
        Verb::Delete(these) => change::delete(&mut session, these),
        Verb::DeleteRvm(these) => change::delete_remote_vms(&mut session, these),
        Verb::Enable(these) => change::set_enabled(&mut session, these, true),
        Verb::Disable(these) => change::set_enabled(&mut session, these, false),
        Verb::Get(one) => show::get(&mut session, one),
        Verb::GetRvm(one) => show::get_remote_vm(&mut session, one),
        Verb::List(list) => show::list(&mut session, list),
        Verb::ListRvms => show::list_remote_vms(&mut session),
        Verb::Rules(of) => show::rules_of_vm(&mut session, of),
        Verb::RvmRules(of) => show::rules_of_remote_vm(&mut session, of),
        Verb::Vms(one) => show::vms_of_rule(&mut session, one),
        Verb::Start(one) => vm::set_firewall(&session, one, true),
        Verb::Stop(one) => vm::set_firewall(&session, one, false),
        Verb::Status(one) => vm::status(&mut session, one),
        Verb::Stats(one) => vm::stats(&mut session, one),
        Verb::Parse | Verb::Help { .. } | Verb::Completion { .. } => Ok(()),
    }
}

fn help(verb: Option<&str>) -> Result<(), Failure> {
    let mut command = Fwadm::command();
    command.build();
    let text = match verb {
        None => command.render_long_help(),
        Some(verb) => match command.find_subcommand_mut(verb) {
            Some(found) => found.render_long_help(),
            None => return Err(Failure::Usage(format!("unknown command: {verb:?}"))),
        },
    };
    Ok(write!(io::stdout(), "{text}")?)
}

/// A uuid that was given.
fn uuid<T: FromStr>(text: Option<&str>) -> Result<T, Failure> {
    let text = text.ok_or_else(|| Failure::failed("Error: missing UUID"))?;
    text.parse().map_err(|_| Failure::failed(format!("Error: invalid UUID {text:?}")))
}

/// Several, at least one.
fn uuids<T: FromStr>(texts: &[String]) -> Result<Vec<T>, Failure> {
    if texts.is_empty() {
        return Err(Failure::failed("Error: missing UUID"));
    }
    texts.iter().map(|text| uuid(Some(text))).collect()
}

/// JSON, indented by two spaces.
fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    Ok(writeln!(io::stdout(), "{text}")?)
}
