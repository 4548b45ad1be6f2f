//! What an instance has to be given, and when a NIC may be taken from it (net-agent.md section 5.1, ruling 6).

use serde_json::{Value, json};
use triton_instance::is_hidden;

use super::*;

/// NICs that are taken from instances, at most, within [`REMOVAL_WINDOW`].
const REMOVALS: usize = 5;
const REMOVAL_WINDOW: Duration = Duration::from_secs(60);
/// When more NICs than this, and more than half of all, are doubted at a time, it is NAPI that is doubted, and no NIC is taken.
const BELIEVABLE: usize = 5;

/// What an instance has to be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// A payload of `vmadm update`; empty if it is to be rebooted only.
    pub payload: JsonMap,
    /// It is to be rebooted afterwards: a NIC was taken from it while it runs.
    pub reboot: bool,
}

/// What is right for an instance now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub change: Option<Change>,
    pub removed: usize,
    /// There is more, at this time.
    pub wait: Option<Instant>,
}

/// How things stand, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// NICs of this node.
    pub nics: usize,
    /// Those of which both sides know the same.
    pub in_step: usize,
    /// Those that NAPI says are not ours.
    pub doubted: usize,
    /// Removals are held: too many are doubted.
    pub held: bool,
    /// Instances.
    pub instances: usize,
    /// Instances that cannot be read.
    pub unreadable: usize,
    /// Networks that are watched.
    pub networks: usize,
    /// NICs of NAPI's that seem to be leftovers and are too many to be.
    pub sweep_held: usize,
}

impl Core {
    /// How things stand.
    pub fn standing(&self, now: Instant) -> Standing {
        let here = || self.nics.values().filter(|nic| nic.owner().is_some());
        Standing {
            nics: here().count(),
            in_step: here().filter(|nic| nic.is_in_step(&self.me, now)).count(),
            doubted: here().filter(|nic| nic.is_doubted()).count(),
            held: self.is_held(),
            instances: self.vms.len(),
            unreadable: self.vms.values().filter(|vm| vm.unreadable).count(),
            networks: self.networks.len(),
            sweep_held: self.sweep.held,
        }
    }

    fn is_held(&self) -> bool {
        let guests = || self.nics.values().filter(|nic| matches!(nic.owner(), Some(Owner::Instance(_))));
        let doubted = guests().filter(|nic| nic.is_doubted()).count();
        doubted > BELIEVABLE && doubted * 2 > guests().count()
    }

    pub(super) fn plan(&self, uuid: InstanceUuid, now: Instant) -> Plan {
        let mut plan = Plan::default();
        let Some(vm) = self.vms.get(&uuid).filter(|vm| !vm.unreadable) else { return plan };
        let Some(view) = vm.view.as_ref().filter(|view| view.settled) else { return plan };
        let nics: Vec<(Mac, &Nic)> = view.nics.iter().filter_map(|(mac, _)| Some((*mac, self.nics.get(mac)?))).collect();
        let ours = |nic: &Nic| nic.owner() == Some(&Owner::Instance(uuid));
        let (disowned, rest): (Vec<_>, Vec<_>) =
            nics.into_iter().filter(|(_, nic)| ours(nic)).partition(|(_, nic)| nic.disowned().is_some());
        let mut payload = JsonMap::new();
        let mut removed: Vec<Value> = Vec::new();
        if !disowned.is_empty() {
            let recent: Vec<&Instant> = self.removals.iter().filter(|at| **at + REMOVAL_WINDOW > now).collect();
            let room = if self.is_held() { 0 } else { REMOVALS.saturating_sub(recent.len()) };
            removed = disowned.iter().take(room).map(|(mac, _)| json!(mac.to_string())).collect();
            if removed.len() < disowned.len() {
                plan.wait = Some(recent.first().map_or(now, |first| **first) + REMOVAL_WINDOW);
            }
        }
        let updates: Vec<Value> = rest
            .iter()
            .map(|(mac, nic)| (mac, nic.wanted_here()))
            .filter(|(_, wanted)| !wanted.is_empty())
            .map(|(mac, mut wanted)| {
                wanted.insert("mac".to_owned(), json!(mac.to_string()));
                Value::Object(wanted)
            })
            .collect();
        plan.removed = removed.len();
        let all_known = rest.len() + disowned.len() == view.nics.len() && removed.len() == disowned.len();
        let told: Option<Vec<JsonMap>> = rest.iter().map(|(_, nic)| nic.told()).collect();
        if let Some(told) = told.filter(|_| all_known) {
            payload = view.lacks(&told);
        }
        for (key, list) in [("update_nics", updates), ("remove_nics", removed)] {
            if !list.is_empty() {
                payload.insert(key.to_owned(), Value::Array(list));
            }
        }
        let owed = view.runs && self.kept.reboots.get(&uuid).is_some_and(|boot| view.boot.as_ref() == Some(boot));
        if let Some(tried) = vm.tried.as_ref().filter(|tried| tried.payload == payload && now < tried.again) {
            payload.clear();
            plan.removed = 0;
            plan.wait = Some(plan.wait.map_or(tried.again, |at| at.min(tried.again)));
        }
        if !payload.is_empty() || owed {
            plan.change = Some(Change { reboot: owed || plan.removed > 0 && view.runs, payload });
        }
        plan
    }

