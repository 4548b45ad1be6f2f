//! Files of a compute node: where they are below a root, whole replacement, locks that say who holds them,
//! and writes below a guest's root that no link can divert.
//!
//! Called by every crate that keeps state. Knows paths and bytes, nothing of what they mean.

mod atomic;
mod layout;
mod lock;
mod safe_root;
pub mod steps;

pub use atomic::{
    FileError, read_bounded, read_json, read_optional, remove_if_present, sweep_temporaries, write_atomic, write_json, write_json_volatile,
    write_volatile,
};
pub use layout::{Identity, Layout};
pub use lock::{Holder, Lock, LockError};
pub use safe_root::{SafeRoot, SafeRootError};
