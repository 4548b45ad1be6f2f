//! `firewaller`: keeps the rules of this compute node's firewall in step with FWAPI (firewaller.md).
//!
//! FWAPI is the truth of rules, VMAPI of instances elsewhere. A full comparison runs at start, after each subscription to FWAPI's
//! events, and every half hour; events in between only make it quicker. What cannot be known (an answer that fails, a list of
//! instances that is not complete) deletes nothing, and what was in force stays so: also while this agent does not run.
//!
//! * [`Backend`]: what the agent needs of the node: its instances, the stored rules, and changes of them.
//! * [`Worker`]: one task after the other: `tasks` for events, `sync` for the comparison.
//! * `follow`: the subscription. `api`: HTTP on port 2021. `keeping`: what is stored is in force whatever anybody does to it.
//! * [`RealNode`]: the node below a root. `real`: the program around all of it.

pub mod api;
mod backend;
mod config;
mod follow;
mod instances;
mod keeping;
mod metrics;
mod node;
mod real;
mod sync;
mod tasks;
mod want;
mod worker;

pub use backend::{Backend, Edit, Stored};
pub use config::{Addresses, AgentConfig, Args};
pub use follow::follow;
pub use metrics::Numbers;
pub use node::RealNode;
pub use real::{StartError, serve};
pub use sync::SyncError;
pub use tasks::TaskError;
pub use worker::{Handle, Services, Settings, Task, Worker};

/// The agent's name.
pub const NAME: &str = "firewaller";
