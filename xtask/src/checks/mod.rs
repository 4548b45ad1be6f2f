//! Rules of the repository, each a function from the workspace to findings, and each finding with its remedy.
//!
//! Called by `xtask ci` and `xtask test`, which run the same list in the same order.

mod layers;
mod licences;
mod links;
mod policy;
mod rules;
mod sources;
mod spdx;
mod words;

use std::{fmt, process::Command};

use anyhow::Result;

use crate::{
    say,
    workspace::{Workspace, cargo},
};

/// One place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    place: String,
    problem: String,
    remedy: String,
}

impl Finding {
    fn new(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    {}", self.place, self.problem, self.remedy)
    }
}

/// How many checks held, and how many did not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Held.
    pub passed: usize,
    /// Did not, or could not be made.
    pub failed: usize,
}

impl Outcome {
    fn count(&mut self, name: &str, result: Result<Vec<Finding>>) {
        match result {
            Ok(findings) if findings.is_empty() => {
                self.passed += 1;
                say::line(format_args!("  ok      {name}"));
            }
            Ok(findings) => {
                self.failed += 1;
                say::line(format_args!("  FAILED  {name}: {} finding(s)", findings.len()));
                for finding in findings {
                    say::line(format_args!("{finding}"));
                }
            }
            Err(error) => {
                self.failed += 1;
                say::line(format_args!("  FAILED  {name}: {error:#}"));
            }
        }
    }
}

/// A check that reads files and metadata only.
type Rule = fn(&Workspace) -> Result<Vec<Finding>>;

const RULES: [(&str, Rule); 6] = [
    ("layers: every edge points down (ARCHITECTURE.md)", layers::check),
    ("licences and bans (deny.toml)", licences::check),
    ("sources: crates.io and this workspace only (deny.toml)", sources::check),
    ("workspace rules: inherited settings, one table of dependencies, file sizes, module heads", rules::check),
    ("no words that mark unfinished work", words::check),
    ("links between pages lead somewhere", links::check),
];

/// Runs the rules, formatting and clippy; `fix` lets the two tools repair what they can first.
pub fn run(fix: bool) -> Outcome {
    let mut outcome = Outcome::default();
    match Workspace::load() {
        Ok(workspace) => {
            for (name, rule) in RULES {
                outcome.count(name, rule(&workspace));
            }
        }
        Err(error) => outcome.count("workspace", Err(error)),
    }
    let mut format = cargo();
    format.args(["fmt", "--all"]);
    if !fix {
        format.args(["--", "--check"]);
    }
    outcome.count("formatting (cargo fmt; `cargo xtask ci --fix` repairs it)", tool(format));
    let mut clippy = cargo();
    clippy.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets"]);
    if fix {
        clippy.args(["--fix", "--allow-dirty", "--allow-staged"]);
    }
    clippy.args(["--", "-D", "warnings"]);
    outcome.count("clippy, warnings denied", tool(clippy));
    outcome
}

/// Builds the documentation; a warning (such as a link to nothing) is a failure.
pub fn documentation() -> Outcome {
    let mut outcome = Outcome::default();
    let mut doc = cargo();
    doc.args(["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    outcome.count("documentation, warnings denied", tool(doc));
    outcome
}

/// Runs a tool whose own output says what is wrong.
fn tool(mut command: Command) -> Result<Vec<Finding>> {
    let status = command.status()?;
    if status.success() {
        return Ok(Vec::new());
    }
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
    let called = format!("cargo {}", arguments.join(" "));
    Ok(vec![Finding::new(called, format!("ended with {status}"), "its output above says what to change")])
}
