//! The agent's numbers for `/metrics`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use triton_agent::metrics::Metrics;

use crate::TaskName;

/// Labels of a task: a fixed set of names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Task {
    task: &'static str,
    result: &'static str,
}

/// Labels of a message to CNAPI.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Message {
    message: &'static str,
    result: &'static str,
}

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    tasks: Family<Task, Counter>,
    messages: Family<Message, Counter>,
    samples_dropped: Counter,
    unreadable: Gauge,
}

fn word(ok: bool) -> &'static str {
    if ok { "ok" } else { "failed" }
}

impl Numbers {
    /// Registers them.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("tasks", "Tasks that ended", self.tasks.clone());
            registry.register("cnapi_messages", "Messages sent to CNAPI", self.messages.clone());
            registry.register("status_samples_dropped", "Status samples that could not be taken", self.samples_dropped.clone());
            registry.register("unreadable_instances", "Instances whose machine file cannot be used", self.unreadable.clone());
        });
    }

    pub(crate) fn task(&self, name: TaskName, ok: bool) {
        self.tasks.get_or_create(&Task { task: name.as_str(), result: word(ok) }).inc();
    }

    pub(crate) fn message(&self, message: &'static str, ok: bool) {
        self.messages.get_or_create(&Message { message, result: word(ok) }).inc();
    }

    pub(crate) fn sample_dropped(&self) {
        self.samples_dropped.inc();
    }

    /// Sets the number of instances whose machine file cannot be used.
    pub fn set_unreadable(&self, count: usize) {
        self.unreadable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}
