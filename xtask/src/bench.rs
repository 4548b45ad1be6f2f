//! `xtask bench`: the budgets, measured as ratios on this machine (design section 11).

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{
    guest_tools,
    packages::{self, Purpose},
    say::Progress,
    vm, workspace,
};

/// Arguments of `xtask bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Measure one part alone; `changes` is what `reports` measures of changes
    #[arg(long, value_parser = ["create", "scale", "firewall", "metadata", "reports", "changes"])]
    only: Option<String>,
    /// Rounds of each pair
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Synthetic instances for the figures at scale
    #[arg(long, default_value_t = 2000)]
    instances: usize,
    /// On a booted node of its own, which ends afterwards: its kernel, its datasets; ten times slower where it is emulated
    #[arg(long)]
    node: bool,
}

/// Builds the programs in release mode and runs the benches.
pub fn bench(args: &BenchArgs) -> Result<ExitCode> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the benches start containers: run this as root");
    }
    packages::ensure(&[Purpose::Build, Purpose::Node, Purpose::Bench], &mut Progress::new(1))?;
    let root = workspace::root();
    // One part needs few of the programs.
    let programs: &[&str] = match args.only.as_deref() {
        Some("metadata") => &["-p", "triton-bench", "-p", "metadata-agent", "-p", "instance-monitor", "-p", "triton-cli"],
        _ => &["--workspace"],
    };
    let built = workspace::cargo().args(["build", "--release", "--locked", "--bins"]).args(programs).status();
    if !built.context("could not run cargo")?.success() || !guest_tools::build_loudly() {
        bail!("the programs could not be built");
    }
    let mut words = vec!["--rounds".to_owned(), args.rounds.to_string(), "--instances".to_owned(), args.instances.to_string()];
    words.extend(args.json.then(|| "--json".to_owned()));
    words.extend(args.only.iter().flat_map(|part| ["--only".to_owned(), part.clone()]));
    if args.node {
        return vm::bench(&words).map(|()| ExitCode::SUCCESS);
    }
    let status = Command::new(root.join("target/release/triton-bench")).args(words).status().context("could not run the benches")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
