//! `metadata-agent`: answers what guests ask about themselves (metadata.md).
//!
//! One process for all instances. Each instance has a socket of its own, in a directory that its guest has mounted: who asks is
//! known by where it asks, never by what it says. Values are read from the instance's files at each request, and a guest's
//! writes go the way of `vmadm update`. A second way is the
//! guest's serial line, which its monitor lends; a third one, where an operator chose it, is HTTP in the guest's network namespace.
//! Guests are hostile: each has its own share of connections, memory, bytes and work. Owns the sockets, and no other state.

mod answer;
mod bucket;
mod budget;
mod config;
mod connection;
mod fleet;
mod http;
mod intake;
mod limits;
mod lines;
mod metrics;
mod real;
mod server;
mod shared;
mod store;
mod terminal;
mod write;

pub use answer::Guest;
pub use budget::Budget;
pub use config::{AgentConfig, Args};
pub use connection::talk;
pub use fleet::Fleet;
pub use limits::Limits;
pub use metrics::Numbers;
pub use real::{StartError, serve};
pub use server::ServeError;
pub use shared::Shared;
pub use store::{RealStore, Store};
pub use terminal::{Terminal, serve_line};

/// The agent's name.
pub const NAME: &str = "metadata-agent";
