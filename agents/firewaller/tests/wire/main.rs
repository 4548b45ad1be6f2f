//! What goes over the wire and what is stored then, against a stand-in headnode (firewaller.md section 15.5 and 15.7).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod events;
mod node;
mod outage;
mod requests;
mod syncs;
