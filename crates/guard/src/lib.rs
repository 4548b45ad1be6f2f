//! The guard: what a guest may send, held at the host's end of its link, out of the guest's reach (net-agent.md part C).
//!
//! Owns the table `triton_guard` of the bridge family (docs/nftables.md) and nothing else. Called by `instance` before a NIC goes up,
//! after it is gone and when its protection changes, and by net-agent, which restores the table when somebody else emptied it and adds
//! the addresses that guests were given by DHCP and router advertisements. One transaction for each change, under a lock.
//!
//! Rules are few and the same on every node; sets keyed by the name of the host's link say what each NIC may do (ruling 14). A link
//! whose name begins as a guest's and that is in no set may send nothing (ruling 18).

mod compare;
mod counters;
mod elements;
mod error;
mod learned;
mod owner;
mod protection;
mod snoop;
mod table;

pub use compare::links_here;
pub use counters::Drops;
pub use error::GuardError;
pub use learned::{LEARNED_MOST, Learned};
pub use owner::Guard;
pub use protection::{Protection, link_local};
pub use snoop::{Heard, Lesson, Snoop};
pub use table::{COPIES, TABLE};

#[cfg(test)]
mod tests;
