//! The guest's tools: one program, static, because the userlands that it runs in are strangers'.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};

use crate::{
    run,
    say::Progress,
    workspace::{self, cargo},
};

/// Name of the program; the tools are links to it.
pub const PROGRAM: &str = "mdata";
/// What the links are called.
pub const NAMES: [&str; 4] = ["mdata-get", "mdata-put", "mdata-delete", "mdata-list"];

fn command() -> std::process::Command {
    let mut build = cargo();
    // The flag concerns this program alone: what it is linked from stays as for all others.
    build.args(["rustc", "--quiet", "--locked", "--profile", "guest", "--package", "mdata-tools", "--bin", PROGRAM]);
    build.args(["--", "-C", "target-feature=+crt-static"]);
    build
}

/// Where the program is built.
pub fn path() -> Result<PathBuf> {
    Ok(workspace::target_folder()?.join("guest").join(PROGRAM))
}

/// Builds the program; its output is shown.
pub fn build_loudly() -> bool {
    command().status().is_ok_and(|status| status.success())
}

/// Builds the program; returns where it is.
pub fn build(progress: &mut Progress) -> Result<PathBuf> {
    run::succeed(command(), Duration::from_secs(1800), progress).context("could not build the guest's tools")?;
    path()
}
