//! Questions about rules: whom they are about, what they need, whether a payload makes sense (sections 8.4, 10, 15.3). Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use triton_fwrule::{Direction, Options, RemoteVm, Rule, Target};
use triton_types::{InstanceUuid, JsonMap};

use crate::{FirewallError, LocalVm, change, store::Contents};

/// What must be known of instances elsewhere, so that rules can be compiled here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteTargets {
    /// All of the owner's.
    pub all_vms: bool,
    /// Those with these tags; no values: with any.
    pub tags: BTreeMap<String, Option<BTreeSet<String>>>,
    /// Those by uuid.
    pub vms: BTreeSet<InstanceUuid>,
}

impl RemoteTargets {
    /// True when nothing must be known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what another rule needs.
    pub fn extend(&mut self, other: Self) {
        self.all_vms |= other.all_vms;
        self.vms.extend(other.vms);
        for (key, values) in other.tags {
            self.tag(key, values);
        }
    }

    fn tag(&mut self, key: String, values: Option<BTreeSet<String>>) {
        let known = self.tags.entry(key).or_insert_with(|| Some(BTreeSet::new()));
        match (known.as_mut(), values) {
            (Some(known), Some(values)) => known.extend(values),
            _ => *known = None,
        }
    }

    /// The object in upstream's form: one value is a text, several are a list, any value is `true`.
    pub fn to_json(&self) -> Value {
        let mut object = JsonMap::new();
        if self.all_vms {
            object.insert("allVMs".to_owned(), json!(true));
        }
        if !self.tags.is_empty() {
            let tag = |values: &Option<BTreeSet<String>>| match values.as_ref().map(|values| values.iter().collect::<Vec<_>>()) {
                None => json!(true),
                Some(values) if values.len() == 1 => json!(values[0]),
                Some(values) => json!(values),
            };
            object.insert("tags".to_owned(), self.tags.iter().map(|(key, values)| (key.clone(), tag(values))).collect::<JsonMap>().into());
        }
        if !self.vms.is_empty() {
            object.insert("vms".to_owned(), json!(self.vms));
        }
        Value::Object(object)
    }
}

/// What must be known of instances elsewhere for these rules (section 8.4): of each side that names an instance of this node, the
/// targets of the other.
pub fn remote_targets<'a>(rules: impl IntoIterator<Item = &'a Rule>, locals: &[LocalVm]) -> RemoteTargets {
    let mut all = RemoteTargets::default();
    for rule in rules {
        for direction in [Direction::In, Direction::Out] {
            let concerns = |vm: &LocalVm| rule.concerns(direction, vm.facts.uuid, vm.facts.owner, &vm.facts.tags);
            if !locals.iter().any(concerns) {
                continue;
            }
            for target in rule.peers(direction).targets() {
                match target {
                    Target::AllVms => all.all_vms = true,
                    Target::Tag { key, value } => all.tag(key.clone(), value.clone().map(|value| [value].into())),
                    Target::Vm(uuid) if locals.iter().all(|vm| vm.facts.uuid != *uuid) => drop(all.vms.insert(*uuid)),
                    Target::Vm(_) | Target::Any | Target::Ip(_) | Target::Subnet(_) => {}
                }
            }
        }
    }
    all
}

/// Instances of this node that a rule names on either side, enabled or not; those without a firewall only when asked for.
pub fn vms_of_rule(rule: &Rule, locals: &[LocalVm], unfiltered: bool) -> BTreeSet<InstanceUuid> {
    locals.iter().filter(|vm| (unfiltered || vm.facts.firewall_enabled) && change::names(rule, vm)).map(|vm| vm.facts.uuid).collect()
}

/// Rules that name an instance of this node on either side, disabled ones too, in the order of uuids.
pub fn rules_of_vm<'a>(contents: &'a Contents, vm: &LocalVm) -> Vec<&'a Rule> {
    contents.rules.values().filter(|rule| change::names(rule, vm)).collect()
}

/// Rules that name a remote instance on either side, disabled ones too, in the order of uuids. Its addresses do not matter.
pub fn rules_of_remote_vm<'a>(contents: &'a Contents, vm: &RemoteVm) -> Vec<&'a Rule> {
    let names = |rule: &&Rule| [Direction::In, Direction::Out].into_iter().any(|side| rule.admits(side, vm.uuid, vm.owner, &vm.tags));
    contents.rules.values().filter(names).collect()
}

/// Checks rules that come with an instance (section 10.1): each names something that is known.
///
/// # Errors
/// [`FirewallError::Refused`] with everything that is wrong.
pub fn validate(rules: &[JsonMap], remote_vms: &[JsonMap], contents: &Contents, locals: &[LocalVm]) -> Result<(), FirewallError> {
    let mut errors = Vec::new();
    let mut known: BTreeSet<InstanceUuid> = locals.iter().map(|vm| vm.facts.uuid).collect();
    known.extend(contents.remote_vms.keys());
    for object in remote_vms {
        match RemoteVm::with_ips(object) {
            Ok(vm) => drop(known.insert(vm.uuid)),
            Err(error) => errors.push(error.to_string()),
        }
    }
    for object in rules {
        match Rule::parse(object, &Options { enforce_global: true, ..Options::default() }) {
            Err(reasons) => errors.extend(reasons.0.iter().map(ToString::to_string)),
            Ok(rule) => errors.extend(unknown(&rule, &known)),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(FirewallError::Refused(errors)) }
}

/// What a rule names that nobody knows.
fn unknown(rule: &Rule, known: &BTreeSet<InstanceUuid>) -> Vec<String> {
    let targets = || rule.spec.from.targets().iter().chain(rule.spec.to.targets());
    let by_uuid = || targets().filter_map(|target| if let Target::Vm(uuid) = target { Some(uuid) } else { None });
    let others = targets().any(|target| matches!(target, Target::AllVms | Target::Tag { .. }));
    if !others && by_uuid().all(|uuid| !known.contains(uuid)) {
        return vec![format!("No VMs found that match rule: {}", rule.spec)];
    }
    by_uuid().filter(|uuid| !known.contains(uuid)).map(|uuid| format!("Missing vm {uuid} for rule: {}", rule.spec)).collect()
}
