//! What this node needs to know, from its instances and rules. Pure (firewaller.md sections 7 and 8.4).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use triton_fwrule::{Direction, RemoteVm, Rule, Target, VmFacts};
use triton_headnode::{Peers, Question};
use triton_types::{InstanceUuid, OwnerUuid, ServerUuid};

/// The question to FWAPI about instances of one owner.
pub(crate) fn question<'a>(owner: OwnerUuid, vms: impl Iterator<Item = &'a VmFacts>) -> Question {
    let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut uuids = Vec::new();
    for vm in vms {
        uuids.push(vm.uuid);
        for (key, value) in &vm.tags {
            tags.entry(key.clone()).or_default().insert(value.clone());
        }
    }
    Question { owner_uuid: owner, vms: uuids, tags: tags.into_iter().map(|(key, values)| (key, values.into_iter().collect())).collect() }
}

/// The owners of filtered instances of this node with one question each. An instance without an owner has none.
pub(crate) fn questions(locals: &[VmFacts]) -> Vec<Question> {
    let filtered = || locals.iter().filter(|vm| vm.firewall_enabled);
    let owners: BTreeSet<OwnerUuid> = filtered().filter_map(|vm| vm.owner).collect();
    owners.into_iter().map(|owner| question(owner, filtered().filter(|vm| vm.owner == Some(owner)))).collect()
}

/// Whether a rule names a filtered instance of this node, on either side.
pub(crate) fn concerns_any(rule: &Rule, locals: &[VmFacts]) -> bool {
    let named = |vm: &VmFacts, direction| rule.concerns(direction, vm.uuid, vm.owner, &vm.tags);
    locals.iter().any(|vm| vm.firewall_enabled && (named(vm, Direction::In) || named(vm, Direction::Out)))
}

/// Whether a rule of an owner names an instance of another node, on either side (section 8.2).
pub(crate) fn names_remote(rule: &Rule, vm: &RemoteVm) -> bool {
    let named = |direction| rule.admits(direction, vm.uuid, vm.owner, &vm.tags);
    !rule.is_global() && (named(Direction::In) || named(Direction::Out))
}

/// Whom a rule speaks of beyond this node, where it filters an instance here. A global rule asks for nobody (section 5.6).
pub(crate) fn peers_of(rule: &Rule, locals: &[VmFacts]) -> Peers {
    let mut peers = Peers::default();
    if rule.is_global() {
        return peers;
    }
    for direction in [Direction::In, Direction::Out] {
        let filters = |vm: &VmFacts| vm.firewall_enabled && rule.concerns(direction, vm.uuid, vm.owner, &vm.tags);
        if !rule.has_effect(direction) || !locals.iter().any(filters) {
            continue;
        }
        for target in rule.peers(direction).targets() {
            match target {
                Target::AllVms => peers.all_vms = true,
                Target::Vm(uuid) if !locals.iter().any(|vm| vm.uuid == *uuid) => peers.vms.push(*uuid),
                Target::Tag { key, value: None } => drop(peers.tags.insert(key.clone(), json!(true))),
                Target::Tag { key, value: Some(value) } => match peers.tags.get_mut(key) {
                    Some(Value::Array(values)) => values.push(json!(value)),
                    Some(_) => {}
                    None => drop(peers.tags.insert(key.clone(), json!([value]))),
                },
                Target::Vm(_) | Target::Any | Target::Ip(_) | Target::Subnet(_) => {}
            }
        }
    }
    peers
}

/// The values of a tag that are wanted; none for every value.
fn values(wanted: &Value) -> Option<Vec<&str>> {
    match wanted {
        Value::Array(list) => Some(list.iter().filter_map(Value::as_str).collect()),
        Value::String(one) => Some(vec![one]),
        _ => None,
    }
}

/// VMAPI's predicate for these peers of an owner; none when nobody is wanted (section 7.3).
pub(crate) fn predicate(owner: OwnerUuid, server: ServerUuid, peers: &Peers) -> Option<Value> {
    let mut terms = vec![json!({"eq": ["owner_uuid", owner]}), json!({"ne": ["server_uuid", server]})];
    terms.extend(["destroyed", "failed", "provisioning"].map(|state| json!({"ne": ["state", state]})));
    if !peers.all_vms {
        let mut filters = Vec::new();
        for (key, wanted) in &peers.tags {
            let field = format!("tag.{key}");
            match values(wanted) {
                Some(values) => {
                    let distinct: BTreeSet<_> = values.into_iter().collect();
                    filters.extend(distinct.into_iter().map(|value| json!({"eq": [field, value]})));
                }
                None => filters.push(json!({"eq": [field, "*"]})),
            }
        }
        let distinct: BTreeSet<_> = peers.vms.iter().collect();
        filters.extend(distinct.into_iter().map(|uuid| json!({"eq": ["uuid", uuid]})));
        match filters.len() {
            0 => return None,
            1 => terms.append(&mut filters),
            _ => terms.push(json!({"or": filters})),
        }
    }
    Some(json!({"and": terms}))
}

/// The remote instances of VMAPI's answer that are wanted: its search of tags is a loose one. Entries that are no use (no address,
/// no uuid) are left out, and so are instances of this node.
pub(crate) fn remotes<'a>(
    answer: impl Iterator<Item = &'a Map<String, Value>>,
    server: ServerUuid,
    locals: &[VmFacts],
    peers: &Peers,
) -> Vec<RemoteVm> {
    answer
        .filter(|object| object.get("server_uuid").and_then(Value::as_str) != Some(server.to_string().as_str()))
        .filter_map(RemoteVm::from_vmapi)
        .filter(|vm| !locals.iter().any(|local| local.uuid == vm.uuid))
        .filter(|vm| {
            let tagged = |(key, wanted): (&String, &Value)| {
                vm.tags.get(key).is_some_and(|has| values(wanted).is_none_or(|values| values.contains(&has.as_str())))
            };
            peers.all_vms || peers.vms.contains(&vm.uuid) || peers.tags.iter().any(tagged)
        })
        .collect()
}

/// A remote instance as it is after an event: what VMAPI or the store has, and what the event says is different (section 8.2).
pub(crate) fn updated(mut vm: RemoteVm, event: &Map<String, Value>) -> RemoteVm {
    let list = |key: &str| event.get(key).and_then(Value::as_array).into_iter().flatten();
    for ip in list("remove_ips").filter_map(|ip| ip.as_str()?.parse().ok()) {
        vm.ips.remove(&ip);
    }
    let added = json!({"uuid": vm.uuid, "nics": event.get("add_nics"), "tags": event.get("set_tags")});
    if let Some(object) = added.as_object() {
        vm.ips.extend(RemoteVm::from_vmapi(object).into_iter().flat_map(|added| added.ips));
        for (key, value) in object["tags"].as_object().into_iter().flatten() {
            vm.tags.insert(key.clone(), triton_fwrule::tag_text(value));
        }
    }
    for tag in list("remove_tags").filter_map(Value::as_str) {
        vm.tags.remove(tag);
    }
    vm
}

/// Those of `all` that are not in `kept`.
pub(crate) fn without<K: Copy + Ord>(all: impl Iterator<Item = K>, kept: &BTreeSet<K>) -> Vec<K> {
    all.filter(|key| !kept.contains(key)).collect()
}

/// The uuid that an event is about.
pub(crate) fn instance(event: &Map<String, Value>) -> Option<InstanceUuid> {
    event.get("uuid")?.as_str()?.parse().ok()
}
