//! The last tasks, for `GET /history` (cn-agent.md section 2.8). CNAPI's reboot workflow drains a node by counting active entries.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use serde_json::{Value, json};
use triton_types::Timestamp;

use crate::{Params, TaskName, redact};

/// How many entries are kept. Active ones are never evicted, so that a drain cannot overlook one: there may be more of those.
pub const KEPT: usize = 16;
/// Most messages of one task that are kept.
const MOST_MESSAGES: usize = 64;

/// What became of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It runs, or waits for its turn.
    Active,
    /// It ended by itself, with or without an error: see `errorCount`.
    Finished,
    /// It was given up: timed out, crashed, or the agent was stopped.
    Failed,
}

/// One task as CNAPI sees it. Parameters and values are redacted and bounded.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// When it was accepted.
    pub started_at: Timestamp,
    /// Its name.
    pub task: &'static str,
    /// The agent's process.
    pub pid: u32,
    /// What it was asked.
    pub params: Value,
    /// What became of it.
    pub status: Status,
    /// Number of errors.
    #[serde(rename = "errorCount")]
    pub error_count: u32,
    /// Its events.
    pub messages: Vec<Value>,
    /// Always empty: logs are in the task log directory.
    pub log: [Value; 0],
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    #[serde(skip)]
    id: u64,
}

/// The entries, oldest first.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Entry>,
    next: u64,
}

impl History {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a task was accepted and gives the key of its entry.
    pub fn begin(&self, name: TaskName, params: &Params) -> u64 {
        let params = if name.queue().records_params() { redact(&Value::Object(params.as_map().clone())) } else { json!({}) };
        let mut inner = self.inner();
        let id = inner.next;
        inner.next += 1;
        inner.entries.push_back(Entry {
            started_at: Timestamp::now(),
            task: name.as_str(),
            pid: std::process::id(),
            params,
            status: Status::Active,
            error_count: 0,
            messages: Vec::new(),
            log: [],
            finished_at: None,
            id,
        });
        inner.evict();
        id
    }

    /// Adds an event to the task's messages.
    pub fn event(&self, id: u64, name: &str, event: &Value) {
        let message = json!({"type": "event", "name": name, "event": redact(event), "timestamp": Timestamp::now()});
        if let Some(entry) = self.inner().entry(id)
            && entry.messages.len() < MOST_MESSAGES
        {
            entry.messages.push(message);
        }
    }

    /// Records how the task ended.
    pub fn finish(&self, id: u64, status: Status, failed: bool) {
        let mut inner = self.inner();
        if let Some(entry) = inner.entry(id) {
            entry.status = status;
            entry.error_count += u32::from(failed);
            entry.finished_at = Some(Timestamp::now());
        }
        inner.evict();
    }

    /// A copy of the entries, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.inner().entries.iter().cloned().collect()
    }
}

impl Inner {
    fn entry(&mut self, id: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.id == id)
    }

    /// Drops the oldest ended entries beyond [`KEPT`].
    fn evict(&mut self) {
        while self.entries.len() > KEPT {
            let Some(at) = self.entries.iter().position(|entry| entry.status != Status::Active) else { return };
            self.entries.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(value: Value) -> Params {
        Params::new(value)
    }

    /// cn-agent case 16
    #[test]
    fn sixteen_entries_are_kept_oldest_first_and_active_ones_are_never_evicted() {
        let history = History::default();
        let active = history.begin(TaskName::Sleep, &params(json!({"n": -1})));
        for n in 0..30 {
            let id = history.begin(TaskName::Nop, &params(json!({"n": n})));
            history.finish(id, Status::Finished, false);
        }
        let entries = history.entries();
        assert_eq!(entries.len(), KEPT);
        let numbers: Vec<_> = entries.iter().map(|e| e.params["n"].as_i64().unwrap()).collect();
        assert_eq!(numbers, [-1].into_iter().chain(15..30).collect::<Vec<_>>());
        history.finish(active, Status::Failed, true);
        let first = &history.entries()[0];
        assert_eq!((first.status, first.error_count, first.finished_at.is_some()), (Status::Failed, 1, true));
    }

    #[test]
    fn more_than_sixteen_active_tasks_are_all_shown_until_they_end() {
        let history = History::default();
        let ids: Vec<_> = (0..20).map(|_| history.begin(TaskName::Sleep, &Params::default())).collect();
        assert_eq!(history.entries().len(), 20);
        for id in ids {
            history.finish(id, Status::Finished, false);
        }
        assert_eq!(history.entries().len(), KEPT);
    }

    #[test]
    fn an_entry_has_upstreams_keys_and_no_secret() {
        let history = History::default();
        let id = history.begin(TaskName::MachineCreate, &params(json!({"uuid": "u", "customer_metadata": {"root_pw": "hunter2"}})));
        history.event(id, "progress", &json!({"value": 0}));
        let text = serde_json::to_string(&history.entries()).unwrap();
        assert!(!text.contains("hunter2") && !text.contains("finished_at"), "{text}");
        let keys: Vec<_> = serde_json::from_str::<Value>(&text).unwrap()[0].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["started_at", "task", "pid", "params", "status", "errorCount", "messages", "log"]);
        let build = history.begin(TaskName::DockerBuild, &params(json!({"uuid": "u"})));
        assert_eq!(history.entries().last().unwrap().params, json!({}));
        for _ in 0..1000 {
            history.event(build, "progress", &json!({"value": 1}));
        }
        assert_eq!(history.entries().last().unwrap().messages.len(), MOST_MESSAGES);
    }
}
