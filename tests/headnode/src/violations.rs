//! What the real services accept, and then hold against the compute node.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;

/// One thing that an agent did and should not have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// When, `2024-05-02T10:31:07.420Z`.
    pub time: String,
    /// The compute node, if it is known.
    pub server_uuid: Option<String>,
    /// In what: `sysinfo`, `status`, `agents`, `heartbeat`, `request`, `task-reply`, `history`.
    pub about: &'static str,
    /// The field, path or task.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// One problem of a document, before it is known whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub field: String,
    pub message: String,
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Most violations that are kept; the oldest go first.
const MOST: usize = 2_000;

#[derive(Debug, Default)]
pub(crate) struct Violations(Mutex<VecDeque<Violation>>);

impl Violations {
    pub(crate) fn add(&self, time: &str, server: Option<&str>, about: &'static str, problems: impl IntoIterator<Item = Problem>) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Problem { field, message } in problems {
            tracing::warn!(about, field, message, server, "violation");
            if list.len() == MOST {
                list.pop_front();
            }
            list.push_back(Violation { time: time.to_owned(), server_uuid: server.map(str::to_owned), about, field, message });
        }
    }

    pub(crate) fn list(&self) -> Vec<Violation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
