//! The agent's numbers for `/metrics` and `status`. No label comes from a guest.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde_json::{Value, json};
use triton_agent::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: &'static str,
    result: &'static str,
}

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    requests: Family<Request, Counter>,
    dropped: Counter,
    refused: Counter,
    cut: Counter,
    sockets: Gauge,
    missing: Gauge,
    connections: Gauge,
    lines: Gauge,
    doors: Gauge,
}

impl Numbers {
    /// Registers them.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("requests", "Requests that were answered", self.requests.clone());
            registry.register("dropped_frames", "Damaged frames, which are not answered", self.dropped.clone());
            registry.register(
                "refused_connections",
                "Connections over the limit, or of others than the guest's root",
                self.refused.clone(),
            );
            registry.register("cut_connections", "Connections ended for what they asked or for not reading", self.cut.clone());
            registry.register("sockets", "Instances with a socket", self.sockets.clone());
            registry.register("instances_without_socket", "Instances whose socket could not be made", self.missing.clone());
            registry.register("connections", "Connections that are open", self.connections.clone());
            registry.register("http_listeners", "Running guests that are served over HTTP, too", self.doors.clone());
            registry.register("serial_lines", "Serial lines of running guests that are served", self.lines.clone());
        });
    }

    /// The same for `status`.
    pub fn status(&self) -> Value {
        json!({
            "sockets": self.sockets.get(), "instances_without_socket": self.missing.get(), "connections": self.connections.get(),
            "serial_lines": self.lines.get(), "http_listeners": self.doors.get(),
            "dropped_frames": self.dropped.get(), "refused_connections": self.refused.get(), "cut_connections": self.cut.get()
        })
    }

    pub(crate) fn answered(&self, verb: &'static str, result: &'static str) {
        self.requests.get_or_create(&Request { verb, result }).inc();
    }

    pub(crate) fn dropped(&self) {
        self.dropped.inc();
    }

    pub(crate) fn refused(&self) {
        self.refused.inc();
    }

    pub(crate) fn cut(&self) {
        self.cut.inc();
    }

    pub(crate) fn set(&self, sockets: usize, missing: usize) {
        self.sockets.set(i64::try_from(sockets).unwrap_or(i64::MAX));
        self.missing.set(i64::try_from(missing).unwrap_or(i64::MAX));
    }

    pub(crate) fn line_open(&self) -> Connected {
        self.lines.inc();
        Connected(self.lines.clone())
    }

    pub(crate) fn door_open(&self) -> Connected {
        self.doors.inc();
        Connected(self.doors.clone())
    }

    pub(crate) fn connected(&self) -> Connected {
        self.connections.inc();
        Connected(self.connections.clone())
    }
}

/// An open connection, as long as it is kept.
#[derive(Debug)]
pub(crate) struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
