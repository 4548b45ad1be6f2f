//! Judgement of what agents send, written from the contracts and from nothing else (ruling 65).
//!
//! A refusal is what the real service answers with an error. A problem is what it accepts, and then holds against the server: the
//! allocator leaves the server out, or a consumer misreads it.

mod reply;
mod request;
mod status;
mod sysinfo;

pub(crate) use reply::{history, task_reply};
pub(crate) use request::{agents, from_agent};
pub(crate) use status::status;
pub(crate) use sysinfo::{refuse_sysinfo, sysinfo};

use serde_json::Value;

/// A whole number that is not negative, as the allocator's schema wants it.
pub(crate) fn natural(value: &Value) -> Option<u64> {
    value.as_u64()
}

/// `2024-05-02T10:31:07.420Z`
pub(crate) fn is_time(value: &Value) -> bool {
    let Some(text) = value.as_str() else { return false };
    text.len() == 24 && text.as_bytes()[19] == b'.' && text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()
}
