//! `check`: the installed liblxc's judgement of a config (ruling 47).

use std::{path::Path, process::ExitCode};

use triton_lxc::LibLxc;

/// Loads `file`; the reason of a refusal goes to stderr, liblxc's own lines before it.
pub fn check(file: &Path) -> ExitCode {
    let result = LibLxc::load().and_then(|library| {
        library.log_to_stderr();
        library.open("instance-monitor-check", Path::new("/run"))?.load_config(file)
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", triton_instance::chain(&error));
            ExitCode::FAILURE
        }
    }
}
