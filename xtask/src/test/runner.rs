//! Runs tests with nextest where it is installed, else with cargo's own runner, and shows their output as it comes.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::summary::{self, Counts, Report};
use crate::{guest_tools, say, workspace::cargo};

/// Which tests, for the runner that knows no filter language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Tests of tier 1, and the examples in the documentation.
    Pure,
    /// Those of them that need no package of upstream.
    PureWithoutNpm,
    /// Tests of tier 2.
    Kernel,
}

/// Runs the tests of `set` whose name contains `filter`.
pub fn run(set: &str, only: Only, filter: Option<&str>) -> Report {
    let mut counts = Counts::default();
    let mut commands = if has_nextest() { vec![nextest(set, filter)] } else { plain(only, filter) };
    if only != Only::Kernel {
        let mut doc = cargo();
        doc.args(["test", "--quiet", "--locked", "--workspace", "--doc", "--no-fail-fast"]).args(filter);
        commands.push(doc);
    }
    for command in commands {
        match one(command) {
            Ok(part) => {
                counts.passed += part.passed;
                counts.failed += part.failed;
            }
            Err(error) => {
                say::line(format_args!("{error:#}"));
                counts.failed += 1;
            }
        }
    }
    Report::Ran(counts)
}

/// Builds every program of the workspace; false, with cargo's words shown, if that failed.
pub fn build_programs() -> bool {
    let built = cargo().args(["build", "--quiet", "--locked", "--workspace", "--bins"]).status();
    if !built.as_ref().is_ok_and(std::process::ExitStatus::success) || !guest_tools::build_loudly() {
        say::line("the programs could not be built");
        return false;
    }
    true
}

fn has_nextest() -> bool {
    let asked = cargo().args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}

fn nextest(set: &str, filter: Option<&str>) -> Command {
    let set = match filter {
        // Nextest's matchers take text as it is after `~`; a parenthesis would end it.
        Some(filter) => format!("({set}) & test(~{})", filter.replace(['(', ')', '\\'], "")),
        None => set.to_owned(),
    };
    let mut command = cargo();
    command.args(["nextest", "run", "--locked", "--workspace", "--profile", "ci", "--no-tests", "pass", "-E", &set]);
    command
}

/// Without nextest, tests are chosen by name only.
fn plain(only: Only, filter: Option<&str>) -> Vec<Command> {
    let test = |scope: &[&str], rest: &[&str]| {
        let mut command = cargo();
        command.args(["test", "--quiet", "--locked", "--lib", "--bins", "--tests", "--no-fail-fast"]).args(scope);
        command.arg("--").args(filter).args(rest);
        command
    };
    match only {
        Only::Pure => vec![test(&["--workspace", "--exclude", "triton-e2e"], &["--skip", "kernel::", "--skip", "kernel_"])],
        Only::PureWithoutNpm => {
            vec![test(&["--workspace", "--exclude", "triton-e2e"], &["--skip", "kernel::", "--skip", "kernel_", "--skip", "npm_"])]
        }
        Only::Kernel => {
            let mut named = vec![test(&["-p", "triton-e2e"], &["--test-threads", "2", "--skip", "node_only::"])];
            let mut command = cargo();
            command.args(["test", "--quiet", "--locked", "--lib", "--bins", "--tests", "--no-fail-fast", "--workspace"]);
            command.args(["--exclude", "triton-e2e", "kernel"]);
            named.push(command);
            named
        }
    }
}

/// Runs one command; its output is shown as it comes and read for the summary.
fn one(mut command: Command) -> Result<Counts> {
    let (reader, writer) = std::io::pipe()?;
    let error = writer.try_clone()?;
    let mut child = command.stdout(writer).stderr(error).spawn().context("could not run cargo")?;
    drop(command);
    let mut text = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("could not read the test runner's output")?;
        let line = String::from_utf8_lossy(&line);
        let _ = writeln!(std::io::stdout(), "{line}");
        if line.contains("Summary") || line.starts_with("test result:") {
            text.push_str(&line);
            text.push('\n');
        }
    }
    let status = child.wait().context("could not wait for cargo")?;
    let counts = summary::read(&text).unwrap_or_default();
    if !status.success() && counts.failed == 0 {
        anyhow::bail!("the test runner ended with {status} before it could count: the tests did not build");
    }
    Ok(counts)
}
