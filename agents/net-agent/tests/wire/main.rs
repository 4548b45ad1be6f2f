//! What goes over the wire, against a NAPI as strict as the contract describes it (net-agent.md, conformance cases).

#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]
#![allow(clippy::needless_pass_by_value, reason = "documents are written where they are passed")]

mod config;
mod doubts;
mod feed;
mod lab;
mod nics;
mod releases;
mod server;
