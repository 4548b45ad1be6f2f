//! `cargo xtask`: a verb for each thing that a person does with this repository, the same by hand and in CI.

mod backports;
mod bench;
mod checks;
mod completions;
mod dist;
mod exec;
mod guest_tools;
mod image;
mod packages;
mod platform;
mod run;
mod say;
mod test;
mod up;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::up::{DownArgs, RootArgs, UpArgs};

/// Builds, checks, tests and runs Triton's Linux compute node
///
/// `cargo xtask up` turns this machine into a small data centre: a stand-in for the headnode, a compute node, and instances
/// that were provisioned the way a headnode does it. `cargo xtask test` runs everything that a change must pass.
#[derive(Parser, Debug)]
#[command(name = "xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Start a compute node and a stand-in headnode on this machine and provision instances
    ///
    /// Installs missing Debian packages, builds the programs and a small image, makes network and mount namespaces of the
    /// node's own, starts the stand-in headnode and cn-agent in them, and provisions instances: VMAPI, CNAPI, cn-agent, LXC.
    /// Running it again brings back what is missing and leaves alone what is right. Needs root.
    Up(UpArgs),

    /// Stop and remove everything that `up` made
    ///
    /// Instances, agents, namespaces, mounts, links, control groups and files; then looks whether anything is left, and says so.
    /// Installed Debian packages and the cache of built images stay. Doing it twice is no error.
    Down(DownArgs),

    /// Show what is up
    ///
    /// Exit status: 0 everything runs, 1 something is down, 3 nothing is there.
    Status(up::StatusArgs),

    /// Run a command inside the node: its namespaces, its programs first in PATH
    ///
    /// Without a command, starts a shell. Example: `cargo xtask exec -- vmadm list`.
    Exec(exec::ExecArgs),

    /// Build the operating-system image that a compute node boots from
    ///
    /// Debian packages, the ZFS module, our programs and units: kernel, initrd, squashfs, manifest, and the archive that
    /// `sdcadm platform install` takes. What is slow is cached. Needs root.
    Image(platform::ImageArgs),

    /// A compute node booted from that image under QEMU on this machine
    Vm(vm::VmArgs),

    /// Run everything that a change must pass: static checks, documentation, every tier of tests
    ///
    /// The last line is `N passed, M failed`. With CI=true, a tier that cannot run on this machine is a failure.
    Test(test::TestArgs),

    /// Run the static checks alone: formatting, clippy, layers, licences, sources, rules of the workspace
    Ci {
        /// Let cargo fmt and clippy repair what they can
        #[arg(long)]
        fix: bool,
    },

    /// Measure the budgets as ratios to the same work done by hand
    ///
    /// Builds everything in release mode first. Judges nothing: it prints figures beside their bounds. Needs root and an idle machine.
    Bench(bench::BenchArgs),

    /// Build the Debian package of the guest's metadata tools
    ///
    /// Guests on our nodes find the tools below /native; the package is for images that are to bring their own.
    Dist(dist::DistArgs),

    /// Print the completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Make a freshly booted machine a node that was set up; runs on it
    #[command(hide = true)]
    PrepareNode(vm::PrepareArgs),

    /// Answer one HTTP request of a machine that boots from the network; run by QEMU
    #[command(hide = true)]
    ServeBoot(vm::ServeArgs),

    /// Send frames into the wire of a guest, or say which came; runs on a node of the test bed
    #[command(hide = true)]
    ProbeWire(vm::ProbeArgs),

    /// Hold new namespaces until standard input ends
    #[command(hide = true)]
    HoldNamespaces(up::HoldArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Up(args) => up::up(&args),
        Verb::Down(args) => up::down(&args),
        Verb::Status(args) => up::status(&args),
        Verb::Exec(args) => exec::exec(&args),
        Verb::Image(args) => platform::image(&args),
        Verb::Vm(args) => vm::vm(&args),
        Verb::PrepareNode(args) => vm::prepare(&args),
        Verb::ServeBoot(args) => vm::serve(&args),
        Verb::ProbeWire(args) => vm::probe(&args),
        Verb::Test(args) => Ok(test::test(&args)),
        Verb::Ci { fix } => {
            let outcome = checks::run(fix);
            say::line(format_args!("{} passed, {} failed", outcome.passed, outcome.failed));
            Ok(if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Verb::Bench(args) => bench::bench(&args),
        Verb::Dist(args) => dist::dist(&args),
        Verb::Completions { shell } => {
            completions::print(shell);
            Ok(ExitCode::SUCCESS)
        }
        Verb::HoldNamespaces(args) => up::hold_namespaces(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Bytes as lower-case hex digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The command line, for completions.
fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// The node that a verb is about.
fn layout(args: &RootArgs) -> anyhow::Result<triton_files::Layout> {
    let root = std::path::absolute(&args.root)?;
    anyhow::ensure!(root != std::path::Path::new("/"), "the node of `up` has a root of its own; / is the machine itself");
    Ok(triton_files::Layout::new(root))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_consistent_and_every_verb_has_help() {
        super::command().debug_assert();
        for verb in super::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            assert!(verb.get_about().is_some(), "{}", verb.get_name());
        }
    }
}
