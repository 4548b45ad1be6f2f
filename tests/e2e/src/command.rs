//! Running the project's own programs.

use std::{
    path::PathBuf,
    process::{Command, Output},
};

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Outcome {
    /// The outcome if it was a success.
    ///
    /// # Panics
    /// With everything the program said, if not.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "failed; stderr:\n{}\nstdout:\n{}", self.stderr, self.stdout);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("no JSON ({e}):\n{}", self.stdout))
    }

    /// The last line of standard error.
    pub fn last_error(&self) -> &str {
        self.stderr.trim_end().lines().last().unwrap_or_default()
    }
}

/// The program `name` as it was built beside this test.
///
/// # Panics
/// When it was not built: `cargo build --workspace --bins` does it.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let found = own.ancestors().skip(1).take(3).map(|directory| directory.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built: run `cargo build --workspace --bins`"))
}

/// The guest's tools, one static program.
///
/// # Panics
/// When it was not built: `cargo xtask test` does it.
pub(crate) fn guest_tools() -> PathBuf {
    let own = std::env::current_exe().expect("a running program has a path");
    let found = own.ancestors().map(|directory| directory.join("guest/mdata")).find(|path| path.is_file());
    found.expect("the guest's tools are not built: run `cargo xtask test`, or see the profile `guest` in Cargo.toml")
}

/// A command of the program `name`.
pub(crate) fn command(name: &str) -> Command {
    Command::new(program(name))
}
