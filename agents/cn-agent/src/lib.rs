//! The agent that CNAPI steers a compute node through: a small HTTP server that runs tasks, and reporters that tell CNAPI what the
//! node is (sysinfo, agents) and how it is (heartbeats, status).
//!
//! Rules come from `cn-agent.md`. The layers, from the outside in: [`http`] speaks restify's dialect; [`Runner`] admits, orders, times
//! and records tasks; [`tasks`] are what CNAPI may ask for; [`Machines`] and [`Images`] are all that tasks know of the node.
//! [`report`] runs beside them and shares nothing with them but the node itself, so that no task can delay a heartbeat.
//!
//! Nothing that this agent does at start, stop or crash touches a running guest.

mod agent;
mod config;
mod error;
mod guard;
pub mod guest;
mod history;
pub mod http;
mod locks;
mod machines;
mod metrics;
pub mod packages;
mod params;
pub mod real;
mod redact;
mod registry;
pub mod report;
mod runner;
mod status_verb;
pub mod successor;
mod task_log;
mod task_name;
pub mod tasks;

pub use agent::{Facilities, Settings, StartError, run};
pub use config::{AgentConfig, Args, PORT, TWIN_PORT, Verb};
pub use error::TaskError;
pub use guard::{ProvisionGuard, remove_stale_guards};
pub use guest::GuestPlace;
pub use history::{Entry, History, Status};
pub use locks::{Order, VmLocks};
pub use machines::{ImageRequest, Images, MachineError, Machines, StopOptions};
pub use metrics::Numbers;
pub use params::Params;
pub use redact::redact;
pub use registry::{BoxFuture, Handler, Registry, TaskContext};
pub use runner::{Admission, Limits, Runner};
pub use status_verb::print_status;
pub use task_log::TaskLog;
pub use task_name::{Queue, TaskName};

/// The version that CNAPI is told. It decides by it which tasks this agent understands (cn-agent.md section 4.6, ruling 57), so it is
/// the version of the protocol and not of the program.
pub const ANNOUNCED_VERSION: &str = "2.15.0";

/// The agent's name in lists, metrics and headers.
pub const NAME: &str = "cn-agent";

/// Name of the same program while it installs a new version of itself (section 3.11).
pub const TWIN: &str = "cn-agent-update";
