//! `net-agent`: keeps the NICs of this node and NAPI in step, and the guard in force (net-agent.md).
//!
//! NAPI is the truth for addresses and protection; the node is the truth for whose a NIC is, where it is, and whether it runs. Both ways,
//! one NIC at a time, each by a machine of its own that is pure; instances, networks, aggregations and the machine's own links have theirs,
//! and `core` is all of them, pure as well. Without NAPI nothing changes for guests. Owns `/var/triton/net-agent.json`, and restores what
//! the guard owns. `fabric` is apart from all that: it tells overlay networks where addresses on other nodes are.

mod agent;
mod compare;
mod config;
mod core;
mod fabric;
mod feed;
mod guarding;
mod host_firewall;
mod local;
mod machine;
mod metrics;
mod nic;
mod node;
mod others;
mod real;
mod requests;
mod server;
mod sweep;

pub use agent::{Agent, Settings, Sources};
pub use config::{AgentConfig, Args};
pub use core::Kept;
pub use fabric::{FabricPace, Fabrics};
pub use feed::{WAITING, follow, registration};
pub use guarding::Guarding;
pub use local::{Me, Pace};
pub use metrics::Numbers;
pub use node::Node;
pub use real::{StartError, configuration, serve, user_agent};

/// The agent's name.
pub const NAME: &str = "net-agent";
