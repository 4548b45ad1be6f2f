//! `boot`: the process in which liblxc runs, for one boot of one guest.
//!
//! Always a fresh process: liblxc's in-process reboot loses the idmapped root (ruling 70). It becomes init's parent, moves
//! itself to the monitor's control group, and ends with its guest. Whatever it has open or set, a guest's init might get:
//! so descriptors are closed at exec, signals are as in any new process, and the environment is what the supervisor gave.

use std::{fs::OpenOptions, io, io::Write, path::Path, process::ExitCode};

use nix::{
    sys::{
        signal::{SigSet, SigmaskHow, sigprocmask},
        stat::{Mode, umask},
    },
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use serde::{Deserialize, Serialize};
use triton_instance::Command;
use triton_lxc::{LibLxc, LxcError};

use crate::ffi;

/// What a boot ended with: the one line on the result descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootResult {
    /// Init did run.
    pub started: bool,
    /// liblxc's number, to be decoded, if it did.
    pub error_num: i32,
    /// Why liblxc could not be used, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Boots the container `name` of `config`, waits for its end, and writes the result. Exit status 0 whenever a result was written.
pub fn boot(config: &Path, name: &str, result_fd: i32) -> ExitCode {
    let mut result_file = match prepare(result_fd) {
        Ok(file) => file,
        Err(_) => return ExitCode::FAILURE,
    };
    ffi::trim_heap();
    let result = start(config, name).unwrap_or_else(|error| BootResult { started: false, error_num: 1, error: Some(error) });
    let written = serde_json::to_string(&result).map(|line| result_file.write_all(format!("{line}\n").as_bytes()));
    if matches!(written, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare(result_fd: i32) -> io::Result<std::fs::File> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    ffi::default_signals();
    umask(Mode::from_bits_truncate(0o022));
    let result = std::fs::File::from(ffi::keep_only(result_fd)?);
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    Ok(result)
}

fn start(config: &Path, name: &str) -> Result<BootResult, String> {
    let text = |error: LxcError| triton_instance::chain(&error);
    let command = Command::beside(config).map_err(|error| triton_instance::chain(&error))?;
    let library = LibLxc::load().map_err(text)?;
    let mut container = library.open(name, &lxcpath(config)).map_err(text)?;
    container.load_config(config).map_err(text)?;
    let started = match command {
        None => container.start_foreground(),
        Some(Command { argv, environment }) => {
            for (name, value) in &environment {
                container.set_variable(name, value).map_err(text)?;
            }
            container.start_foreground_with(&argv).map_err(text)?
        }
    };
    Ok(BootResult { started: started.ok, error_num: started.error_num, error: None })
}

/// The directory that liblxc names a container's command socket by: the one above the instance's runtime directory, which
/// holds the config.
pub fn lxcpath(config: &Path) -> std::path::PathBuf {
    config.ancestors().nth(2).unwrap_or(Path::new("/")).to_owned()
}
