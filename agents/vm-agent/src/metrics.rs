//! The agent's numbers for `/metrics` and `status`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde_json::{Value, json};
use triton_agent::metrics::Metrics;

/// Label of a report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Report {
    result: &'static str,
}

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    reports: Family<Report, Counter>,
    start_failures: Counter,
    ready: Gauge,
    known: Gauge,
    unreadable: Gauge,
    waiting: Gauge,
    unavailable: Gauge,
}

fn gauge(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

impl Numbers {
    /// Registers them.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("reports", "Instances reported one by one", self.reports.clone());
            registry.register("start_failures", "Comparisons at start that failed", self.start_failures.clone());
            registry.register("ready", "The comparison at start has ended", self.ready.clone());
            registry.register("instances", "Instances that VMAPI is told about", self.known.clone());
            registry.register("unreadable_instances", "Instances whose machine file cannot be used", self.unreadable.clone());
            registry.register("waiting_instances", "Instances whose report is under way or waits", self.waiting.clone());
            registry.register("vmapi_unavailable", "VMAPI cannot be reached or is not ready", self.unavailable.clone());
        });
    }

    pub(crate) fn told(&self, ok: bool) {
        self.reports.get_or_create(&Report { result: if ok { "ok" } else { "failed" } }).inc();
    }

    pub(crate) fn start_failed(&self) {
        self.start_failures.inc();
    }

    pub(crate) fn started(&self) {
        self.ready.set(1);
    }

    pub(crate) fn set(&self, known: usize, unreadable: usize, waiting: usize, unavailable: bool) {
        gauge(&self.known, known);
        gauge(&self.unreadable, unreadable);
        gauge(&self.waiting, waiting);
        gauge(&self.unavailable, usize::from(unavailable));
    }

    /// As a document, for the `status` verb.
    pub fn status(&self) -> Value {
        let reports = |result| self.reports.get_or_create(&Report { result }).get();
        json!({
            "ready": self.ready.get() == 1,
            "instances": self.known.get(),
            "unreadable": self.unreadable.get(),
            "waiting": self.waiting.get(),
            "vmapi_unavailable": self.unavailable.get() == 1,
            "reports": reports("ok"),
            "reports_failed": reports("failed"),
            "start_failures": self.start_failures.get(),
        })
    }
}
