//! Doing something inside a guest: running a program there, looking at a file, copying files out of it and into it.
//!
//! The agent has threads, and a thread cannot move into another user namespace; so it runs itself again as a small helper, which is
//! told by its environment what to do (`Entry`). The helper enters the guest's control group and, in one call and by a descriptor of
//! the guest's init, all of its namespaces. From there on it is the guest's own root with no more than the guest's capabilities, and
//! every path is resolved in the guest's root by the kernel: no link leads out of it. Of a stopped guest it enters a user namespace with
//! the guest's ids and the guest's root. Nothing of the guest is executed unless a program was asked for.

mod account;
mod enter;
mod ffi;
mod files;
mod program;
mod stopped;

use std::{path::PathBuf, process::ExitCode};

use serde::{Deserialize, Serialize};
use tokio::process::Command;
use triton_types::{IdRange, ProcessRef};

/// The environment variable that makes a helper of the program. Only root can read a process's environment.
const VARIABLE: &str = "CN_AGENT_GUEST_ENTRY";
/// Longest description of what is to be done; the kernel takes no longer variable.
const LONGEST: usize = 100 << 10;
/// How the helper ends when it could not enter the guest.
pub(crate) const NOT_ENTERED: u8 = 125;

/// Where a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestPlace {
    /// Its root on the host.
    pub root: PathBuf,
    /// Its ids on the host.
    pub ids: IdRange,
    /// The ids on disk are those of the host; otherwise the guest's own.
    pub shifted: bool,
    /// Its init, while it runs.
    pub init: Option<ProcessRef>,
    /// The control group of its processes.
    pub payload: String,
}

/// What is to be done inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    /// Run a program; the helper ends as it does.
    Run(Run),
    /// Write what a path is to standard output, as JSON ([`Looked`]).
    Look { path: String },
    /// Write a path as a tar archive to standard output.
    Read { path: String },
    /// Unpack a tar archive from standard input in a directory.
    Write { path: String, keep_directories: bool },
}

/// A program to be run in a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment, in place of the usual one where names are the same.
    pub environment: Vec<(String, String)>,
    /// `user`, `uid`, `user:group` or `uid:gid`; root without one.
    pub user: Option<String>,
    /// Working directory; `/` without one.
    pub directory: Option<String>,
    /// Standard input is a terminal, which becomes the program's own.
    pub terminal: bool,
    /// It goes on when nobody waits for it any more.
    pub detached: bool,
}

/// What a path inside a guest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Looked {
    /// It is there.
    Is { directory: bool, link: Option<String>, size: u64, modified: i64, mode: u32 },
    /// There is nothing.
    Absent,
    /// Something on the way is no directory.
    NotDirectory,
    /// It could not be looked at.
    Failed(String),
}

/// Something to be done in a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub place: GuestPlace,
    pub action: Action,
}

impl Entry {
    /// The helper that does it; standard streams are the caller's matter. Spawned from a thread that lives as long as the agent, it ends
    /// with the agent.
    ///
    /// # Errors
    /// In words, when it is too long.
    pub(crate) fn command(&self) -> Result<Command, String> {
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        if text.len() > LONGEST {
            return Err(format!("the command and its environment are too long: {} bytes of {LONGEST}", text.len()));
        }
        let mut command = Command::new("/proc/self/exe");
        command.env_clear().env(VARIABLE, text).current_dir("/");
        Ok(command)
    }
}

/// Does what the environment asks for, if it asks for anything: this process is a helper then. To be called before there are threads.
pub fn entry() -> Option<ExitCode> {
    let text = std::env::var_os(VARIABLE)?;
    let entry = text.to_str().and_then(|text| serde_json::from_str::<Entry>(text).ok());
    let result = match entry {
        Some(entry) => enter::enter(&entry),
        None => Err("this program was asked for something in a guest that it does not understand".to_owned()),
    };
    Some(result.unwrap_or_else(|error| {
        eprintln!("cannot enter the guest: {error}");
        ExitCode::from(NOT_ENTERED)
    }))
}

/// A path as it is meant: absolute, without `.`, `..` and double slashes.
pub(crate) fn normal(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_absolute_and_never_above_the_root() {
        for (path, expected) in [("etc//passwd", "/etc/passwd"), ("../../x/./y", "/x/y"), ("/a/../..", "/"), ("", "/"), ("/a/", "/a")] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_is_too_long_for_the_kernel_is_refused() {
        let place = GuestPlace { root: "/".into(), ids: IdRange { base: 1, size: 1 }, shifted: true, init: None, payload: String::new() };
        let run = |length| Action::Run(Run { command: vec!["x".repeat(length)], ..Run::default() });
        assert!(Entry { place: place.clone(), action: run(50_000) }.command().is_ok());
        assert!(Entry { place, action: run(200_000) }.command().unwrap_err().contains("too long"));
    }
}
