//! All of the agent's knowledge, and what follows from each piece of news (net-agent.md sections 4 to 6). Pure: time is given, nothing is
//! sent and nothing is written.
//!
//! Whoever drives it asks after each call which things are to be looked at ([`Core::take_touched`]), gives requests their turn as many at a
//! time as it likes ([`Core::turn`]), and tells what came of them.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use triton_headnode::{FeedChange, FeedEvent};
use triton_instance::{Loaded, Look};
use triton_types::{InstanceUuid, JsonMap, Mac, NetworkUuid};

use crate::{
    local::{Me, Owner, Seen, VmView},
    nic::{Answer, Call, Event, Next, Nic},
    others::{AGGREGATION_EVERY, Aggregation, AggregationAnswer, AggregationCall, NETWORK_EVERY, Network, nic_is_behind},
    server::{Away, ServerView},
    sweep::Sweep,
};

/// Between two looks at all NICs that NAPI has here.
pub const LIST_EVERY: Duration = Duration::from_secs(3600);
/// First pause before a change that cannot be seen is made again; it doubles each time, up to [`TRY_AT_MOST_EVERY`].
const TRY_AGAIN: Duration = Duration::from_secs(60);
/// The longest of those pauses.
const TRY_AT_MOST_EVERY: Duration = Duration::from_secs(3600);
/// NICs that NAPI announced and that nobody here has, at most.
const AWAITED: usize = 4096;

/// Something that NAPI is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// All NICs that it has here.
    List,
    /// A network.
    Network(NetworkUuid),
    /// An aggregation of this machine, by name.
    Aggregation(String),
    /// A NIC.
    Nic(Mac),
}

/// Something that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Ask NAPI.
    Napi(Key),
    /// Read an instance, and change it if need be.
    Instance(InstanceUuid),
    /// Read what the machine has.
    Server,
}

/// A request of NAPI's.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// All NICs that it has here.
    List,
    /// A network.
    Network(NetworkUuid),
    /// An aggregation.
    Aggregation(String, AggregationCall),
    /// A NIC.
    Nic(Mac, Call),
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// All NICs that it has here, as of the time when they were asked for; none if it cannot tell.
    List(Option<Vec<JsonMap>>, Instant),
    /// A network; none if there is none.
    Network(NetworkUuid, Option<JsonMap>),
    /// An aggregation.
    Aggregation(String, AggregationAnswer),
    /// A NIC.
    Nic(Mac, Answer),
}

#[derive(Debug, Default)]
struct Vm {
    /// What it was when it could last be read; none if it is hidden or never could.
    view: Option<VmView>,
    unreadable: bool,
    /// The last change that was made, while the instance has not been seen to be another than before it.
    tried: Option<Tried>,
}

/// A change that was made and cannot be seen: it was not taken, or somebody undid it before the instance was looked at.
#[derive(Debug)]
struct Tried {
    payload: JsonMap,
    /// It is not made again before this.
    again: Instant,
    pause: Duration,
}

/// What is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Instances that were hidden when they were last seen: their NICs are never deleted, here or not (ruling 6).
    pub hidden: BTreeSet<InstanceUuid>,
    /// Instances that lost a NIC and have not been rebooted since this boot of theirs.
    pub reboots: BTreeMap<InstanceUuid, String>,
}

/// The agent's knowledge.
#[derive(Debug)]
pub struct Core {
    me: Me,
    nics: BTreeMap<Mac, Nic>,
    vms: BTreeMap<InstanceUuid, Vm>,
    networks: BTreeMap<NetworkUuid, Network>,
    aggregations: BTreeMap<String, Aggregation>,
    kept: Kept,
    unsaved: bool,
    sweep: Sweep,
    gone: BTreeSet<InstanceUuid>,
    away_nics: Away<Mac>,
    away_aggregations: Away<String>,
    removals: VecDeque<Instant>,
    timers: BTreeSet<(Instant, Work)>,
    touched: BTreeSet<Work>,
    logged: BTreeMap<Mac, JsonMap>,
}

