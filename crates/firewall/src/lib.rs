//! Cloud Firewall of a node (firewaller.md sections 5, 6, 8.5, 10.1 and 12).
//!
//! Owns `/var/fw` (rules and remote instances, one file each) and the table `triton_fw` of the bridge family (docs/nftables.md),
//! and nothing else. Called by `instance` before a NIC goes up and when an instance changes, by `fwadm`, and by firewaller.
//!
//! * [`Store`]: the files, under `/var/fw/.lockfile`.
//! * [`Firewall`]: changes of rules and remote instances, with upstream's words; each change is written first, then in force.
//! * [`Compiler`]: from rules and instances to what the table should be; pure. It keeps what did not change; [`compile()`] begins from nothing.
//! * [`Filter`]: brings the kernel's table there, in one transaction, changing only what differs.
//!
//! The kernel's table is what is in force: chains and sets that never change are named by what is in them, so that what there is can be
//! compared with what should be by names, by anybody, after any crash. A process that stays remembers what it made and looks only at what
//! it changes, as long as the generations of the kernel's rules show that nobody else changed the table.

mod affected;
mod change;
mod compile;
mod copies;
mod desired;
mod error;
mod filter;
mod index;
mod journal;
mod library;
mod line;
mod local;
mod mark;
mod names;
mod part;
mod peers;
mod peersets;
mod plan;
mod revoke;
mod spans;
mod store;
mod table;
mod validate;
mod whole;

pub use change::{Change, Changed, Origin};
pub use compile::{Compiler, compile};
pub use desired::Desired;
pub use error::{FirewallError, StoreError};
pub use filter::{Applied, Filter, Hits};
pub use library::Firewall;
pub use local::{LocalVm, Port};
pub use store::{Contents, News, Store};
pub use table::{Backend, TABLE};
pub use validate::{RemoteTargets, remote_targets, rules_of_remote_vm, rules_of_vm, validate, vms_of_rule};

#[cfg(test)]
mod tests;
