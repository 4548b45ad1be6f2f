//! The agent's numbers for `/metrics` and `status`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use serde_json::{Value, json};
use triton_agent::metrics::Metrics;

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    tasks: Counter,
    failed_tasks: Counter,
    syncs: Counter,
    failed_syncs: Counter,
    lost_events: Counter,
    bad_rules: Counter,
    subscriptions: Counter,
    subscribed: Gauge,
    doubtful: Gauge,
    repairs: Counter,
    in_force: Gauge,
    damaged: Gauge,
    beats: Arc<AtomicU64>,
}

impl Numbers {
    /// Registers them.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("tasks", "Events and requests worked on", self.tasks.clone());
            registry.register("failed_tasks", "Events and requests that failed", self.failed_tasks.clone());
            registry.register("syncs", "Complete comparisons with FWAPI", self.syncs.clone());
            registry.register("failed_syncs", "Comparisons with FWAPI that were not complete", self.failed_syncs.clone());
            registry.register("lost_events", "Events that came while too many waited; a comparison follows", self.lost_events.clone());
            registry.register("bad_rules", "Rules of FWAPI that could not be used", self.bad_rules.clone());
            registry.register("subscriptions", "Subscriptions to FWAPI's events", self.subscriptions.clone());
            registry.register("subscribed", "FWAPI's events are being received", self.subscribed.clone());
            registry.register("doubtful_rules", "Rules that FWAPI seems to have lost, kept until it says so again", self.doubtful.clone());
            registry.register("table_repairs", "Times that the table was not what is stored and was made so", self.repairs.clone());
            registry.register("in_force", "What is stored is in force", self.in_force.clone());
            registry.register("damaged_files", "Files of rules and remote instances that cannot be used", self.damaged.clone());
        });
    }

    /// Grows while the agent's worker turns; for the watchdog.
    pub fn beats(&self) -> Arc<AtomicU64> {
        self.beats.clone()
    }

    pub(crate) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn repaired(&self) {
        self.repairs.inc();
    }

    pub(crate) fn in_force(&self, yes: bool) {
        self.in_force.set(i64::from(yes));
    }

    pub(crate) fn damaged(&self, files: usize) {
        self.damaged.set(i64::try_from(files).unwrap_or(i64::MAX));
    }

    pub(crate) fn task(&self, good: bool) {
        self.tasks.inc();
        if !good {
            self.failed_tasks.inc();
        }
    }

    pub(crate) fn sync(&self, good: bool) {
        if good {
            self.syncs.inc()
        } else {
            self.failed_syncs.inc()
        };
    }

    pub(crate) fn lost(&self) {
        self.lost_events.inc();
    }

    pub(crate) fn bad_rule(&self) {
        self.bad_rules.inc();
    }

    pub(crate) fn subscribed(&self, yes: bool) {
        if yes {
            self.subscriptions.inc();
        }
        self.subscribed.set(i64::from(yes));
    }

    pub(crate) fn doubtful(&self, rules: usize) {
        self.doubtful.set(i64::try_from(rules).unwrap_or(i64::MAX));
    }

    /// As a document, for the `status` verb.
    pub fn status(&self) -> Value {
        json!({
            "ready": self.in_force.get() == 1 && self.syncs.get() > 0,
            "in_force": self.in_force.get() == 1,
            "table_repairs": self.repairs.get(),
            "damaged_files": self.damaged.get(),
            "subscribed": self.subscribed.get() == 1,
            "subscriptions": self.subscriptions.get(),
            "tasks": self.tasks.get(),
            "tasks_failed": self.failed_tasks.get(),
            "syncs": self.syncs.get(),
            "syncs_failed": self.failed_syncs.get(),
            "events_lost": self.lost_events.get(),
            "bad_rules": self.bad_rules.get(),
            "doubtful_rules": self.doubtful.get(),
        })
    }
}
