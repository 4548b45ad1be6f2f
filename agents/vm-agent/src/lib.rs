//! `vm-agent`: tells VMAPI which instances this compute node has (vm-agent.md).
//!
//! One way, from the node to VMAPI: what is here is the truth. At start both are compared and VMAPI is corrected in bulk; then each
//! change is reported as it happens, and a restart with nothing changed reports nothing. What cannot be known (no pool, no state
//! directory, a machine file that cannot be read) is never reported as destroyed. Owns no state on disk.

mod agent;
mod compare;
mod config;
mod known;
mod metrics;
mod real;
mod startup;

pub use agent::{Agent, Settings};
pub use config::{AgentConfig, Args};
pub use metrics::Numbers;
pub use real::{StartError, serve, user_agent};

/// The agent's name.
pub const NAME: &str = "vm-agent";
