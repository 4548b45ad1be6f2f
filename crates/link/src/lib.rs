//! Links, addresses and routes of the kernel, through its netlink route socket; never the `ip` command.
//!
//! Called by `nictag` (bridges), `instance` (a guest's network) and the agents (counters, events). Owns no state: each
//! call looks at the kernel and changes what differs, so that every *ensure* may be repeated and every *remove* accepts
//! that the thing is gone. Knows nothing of Triton.
//!
//! [`Links`] is a socket in one network namespace. The kernel answers a request within the `send` call, which therefore
//! blocks its thread: for microseconds mostly, for some 15 ms when a link is deleted. Whoever deletes many links does it
//! away from its request path.

mod address;
mod bridge;
mod capabilities;
mod error;
mod events;
mod link;
mod links;
mod netns;
mod peer;
mod port;
mod reactor;
mod route;
mod steer;
mod sysctl;
mod tap;
mod veth;
mod vlan;
mod vxlan;
mod wire;

pub use address::Address;
pub use bridge::BridgeSpec;
pub use capabilities::Capabilities;
pub use error::{Cause, ErrorKind, LinkError};
pub use events::{LinkEvent, LinkEvents};
pub use link::{Link, LinkKind, LinkStats};
pub use links::Links;
pub use netns::{Entered, NetNs};
pub use peer::Peers;
pub use port::{BridgeVlan, FdbEntry, PortFlags};
pub use route::Route;
pub use steer::Steering;
pub use sysctl::Family;
pub use tap::Tap;
pub use veth::VethSpec;
pub use vxlan::{Remote, VxlanSpec};

#[cfg(test)]
mod tests;