    /// What this instance has to be given now. The caller gives it, and says what came of it.
    pub fn change_of(&mut self, uuid: InstanceUuid, now: Instant) -> Option<Change> {
        let plan = self.plan(uuid, now);
        if let Some(at) = plan.wait {
            self.at(at, Work::Instance(uuid));
        }
        let view = self.vms.get(&uuid)?.view.clone()?;
        let owed = self.kept.reboots.get(&uuid).cloned();
        if owed.is_some_and(|boot| !view.runs || view.boot.as_ref() != Some(&boot)) {
            // It was rebooted, or stopped, by somebody else.
            self.kept.reboots.remove(&uuid);
            self.unsaved = true;
        }
        let change = plan.change?;
        self.removals.retain(|at| *at + REMOVAL_WINDOW > now);
        self.removals.extend(std::iter::repeat_n(now, plan.removed));
        if let Some(boot) = view.boot.filter(|_| change.reboot) {
            self.unsaved |= self.kept.reboots.insert(uuid, boot).is_none();
        }
        Some(change)
    }

    /// The instance was given `change`; `rebooted` if it was.
    pub fn given(&mut self, uuid: InstanceUuid, change: &Change, rebooted: bool, now: Instant) {
        if let Some(vm) = self.vms.get_mut(&uuid)
            && !change.payload.is_empty()
        {
            let before = vm.tried.take().filter(|tried| tried.payload == change.payload);
            let pause = before.map_or(TRY_AGAIN, |tried| (tried.pause * 2).min(TRY_AT_MOST_EVERY));
            vm.tried = Some(Tried { payload: change.payload.clone(), again: now + pause, pause });
        }
        if rebooted {
            self.unsaved |= self.kept.reboots.remove(&uuid).is_some();
        }
        // To see that it is so.
        self.touched.insert(Work::Instance(uuid));
    }

    /// The instance is not to be looked at before its caller's pause is over.
    pub fn untouch(&mut self, uuid: InstanceUuid) {
        self.touched.remove(&Work::Instance(uuid));
    }

    /// True if an instance is another than it was when it was last seen.
    pub fn is_stale(&self, uuid: InstanceUuid, look: &Look) -> bool {
        let Look::Now(loaded) = look else { return self.vms.get(&uuid).is_none_or(|vm| vm.unreadable) };
        match (self.vms.get(&uuid), loaded) {
            (None, Loaded::Absent) => false,
            (None, _) | (Some(_), Loaded::Absent) => true,
            (Some(vm), Loaded::Unreadable(_)) => !vm.unreadable,
            (Some(vm), Loaded::Object(object)) if is_hidden(object) => vm.unreadable || vm.view.is_some(),
            (Some(vm), Loaded::Object(object)) => vm.unreadable || vm.view.as_ref() != Some(&VmView::of(&self.me, uuid, object)),
        }
    }

    /// The instances that are known.
    pub fn instances(&self) -> Vec<InstanceUuid> {
        self.vms.keys().copied().collect()
    }
}
