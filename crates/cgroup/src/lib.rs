//! Control groups: pure v2 and hybrid trees, limits, events, kill, removal.
//!
//! Called by the instance monitor (its own place, clean leaves before a start, removal after the end) and by the model
//! (limits of running instances, orphan checks). Owns no group: callers name paths relative to the roots of the hierarchies
//! and decide which of them are theirs. Knows no Triton words.
//!
//! A compute node has pure v2. A developer's machine may have hybrid: v1 hierarchies for the controllers and a unified one
//! beside them; there every operation is done in all hierarchies (design section 8).

mod error;
mod hierarchy;
mod memory;
mod mounts;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

pub use error::CgroupError;
pub use memory::MemoryEvents;
pub use mounts::CgroupLayout;
pub use tree::Cgroups;
pub use watch::PopulationWatch;
