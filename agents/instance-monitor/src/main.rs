//! The parent of one running instance (design section 4, rulings 35 to 39).
//!
//! `run` supervises: it boots the guest, follows it, boots it again when it reboots, and records how it ended. It ends with
//! the guest and holds no lock while it waits. Each boot is one `boot` child, a fresh process in which liblxc runs; nothing
//! else calls liblxc. `adopt` takes over a guest whose supervisor was killed. `hook` is what liblxc calls on the host.
//!
//! Killing the supervisor, the boot child or both never hurts the guest.

mod adopt;
mod boot;
mod boot_child;
mod channel;
mod check;
mod console;
mod detach;
mod ending;
mod ffi;
mod guest;
mod hook;
mod line;
mod node;
mod note;
mod pause;
mod readiness;
mod records;
mod supervisor;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use triton_types::InstanceUuid;

#[derive(Parser)]
#[command(name = "instance-monitor", version, about = "The parent of one running instance")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Boot the instance and supervise it until it ends
    Run(Supervise),
    /// Supervise a running guest whose monitor was killed
    Adopt(Supervise),
    /// Run one boot of a container; for `run` only
    #[command(hide = true)]
    Boot {
        /// Config of the container
        #[arg(long)]
        config: PathBuf,
        /// Name of the container
        #[arg(long)]
        name: String,
        /// Descriptor that takes the result, one line of JSON
        #[arg(long)]
        result_fd: i32,
    },
    /// What liblxc calls on the host; for configs only
    #[command(hide = true)]
    Hook {
        #[arg(value_enum)]
        kind: hook::Kind,
        #[command(flatten)]
        of: Instance,
    },
    /// Load a config with the installed liblxc, and say why it is refused
    Check {
        /// The config
        file: PathBuf,
    },
    /// Attach to the console of a running guest; Ctrl-] ends
    Console(Instance),
}

#[derive(clap::Args)]
struct Instance {
    /// Root of the compute node
    #[arg(long, default_value = "/")]
    root: PathBuf,
    /// The instance
    uuid: InstanceUuid,
}

#[derive(clap::Args)]
struct Supervise {
    #[command(flatten)]
    of: Instance,
    /// Detach, and tell this descriptor the outcome of the start, one line of JSON. Without it, stay in the foreground and
    /// tell systemd
    #[arg(long)]
    ready_fd: Option<i32>,
}

fn main() -> ExitCode {
    // Processes started through /proc/self/exe would be called "exe" in lists of processes.
    let _ = nix::sys::prctl::set_name(c"instance-monitor");
    match Arguments::parse().verb {
        Verb::Run(arguments) => supervise(&arguments, supervisor::run),
        Verb::Adopt(arguments) => supervise(&arguments, adopt::adopt),
        Verb::Boot { config, name, result_fd } => boot::boot(&config, &name, result_fd),
        Verb::Hook { kind, of } => hook::run(kind, &of.root, of.uuid),
        Verb::Check { file } => check::check(&file),
        Verb::Console(of) => console::console(&of.root, of.uuid),
    }
}

fn supervise(arguments: &Supervise, work: fn(&node::Node, readiness::Starter) -> Result<(), String>) -> ExitCode {
    let uuid = arguments.of.uuid;
    let detached = arguments.ready_fd.is_some();
    if detached {
        match detach::detach() {
            Ok(true) => {}
            Ok(false) => return ExitCode::SUCCESS,
            Err(error) => return fail(uuid, &format!("could not detach: {error}")),
        }
    }
    let starter = readiness::Starter::new(arguments.ready_fd);
    let result = detach::settle(detached)
        .map_err(|error| format!("could not become a supervisor: {error}"))
        .and_then(|()| node::Node::open(&arguments.of.root, uuid, detached));
    let result = match result {
        Ok(node) => work(&node, starter),
        Err(reason) => {
            starter.failed(&reason);
            Err(reason)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => fail(uuid, &reason),
    }
}

fn fail(uuid: InstanceUuid, reason: &str) -> ExitCode {
    note::error(uuid, reason);
    ExitCode::FAILURE
}
