//! The agent's numbers for `/metrics` and `status`.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use serde_json::{Value, json};
use triton_agent::metrics::Metrics;

use crate::core::Standing;

/// Label of something that ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ended {
    result: &'static str,
}

/// Counters and gauges. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Numbers {
    requests: Family<Ended, Counter>,
    changes: Family<Ended, Counter>,
    reboots: Counter,
    ready: Gauge,
    nics: Gauge,
    in_step: Gauge,
    doubted: Gauge,
    held: Gauge,
    instances: Gauge,
    unreadable: Gauge,
    networks: Gauge,
    waiting: Gauge,
    unavailable: Gauge,
    feed: Gauge,
    last_list: Gauge,
    sweep_held: Gauge,
    guard: Gauge,
    guard_repairs: Counter,
    host_repairs: Counter,
    lessons: Counter,
    fabrics: Gauge,
    fabric_addresses: Gauge,
    portolan: Gauge,
}

fn gauge(gauge: &Gauge, count: usize) {
    gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
}

fn ended(ok: bool) -> Ended {
    Ended { result: if ok { "ok" } else { "failed" } }
}

impl Numbers {
    /// Registers them.
    pub fn register(&self, metrics: &Metrics) {
        metrics.register(|registry| {
            registry.register("napi_requests", "Requests of NAPI by how they ended", self.requests.clone());
            registry.register("instance_changes", "Changes of instances that NAPI asked for", self.changes.clone());
            registry.register("reboots", "Guests rebooted because a NIC was taken from them", self.reboots.clone());
            registry.register("ready", "The comparison at start has ended", self.ready.clone());
            registry.register("nics", "NICs of this node", self.nics.clone());
            registry.register("nics_in_step", "NICs of which NAPI and this node know the same", self.in_step.clone());
            registry.register("nics_doubted", "NICs here that NAPI says are not ours", self.doubted.clone());
            registry.register("removals_held", "Too many NICs are doubted: none is taken", self.held.clone());
            registry.register("instances", "Instances that are watched", self.instances.clone());
            registry.register("unreadable_instances", "Instances whose machine file cannot be used", self.unreadable.clone());
            registry.register("networks", "Networks that are watched", self.networks.clone());
            registry.register("waiting", "Things whose request is under way or waits", self.waiting.clone());
            registry.register("napi_unavailable", "NAPI cannot be reached or is not ready", self.unavailable.clone());
            registry.register("feed_connected", "NAPI tells of its changes", self.feed.clone());
            registry.register("last_list_timestamp_seconds", "When NAPI last listed the NICs of this node", self.last_list.clone());
            registry.register("sweep_held", "NICs that seem to be leftovers and are too many to be", self.sweep_held.clone());
            registry.register("guard_in_force", "The guard of guests' NICs is looked after", self.guard.clone());
            registry.register("guard_repairs", "Times that the guard was found spoilt and made anew", self.guard_repairs.clone());
            registry.register("host_firewall_repairs", "Times that the node's own firewall was made anew", self.host_repairs.clone());
            registry.register("addresses_learned", "Addresses that guests were given, or gave back", self.lessons.clone());
            registry.register("fabrics", "Overlay networks that have instances on this node", self.fabrics.clone());
            registry.register("fabric_addresses", "Addresses on other nodes that are known", self.fabric_addresses.clone());
            registry.register("portolan_connected", "Portolan can be asked where addresses are", self.portolan.clone());
        });
    }

    pub(crate) fn guard(&self, in_force: bool) {
        self.guard.set(i64::from(in_force));
    }

    pub(crate) fn repaired(&self) {
        self.guard_repairs.inc();
    }

    pub(crate) fn host_repaired(&self) {
        self.host_repairs.inc();
    }

    pub(crate) fn learned(&self) {
        self.lessons.inc();
    }

    pub(crate) fn fabrics(&self, networks: usize, addresses: usize) {
        gauge(&self.fabrics, networks);
        gauge(&self.fabric_addresses, addresses);
    }

    pub(crate) fn portolan(&self, connected: bool) {
        self.portolan.set(i64::from(connected));
    }

    pub(crate) fn requested(&self, ok: bool) {
        self.requests.get_or_create(&ended(ok)).inc();
    }

    pub(crate) fn changed(&self, ok: bool) {
        self.changes.get_or_create(&ended(ok)).inc();
    }

    pub(crate) fn rebooted(&self) {
        self.reboots.inc();
    }

    pub(crate) fn started(&self) {
        self.ready.set(1);
    }

    pub(crate) fn listed(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.last_list.set(i64::try_from(now).unwrap_or(i64::MAX));
    }

    pub(crate) fn feed(&self, connected: bool) {
        self.feed.set(i64::from(connected));
    }

    pub(crate) fn stand(&self, standing: Standing, waiting: usize, unavailable: bool) {
        gauge(&self.nics, standing.nics);
        gauge(&self.in_step, standing.in_step);
        gauge(&self.doubted, standing.doubted);
        gauge(&self.held, usize::from(standing.held));
        gauge(&self.instances, standing.instances);
        gauge(&self.unreadable, standing.unreadable);
        gauge(&self.networks, standing.networks);
        gauge(&self.sweep_held, standing.sweep_held);
        gauge(&self.waiting, waiting);
        gauge(&self.unavailable, usize::from(unavailable));
    }

    /// As a document, for the `status` verb.
    pub fn status(&self) -> Value {
        json!({
            "ready": self.ready.get() == 1,
            "nics": self.nics.get(),
            "nics_in_step": self.in_step.get(),
            "nics_doubted": self.doubted.get(),
            "removals_held": self.held.get() == 1,
            "instances": self.instances.get(),
            "unreadable": self.unreadable.get(),
            "networks": self.networks.get(),
            "waiting": self.waiting.get(),
            "napi_unavailable": self.unavailable.get() == 1,
            "feed": self.feed.get() == 1,
            "last_list": self.last_list.get(),
            "requests": self.requests.get_or_create(&ended(true)).get(),
            "requests_failed": self.requests.get_or_create(&ended(false)).get(),
            "changes": self.changes.get_or_create(&ended(true)).get(),
            "changes_failed": self.changes.get_or_create(&ended(false)).get(),
            "reboots": self.reboots.get(),
            "guard_in_force": self.guard.get() == 1,
            "guard_repairs": self.guard_repairs.get(),
            "host_firewall_repairs": self.host_repairs.get(),
            "addresses_learned": self.lessons.get(),
            "fabrics": self.fabrics.get(),
            "fabric_addresses": self.fabric_addresses.get(),
            "portolan_connected": self.portolan.get() == 1,
        })
    }
}
