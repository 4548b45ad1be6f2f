//! What every daemon and operator's tool shares: arguments, configuration, logs, exit codes, namespaces, the HTTP
//! server, restify's reply shapes, signals, readiness, descriptors kept over a restart, backoff, metrics and status.
//!
//! Rules come from design sections 9 and 10 and rulings 45, 46. Knows nothing of instances.

mod args;
mod backoff;
mod config;
mod errors;
mod exit;
pub mod http;
pub mod kept;
pub mod logs;
mod memory;
pub mod metrics;
mod namespaces;
pub mod program;
mod queue;
mod reactor;
pub mod ready;
pub mod restify;
pub mod runtime;
mod signals;
pub mod unix;

pub use args::CommonArgs;
pub use backoff::Backoff;
pub use config::{ConfigError, Environment, ProcessEnvironment, load_json, load_json_optional};
pub use errors::{Chain, chain};
pub use exit::AgentExit;
pub use memory::keep_little;
pub use namespaces::{Entered, NamespaceError, enter_namespaces};
pub use queue::{Outcome, Queue};
pub use reactor::watch_descriptor;
pub use runtime::Threads;
pub use signals::{Shutdown, shutdown_signal};
