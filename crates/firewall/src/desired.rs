//! What the table should be, and which of it differs from what it was.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use triton_fwrule::Direction;
use triton_types::InstanceUuid;

use crate::{line::Line, names, part::Part, peersets::Addresses, spans::Spans, store::Unknown};

/// What the table should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Links of instances whose firewall is enabled, and the instances.
    pub(crate) links: BTreeMap<String, InstanceUuid>,
    /// Links whose guests get addresses by DHCP, by router advertisements.
    pub(crate) dhcp: BTreeSet<String>,
    pub(crate) addrconf: BTreeSet<String>,
    /// The chain of each instance and direction.
    pub(crate) chains: BTreeMap<(InstanceUuid, Direction), Chain>,
    /// Sets that never change: their name, bytes of a key, spans.
    pub(crate) fixed: BTreeMap<String, (usize, Spans)>,
    /// Sets of addresses that change with the instances.
    pub(crate) peers: Addresses,
    /// Bridges and VLANs of ports, each of which is tracked by itself.
    pub(crate) networks: BTreeSet<(String, u16)>,
    /// What exists and is not known: nothing that may be of it is removed.
    pub(crate) unknown: Unknown,
}

/// A chain of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    parts: Vec<Arc<Part>>,
}

impl Chain {
    /// The chain of these parts, in their order.
    pub(crate) fn new(vm: InstanceUuid, direction: Direction, parts: Vec<Arc<Part>>) -> Self {
        let content: String = parts.iter().map(|part| part.digest.as_str()).collect();
        Self { name: names::chain(direction, vm, &content), parts }
    }

    /// Its lines, in their order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.parts.iter().flat_map(|part| &part.lines)
    }
}

impl Desired {
    /// Instances whose firewall is enabled.
    pub fn instances(&self) -> BTreeSet<InstanceUuid> {
        self.chains.keys().map(|(vm, _)| *vm).collect()
    }

    /// With these chains for their instances, whatever should be in them.
    pub(crate) fn keeping(&self, chains: &BTreeSet<String>) -> Self {
        let mut kept = self.clone();
        for ((vm, direction), chain) in &mut kept.chains {
            let own = |name: &&String| names::vm_of(name) == Some(*vm) && names::is_of(name, *direction);
            if let Some(name) = chains.iter().find(own) {
                chain.name.clone_from(name);
            }
        }
        kept
    }

    /// True when nobody's firewall is enabled: no table is needed.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }
}

/// What may differ from what was in force when the compiler was last told so: the rest is as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Which state it is that this is the difference to: no two states of a process have the same number.
    pub(crate) since: u64,
    pub(crate) chains: BTreeSet<(InstanceUuid, Direction)>,
    /// Sets of either kind.
    pub(crate) sets: BTreeSet<String>,
    /// Links, and networks.
    pub(crate) links: bool,
}

impl Touched {
    /// Nothing, since a new state.
    pub(crate) fn nothing() -> Self {
        static STATES: AtomicU64 = AtomicU64::new(1);
        Self { since: STATES.fetch_add(1, Ordering::Relaxed), chains: BTreeSet::new(), sets: BTreeSet::new(), links: false }
    }
}
