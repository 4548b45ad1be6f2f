//! LXC: rendering of container configs, the few calls of liblxc, and what its results mean.
//!
//! Called by the model (rendering) and by the instance monitor (everything else: nothing else calls liblxc, design section 4).
//! Owns no file and no container. Knows no Triton words.
//!
//! Verified with LXC 5.0 and 6.0, whose `struct lxc_container` is the same up to its last members.

mod exit;
mod ffi;
mod lib_lxc;
mod log;
mod render;
mod seccomp;
mod signal;
mod spec;

#[cfg(test)]
mod tests;

pub use exit::ExitOutcome;
pub use lib_lxc::{ConsoleFd, Container, LibLxc, LxcError, Started};
pub use log::log_errors;
pub use render::{RenderError, render};
pub use seccomp::policy as seccomp_policy;
pub use spec::{
    CgroupDirs, ConsoleLog, ContainerSpec, Device, Hook, Hooks, IdMap, InitUser, Limits, LogFile, Mount, Prlimit, STANDARD_DEVICES,
};
