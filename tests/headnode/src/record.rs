//! Every request received and every task sent, in order, bounded in number and size.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::JsonMap;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Api {
    /// Compute nodes.
    Cnapi,
    /// Images.
    Imgapi,
    /// Instances.
    Vmapi,
    /// NICs and networks.
    Napi,
    /// Rules of the firewall.
    Fwapi,
    /// An agent on a compute node, for what is sent to it.
    Agent,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// A request to the stand-in.
    Received,
    /// A request of the stand-in to an agent.
    Sent,
}

/// One exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Grows by one with every entry.
    pub seq: u64,
    /// When it began.
    pub time: String,
    /// Which service.
    pub api: Api,
    /// Who asked.
    pub direction: Direction,
    /// `POST`, …
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Those headers that say something: never credentials.
    pub headers: JsonMap,
    /// The request's body: JSON where it is, else text, cut at 256 KiB.
    pub body: Value,
    /// Status of the reply; absent while there is none, and for ever when the connection broke.
    pub status: Option<u16>,
    /// Body of the reply, as for the request; null for what is no JSON.
    pub response: Value,
    /// The fault that was applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

const HEADERS: [&str; 14] = [
    "accept",
    "accept-version",
    "connection",
    "content-length",
    "content-md5",
    "content-type",
    "host",
    "if-match",
    "if-none-match",
    "range",
    "upgrade",
    "user-agent",
    "x-request-id",
    "x-server-uuid",
];

/// Most entries, and most bytes of one body.
const MOST: usize = 10_000;
const BODY: usize = 256 << 10;

#[derive(Debug, Default)]
pub(crate) struct Record(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    entries: VecDeque<Entry>,
}

/// What is known when an exchange begins.
pub(crate) struct Begun<'a> {
    pub time: String,
    pub api: Api,
    pub direction: Direction,
    pub method: &'a str,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// A body as it is kept: cut when large.
pub(crate) fn bounded(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    if body.len() <= BODY
        && let Ok(value) = serde_json::from_slice(body)
    {
        return value;
    }
    Value::String(String::from_utf8_lossy(&body[..body.len().min(BODY)]).into_owned())
}

impl Record {
    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry and returns its number.
    pub(crate) fn begin(&self, begun: Begun<'_>) -> u64 {
        let mut headers = JsonMap::new();
        for name in HEADERS {
            if let Some(value) = begun.headers.get(name) {
                headers.insert(name.to_owned(), Value::String(String::from_utf8_lossy(value.as_bytes()).into_owned()));
            }
        }
        let body = bounded(begun.body);
        let mut inner = self.inner();
        inner.last += 1;
        let seq = inner.last;
        if inner.entries.len() == MOST {
            inner.entries.pop_front();
        }
        inner.entries.push_back(Entry {
            seq,
            time: begun.time,
            api: begun.api,
            direction: begun.direction,
            method: begun.method.to_owned(),
            path: begun.path.to_owned(),
            headers,
            body,
            status: None,
            response: Value::Null,
            fault: None,
        });
        seq
    }

    fn change(&self, seq: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.inner().entries.iter_mut().rev().find(|entry| entry.seq == seq) {
            change(entry);
        }
    }

    pub(crate) fn end(&self, seq: u64, status: u16, response: &[u8]) {
        let response = bounded(response);
        self.change(seq, |entry| (entry.status, entry.response) = (Some(status), response));
    }

    pub(crate) fn fault(&self, seq: u64, fault: &str) {
        self.change(seq, |entry| entry.fault = Some(fault.to_owned()));
    }

    /// Entries after number `since`, in order.
    pub(crate) fn since(&self, since: u64) -> Vec<Entry> {
        self.inner().entries.iter().filter(|entry| entry.seq > since).cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.inner().entries.clear();
    }
}
