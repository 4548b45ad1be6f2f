//! What this machine is: the sysinfo document (cn-agent.md section 7) and the few facts of the host that many programs need.
//!
//! Called by `cn-agent` (registration and `server_sysinfo`), by the `sysinfo` command, and by everything that fills host facts
//! into a VM object. Owns no state. Every collector stands alone: what cannot be learnt is left out and its reason is kept,
//! except for the identity and the network interfaces, without which the headnode cannot use the document.
//!
//! Nothing here starts a process; with ZFS storage the pool's figures come from the `storage` crate, at its price.

mod agents;
mod boot_params;
mod collect;
mod cpu;
mod disks;
mod dmi;
mod document;
mod facts;
mod links;
mod memory;
mod nics;
mod node_config;
mod platform;
mod pool;
mod setup;
mod source;
mod tags;

pub use agents::{AgentEntry, installed_agents};
pub use boot_params::BootParameters;
pub use collect::{SysinfoError, SysinfoOptions};
pub use dmi::{Dmi, DmiError, swap_uuid};
pub use document::{Omission, Sysinfo};
pub use facts::{FactsError, HostFacts};
pub use links::{LinkFact, LinkKind};
pub use memory::boot_time;
pub use node_config::NodeConfig;
pub use source::Source;
