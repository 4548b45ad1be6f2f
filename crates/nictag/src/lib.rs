//! NIC tags and the bridges that carry them.
//!
//! A tag names a physical network. The file `triton-networking.json` says which NIC of this node provides which tag; each
//! NIC that provides one is the uplink of one bridge, and instances' NICs are ports of that bridge (design section 5).
//! Names of links come from `triton-netconf`, which makes the
//! same ones at boot. Called by `nictagadm`, `sysinfo`, `instance` and the agents' start. Owns the tags in the file and the links `tb*`.
//!
//! Synchronous, and callable from any thread, one of a runtime included: what it asks of the kernel runs on a short-lived
//! thread. [`set_port`] and what is about overlay networks is asynchronous, for callers that have a `Links` already.

mod bridges;
mod change;
mod error;
mod fabric;
mod file;
mod further;
mod kernel;
mod port;
mod tags;
mod vlan;

pub use bridges::{BridgeReport, TagProblem, TagReport, TagStatus};
pub use change::TagUpdate;
pub use error::NicTagError;
pub use fabric::{Fabric, FabricHold, FabricPart, FabricParts, ensure_fabric, fabric_parts, mend_fabric, release_fabric};
pub use port::{Port, set_port, set_port_within};
pub use tags::{NicTags, Tag};
pub use triton_netconf::{Overlay, Provider};
pub use vlan::{VlanError, check_vlan, vlan_support};

#[cfg(test)]
mod tests;
