//! The network of the host: from `networking.json` to the files that systemd-networkd reads.
//!
//! Pure. [`Networking::parse`] reads what the headnode wrote, leniently: what is wrong is named in a [`Problem`] and left
//! out, the rest goes on. [`plan()`] decides on links and addresses, [`render()`] writes them as text. Called by
//! `triton-netconf` in the initramfs and after boot, and by `nictag`, which takes the names of bridges from here: both make
//! the same ones.
//!
//! The layout (net-agent.md section 13, ruling 8): each NIC or aggregation that provides a tag is the uplink of one
//! VLAN-aware bridge with the MAC address of that uplink. An address that belongs to the uplink's own MAC address is the
//! bridge's, on a VLAN the address of a VLAN link above the bridge. Every further host NIC is a veth with its own MAC
//! address whose other end is a port of the bridge.

mod aggregation;
mod document;
mod facts;
mod fields;
mod hash;
mod names;
mod overlay;
mod plan;
mod planning;
mod problem;
mod render;
mod vnic;

pub use aggregation::{Aggregation, LacpMode};
pub use document::{Networking, Provider, TagEntry};
pub use facts::{Facts, NodeSettings, boot_mac};
pub use hash::check_hash;
pub use names::{BRIDGE_PREFIX, HOST_PORT_PREFIX, TRUNK_PREFIXES, aggregation_link, bridge_of, fabric_ports, host_nic, host_port};
pub use overlay::Overlay;
pub use plan::{Address, Addressing, Device, HostNic, HostNicKind, Plan, Route, Uplink};
pub use planning::plan;
pub use problem::Problem;
pub use render::{DHCP_ALL_NICS, FILE_PREFIX, File, OWNED, dhcp_all_nics, render};
pub use vnic::{Via, Vnic};

#[cfg(test)]
mod tests;
