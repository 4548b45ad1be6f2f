//! `xtask exec`: a command inside the node, with the node's programs first in PATH.

use std::{
    env,
    ffi::OsString,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::up::{RootArgs, programs_folder, state};

/// Arguments of `xtask exec`.
#[derive(Args, Debug)]
pub struct ExecArgs {
    #[command(flatten)]
    root: RootArgs,

    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Replaces this process by the command; its exit status is the command's.
pub fn exec(args: &ExecArgs) -> Result<ExitCode> {
    let layout = crate::layout(&args.root)?;
    if state::State::load(&layout)?.is_none() {
        bail!("no node is up below {}: start one with `cargo xtask up`", layout.root().display());
    }
    let entered = triton_agent::enter_namespaces(&layout).context("could not enter the node")?;
    if !entered.net && !layout.namespaces().join("net").exists() {
        bail!("the node below {} has no namespaces: start it again with `cargo xtask up`", layout.root().display());
    }
    let (program, arguments) = match args.command.split_first() {
        Some((program, arguments)) => (program.clone(), arguments),
        None => (env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()), &[][..]),
    };
    let mut path = OsString::from(programs_folder(&layout));
    if let Some(own) = env::var_os("PATH") {
        path.push(":");
        path.push(own);
    }
    // The program is looked up in the PATH of this call, not in that of the child.
    let found = env::split_paths(&path).map(|folder| folder.join(&program)).find(|file| file.is_file());
    let program = if program.to_string_lossy().contains('/') { program.into() } else { found.unwrap_or_else(|| program.into()) };
    let error = Command::new(&program).args(arguments).env("PATH", path).env("TRITON_ROOT", layout.root()).exec();
    bail!("could not run {}: {error}", program.display())
}
