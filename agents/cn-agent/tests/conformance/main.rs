//! The numbered cases of `cn-agent.md` section 10, against a real server on loopback, a CNAPI that records what it is sent, and a
//! stateful fake of instances and images.

// The whole crate is a test; clippy.toml's permission covers only functions that are marked as one.
#![allow(clippy::unwrap_used)]

mod agents;
mod changes;
mod commands;
mod http;
mod images;
mod lifecycle;
mod load;
mod machines;
mod migrate;
mod process;
mod reporting;
mod server;
mod support;
mod update;