impl Core {
    /// Of nothing but what was kept.
    pub fn new(me: Me, kept: Kept) -> Self {
        Self {
            me,
            nics: BTreeMap::new(),
            vms: BTreeMap::new(),
            networks: BTreeMap::new(),
            aggregations: BTreeMap::new(),
            kept,
            unsaved: false,
            sweep: Sweep::default(),
            gone: BTreeSet::new(),
            away_nics: Away::default(),
            away_aggregations: Away::default(),
            removals: VecDeque::new(),
            timers: BTreeSet::new(),
            touched: BTreeSet::new(),
            logged: BTreeMap::new(),
        }
    }

    /// The instances that this node is known to have destroyed, for the list of NICs that comes next.
    pub fn know_gone(&mut self, gone: BTreeSet<InstanceUuid>) {
        self.gone = gone;
    }

    /// What is to be looked at now, once.
    pub fn take_touched(&mut self, now: Instant) -> BTreeSet<Work> {
        while let Some((_, work)) = self.timers.first().filter(|(at, _)| *at <= now).cloned() {
            self.timers.pop_first();
            self.touched.insert(work);
        }
        std::mem::take(&mut self.touched)
    }

    /// When [`Core::take_touched`] has to be asked again, if nothing else happens.
    pub fn next_timer(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// What has to be kept, if that changed since it was last asked for. To be written before anything else is done.
    pub fn take_unsaved(&mut self) -> Option<Kept> {
        std::mem::take(&mut self.unsaved).then(|| self.kept.clone())
    }

    fn at(&mut self, at: Instant, work: Work) {
        // One timer for each thing: an earlier one is a look too many, which costs nothing.
        self.timers.insert((at, work));
    }

    /// An instance was read just now.
    pub fn see(&mut self, uuid: InstanceUuid, loaded: Loaded, now: Instant) {
        self.know(uuid, Seen::of(&self.me, uuid, loaded), now);
    }

    /// An instance is this now.
    pub fn know(&mut self, uuid: InstanceUuid, seen: Seen, now: Instant) {
        match seen {
            Seen::Unreadable(reason) => {
                let vm = self.vms.entry(uuid).or_default();
                if !std::mem::replace(&mut vm.unreadable, true) {
                    tracing::warn!(vm_uuid = %uuid, reason, "an instance cannot be read: it exists, and its NICs stay as they are");
                }
            }
            Seen::Absent => {
                let Some(vm) = self.vms.remove(&uuid) else { return };
                self.unsaved |= self.kept.reboots.remove(&uuid).is_some();
                let release = !self.kept.hidden.contains(&uuid);
                self.gone(uuid, vm.view.iter().flat_map(|view| &view.nics).map(|(mac, _)| *mac).collect(), release, now);
            }
            Seen::Hidden => {
                self.unsaved |= self.kept.hidden.insert(uuid);
                *self.vms.entry(uuid).or_default() = Vm::default();
                // Those that left it and are on their way out, too.
                let owner = Owner::Instance(uuid);
                let its: Vec<Mac> = self.nics.iter().filter(|(_, nic)| nic.concerns(&owner)).map(|(mac, _)| *mac).collect();
                self.gone(uuid, its, false, now);
            }
            Seen::Is(view) => {
                self.unsaved |= self.kept.hidden.remove(&uuid);
                self.settle(uuid, view, now);
            }
        }
    }

    fn settle(&mut self, uuid: InstanceUuid, view: VmView, now: Instant) {
        let vm = self.vms.entry(uuid).or_default();
        vm.unreadable = false;
        let old = vm.view.take();
        if old.as_ref() != Some(&view) {
            // What was asked for may have to be asked for again.
            vm.tried = None;
        }
        let nics = view.nics.clone();
        let left = old.iter().flat_map(|view| &view.nics).map(|(mac, _)| *mac);
        let left: Vec<Mac> = left.filter(|mac| nics.iter().all(|(other, _)| other != mac)).collect();
        vm.view = Some(view);
        self.gone(uuid, left, true, now);
        for (mac, local) in nics {
            let other = self.nics.get(&mac).and_then(Nic::owner).filter(|owner| **owner != local.owner).cloned();
            if let Some(Owner::Instance(other)) = other
                && self.vms.get(&other).is_some_and(|vm| vm.view.iter().flat_map(|view| &view.nics).any(|(theirs, _)| *theirs == mac))
            {
                tracing::warn!(vm_uuid = %uuid, %other, %mac, "two instances have a NIC with this address: NAPI is told of the first");
                continue;
            }
            self.nic(mac, Event::Local(local), now);
        }
    }

    fn gone(&mut self, uuid: InstanceUuid, macs: Vec<Mac>, release: bool, now: Instant) {
        for mac in macs {
            if self.nics.contains_key(&mac) {
                self.nic(mac, Event::Gone { owner: Owner::Instance(uuid), release }, now);
            }
        }
    }

    /// Tells a NIC what happened; makes it if it is not known.
    fn nic(&mut self, mac: Mac, event: Event, now: Instant) {
        let nic = self.nics.entry(mac).or_insert_with(|| Nic::awaited(mac, now));
        let next = nic.observe(event, &self.me, now);
        drop(self.follow(mac, next, now));
    }

    fn follow(&mut self, mac: Mac, next: Next, now: Instant) -> Option<Call> {
        match next {
            Next::Call(call) => return Some(call),
            Next::Look => drop(self.touched.insert(Work::Napi(Key::Nic(mac)))),
            Next::At(at) => self.at(at, Work::Napi(Key::Nic(mac))),
            Next::Rest => {}
            Next::Over => {
                self.nics.remove(&mac);
                self.logged.remove(&mac);
            }
        }
        // What NAPI says of it may concern its instance.
        if let Some(Owner::Instance(uuid)) = self.nics.get(&mac).and_then(Nic::owner).cloned() {
            let plan = self.plan(uuid, now);
            if plan.change.is_some() {
                self.touched.insert(Work::Instance(uuid));
            }
            if let Some(at) = plan.wait {
                self.at(at, Work::Instance(uuid));
            }
        }
        None
    }

    /// The request that is right for this now, if any.
    pub fn turn(&mut self, key: Key, now: Instant) -> Option<Request> {
        match key {
            Key::List => Some(Request::List),
            Key::Nic(mac) => {
                let next = self.nics.get_mut(&mac)?.observe(Event::Turn, &self.me, now);
                self.follow(mac, next, now).map(|call| Request::Nic(mac, call))
            }
            Key::Network(uuid) => {
                if !self.nics.values().any(|nic| nic.network() == Some(uuid)) {
                    self.networks.remove(&uuid);
                }
                self.networks.contains_key(&uuid).then_some(Request::Network(uuid))
            }
            Key::Aggregation(name) => {
                let aggregation = self.aggregations.get_mut(&name)?;
                let call = aggregation.turn(self.me.server);
                if call.is_none() && aggregation.is_over() {
                    self.aggregations.remove(&name);
                }
                call.map(|call| Request::Aggregation(name, call))
            }
        }
    }

    /// What came of a request. True if the same thing has to be looked at again after a pause.
    pub fn reply(&mut self, reply: Reply, now: Instant) -> bool {
        match reply {
            Reply::Nic(mac, answer) => {
                // Another version is asked for after a pause, too: whoever changed the NIC may not be done.
                let failed = matches!(answer, Answer::Failed | Answer::OtherVersion);
                if !self.nics.contains_key(&mac) {
                    return false;
                }
                self.nic(mac, Event::Answer(answer), now);
                self.watch_network(mac);
                self.log_server(mac);
                if failed {
                    // The pause is its caller's; a turn now would have none.
                    self.touched.remove(&Work::Napi(Key::Nic(mac)));
                }
                failed && self.nics.contains_key(&mac)
            }
            Reply::Network(uuid, object) => {
                self.network(uuid, object, now);
                false
            }
            Reply::Aggregation(name, answer) => {
                let failed = answer == AggregationAnswer::Failed;
                if let Some(aggregation) = self.aggregations.get_mut(&name) {
                    aggregation.answer(answer);
                    let work = Work::Napi(Key::Aggregation(name));
                    if !failed {
                        self.touched.insert(work.clone());
                        self.timers.retain(|(_, other)| *other != work);
                        self.at(now + AGGREGATION_EVERY, work);
                    }
                }
                failed
            }
            Reply::List(list, asked) => {
                self.listed(list, asked, now);
                false
            }
        }
    }

    fn watch_network(&mut self, mac: Mac) {
        if let Some(uuid) = self.nics.get(&mac).and_then(Nic::network)
            && !self.networks.contains_key(&uuid)
        {
            self.networks.insert(uuid, Network::default());
            self.touched.insert(Work::Napi(Key::Network(uuid)));
        }
    }

    fn network(&mut self, uuid: NetworkUuid, object: Option<JsonMap>, now: Instant) {
        let Some(object) = object else {
            self.networks.remove(&uuid);
            return;
        };
        let work = Work::Napi(Key::Network(uuid));
        self.timers.retain(|(_, other)| *other != work);
        self.at(now + NETWORK_EVERY, work);
        let Some(changed) = self.networks.entry(uuid).or_default().seen(object).cloned() else { return };
        let behind = |nic: &Nic| nic.network() == Some(uuid) && nic.told().is_some_and(|nic| nic_is_behind(&nic, &changed));
        let behind: Vec<Mac> = self.nics.iter().filter(|(_, nic)| behind(nic)).map(|(mac, _)| *mac).collect();
        for mac in behind {
            self.nic(mac, Event::Refresh, now);
        }
    }

    fn listed(&mut self, list: Option<Vec<JsonMap>>, asked: Instant, now: Instant) {
        self.timers.retain(|(_, work)| *work != Work::Napi(Key::List));
        let mut next = now + LIST_EVERY;
        let known = list.is_some();
        let list = list.unwrap_or_default();
        let mut by_mac: BTreeMap<Mac, &JsonMap> =
            list.iter().filter_map(|nic| Some((nic.get("mac")?.as_str()?.parse().ok()?, nic))).collect();
        let macs: Vec<Mac> = self.nics.keys().copied().collect();
        for mac in macs {
            self.nic(mac, Event::Listed { object: by_mac.remove(&mac).cloned(), asked }, now);
            self.watch_network(mac);
        }
        if known {
            let has = |mac: Mac, vm: InstanceUuid| {
                let ours = self.vms.get(&vm).is_some_and(|vm| match &vm.view {
                    Some(view) => vm.unreadable || !view.settled || view.nics.iter().any(|(other, _)| *other == mac),
                    None => true,
                });
                ours || self.kept.hidden.contains(&vm) || self.nics.get(&mac).is_some_and(|nic| !nic.is_awaited())
            };
            let gone = std::mem::take(&mut self.gone);
            let swept = self.sweep.look(&list, has, |vm| gone.contains(&vm), self.me.pace.sweep_after, now);
            for (mac, vm) in swept.leftovers {
                tracing::info!(%mac, vm_uuid = %vm, "NAPI has a NIC here that nobody has: it is released");
                self.nics.insert(mac, Nic::leftover(mac, Owner::Instance(vm), now));
                self.touched.insert(Work::Napi(Key::Nic(mac)));
            }
            next = swept.again.map_or(next, |again| again.min(next));
            self.forget_hidden(&list);
        }
        self.at(next, Work::Napi(Key::List));
    }

    /// Instances that were hidden, are gone, and have no NIC here any more at NAPI either need not be remembered.
    fn forget_hidden(&mut self, list: &[JsonMap]) {
        let here: BTreeSet<&str> = list.iter().filter_map(|nic| nic.get("belongs_to_uuid")?.as_str()).collect();
        let before = self.kept.hidden.len();
        self.kept.hidden.retain(|uuid| self.vms.contains_key(uuid) || here.contains(uuid.to_string().as_str()));
        self.unsaved |= self.kept.hidden.len() != before;
    }
}

mod news;
mod plan;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use plan::{Change, Standing};
