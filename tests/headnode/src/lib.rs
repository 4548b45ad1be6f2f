//! A stand-in for the headnode: CNAPI, IMGAPI, NAPI, FWAPI and as much of VMAPI as provisioning and agents' reports need (design section 7).
//!
//! Tests start it in their own process ([`Standin::start`]); `xtask up` runs the binary `headnode`. It judges what agents send by
//! checks of its own, written from the contracts and sharing no wire type with the agents (ruling 65): what the real services refuse
//! it refuses, what they accept but then hold against the compute node is listed as a [`Violation`]. It records every request, and
//! fails, stalls, drops or lies when told to ([`FaultRule`]).
//!
//! State is a SQLite database, in memory unless a file is named. The record, violations and heartbeats live in memory, as CNAPI's
//! heartbeats do.

mod agent;
mod call;
mod clock;
mod cnapi;
mod control;
mod error;
mod faults;
pub mod firewaller;
mod fwapi;
mod imgapi;
mod judge;
mod napi;
pub mod netns;
mod observe;
pub mod portolan;
mod record;
mod serve;
mod shared;
mod standin;
mod store;
mod violations;
mod vmapi;

pub use clock::Clock;
pub use faults::{FaultAction, FaultError, FaultRule};
pub use record::{Api, Direction, Entry};
pub use shared::{Features, Limits};
pub use standin::{Listeners, Standin, StandinConfig, StandinError};
pub use violations::Violation;

/// A JSON object, keys in the order in which they were read or set.
pub(crate) type JsonMap = serde_json::Map<String, serde_json::Value>;
