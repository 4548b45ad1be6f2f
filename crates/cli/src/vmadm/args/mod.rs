//! The command line of vmadm (instances.md section 4).

mod all;
mod change;
mod power;
mod query;
mod rewrite;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;
use triton_types::InstanceUuid;

pub use all::{BootAll, HaltAll};
pub use change::{Reprovision, SnapshotTarget, Update};
pub use power::{Kill, Reboot, Stop};
pub use query::{Events, Info, List, Lookup, Sysrq, Validate};
pub use rewrite::{rewrite, wants_help};

/// Manage the instances of this compute node.
///
/// Data goes to standard output; everything said to people, success included, goes to standard error.
/// Exit status: 0 success, 1 the operation failed, 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "vmadm", version, disable_help_subcommand = true, infer_subcommands = false, subcommand_required = true)]
pub struct VmadmArgs {
    #[command(flatten)]
    pub common: CommonArgs,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create an instance from a JSON payload, and start it unless autoboot is false
    Create(Input),
    /// Change properties of an instance, from a JSON payload or from KEY=VALUE words
    ///
    /// Takes effect at once where it can: limits, quota, tmpfs, metadata, tags, protection. What a running instance gets only
    /// at its next boot (NICs, routes, file systems, host name) is said on standard error. All of a payload is applied or
    /// nothing. Maps and lists are changed by set_tags, remove_tags, add_nics, update_nics, remove_nics and their like.
    Update(Update),
    /// Stop an instance and destroy everything that belongs to it
    #[command(visible_alias = "destroy")]
    Delete(Target),
    /// Start a stopped instance; it will also start when the machine boots
    #[command(visible_alias = "boot")]
    Start(Target),
    /// Stop an instance; it will not start when the machine boots
    #[command(visible_alias = "halt")]
    Stop(Stop),
    /// Reboot a running instance with its current configuration
    Reboot(Reboot),
    /// Send a signal to the instance's init
    Kill(Kill),
    /// Replace an instance's root by that of another image, and start it
    ///
    /// The payload holds the image_uuid. Identity, NICs, metadata, limits and private volumes stay; everything else in the
    /// instance's file system, and its snapshots, is lost.
    Reprovision(Reprovision),
    /// Make a snapshot of an instance's file system, metadata, tags and routes
    CreateSnapshot(SnapshotTarget),
    /// Put an instance back to a snapshot, destroying newer ones, and start it
    RollbackSnapshot(SnapshotTarget),
    /// Destroy a snapshot of an instance
    DeleteSnapshot(SnapshotTarget),
    /// Print an instance as JSON
    #[command(visible_alias = "json")]
    Get(Target),
    /// Print a table of instances, or chosen fields of them
    List(List),
    /// Print the uuids, or the JSON, of instances that match
    Lookup(Lookup),
    /// Print what the kernel knows of a running instance as JSON
    Info(Info),
    /// Print what happens to instances, until killed or until nobody reads any more
    ///
    /// Each line is an event: create, modify (what changed, from what, to what) or delete. Nothing is lost between the ready
    /// event and the first one after it. Changes that follow each other within milliseconds may be told as one.
    Events(Events),
    /// Check a payload without changing anything
    Validate(Validate),
    /// Write a stopped instance to standard output, for `vmadm receive` on another compute node
    ///
    /// The instance stays where it is: delete it when the other node has it. Snapshots do not travel, and neither does the image.
    #[command(after_help = "Example:\n  vmadm send 6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9001 | ssh root@10.99.99.12 vmadm receive")]
    Send(Target),
    /// Make the instance that a stream of `vmadm send` holds; it is stopped afterwards
    ///
    /// Nothing stays unless the stream is whole. Its NIC tags must exist on this node.
    #[command(visible_alias = "recv")]
    Receive(Input),
    /// Documented for HVM brands only; always refused here
    Sysrq(Sysrq),
    /// Mount the dataset of every instance, as the machine does when it boots; nothing is started
    MountAll(BootAll),
    /// Start every instance with autoboot that does not run, as the machine does when it boots
    BootAll(BootAll),
    /// Stop every running instance, as the machine does when it goes down; autoboot stays as it is
    HaltAll(HaltAll),
    /// Attach this terminal to the instance's console; Ctrl-] leaves
    Console(Target),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
}

/// Where a payload comes from.
#[derive(Debug, Args)]
pub struct Input {
    /// Read the payload from FILE instead of standard input (`-`)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// One instance.
#[derive(Debug, Args)]
pub struct Target {
    /// The instance's uuid
    pub uuid: InstanceUuid,
}
