//! `xtask vm`: a compute node booted from the platform image under QEMU on this machine.
//!
//! Everything is below one folder: disk, key, state, the serial console's log. Nothing of it is reachable but by loopback
//! ports. A booted node is saved, so that the next `up` has it back in seconds.

mod accel;
mod args;
mod bed;
mod boot;
mod console;
mod disk;
mod machine;
mod netboot;
mod node;
mod probe;
mod qemu;
mod qmp;
mod scenarios;
mod ssh;
mod state;
mod testing;
mod up;
mod verbs;

pub use args::{PrepareArgs, VmArgs};
pub use machine::Machine;
pub use netboot::{ServeArgs, serve};
pub use node::prepare;
pub use probe::{ProbeArgs, probe};
pub use testing::{bench, cannot_run, tier};
pub use up::STEPS;
pub use verbs::{remove, vm};
