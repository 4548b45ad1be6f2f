//! What a change of rules and remote instances does, in upstream's words (section 10 and 15.3). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use triton_fwrule::{Direction, Options, RemoteVm, Rule};
use triton_types::{InstanceUuid, JsonMap, RuleUuid};

use crate::{
    FirewallError, LocalVm, affected,
    store::{Contents, Writes},
};

/// Who makes a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// `created_by` of rules that are added without one, and of all that are updated.
    pub created_by: Option<String>,
    /// An update of a rule that is not known adds it.
    pub allow_adds: bool,
}

/// What is to be changed; objects are as callers gave them.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Rules and remote instances are added, or replaced.
    Add {
        /// Rules.
        rules: Vec<JsonMap>,
        /// Remote instances.
        remote_vms: Vec<JsonMap>,
        /// Instances of this node that are new or changed.
        local_vms: Vec<InstanceUuid>,
        /// Who does it.
        origin: Origin,
    },
    /// Fields of rules are changed; remote instances are replaced.
    Update {
        /// Their uuids and new fields.
        rules: Vec<JsonMap>,
        /// Remote instances.
        remote_vms: Vec<JsonMap>,
        /// Instances of this node that changed.
        local_vms: Vec<InstanceUuid>,
        /// Who does it.
        origin: Origin,
    },
    /// Rules and remote instances are as these are, and others go, together: what an agent knows of another service. Remote instances
    /// that are this node's own by now, and those without an address, are passed over.
    Replace {
        /// Rules, whole.
        rules: Vec<Rule>,
        /// Remote instances, whole.
        remote_vms: Vec<RemoteVm>,
        /// Rules that go; unknown ones are gone.
        no_rules: Vec<RuleUuid>,
        /// Remote instances that go, the same.
        no_remote_vms: Vec<InstanceUuid>,
    },
    /// Rules and remote instances go; unknown ones are gone.
    Delete {
        /// Rules.
        rules: Vec<RuleUuid>,
        /// Remote instances.
        remote_vms: Vec<InstanceUuid>,
    },
}

/// What a change did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Instances of this node, with their firewall enabled, whose filtering it concerns.
    pub vms: BTreeSet<InstanceUuid>,
    /// Rules that were added, changed or deleted, as they are now or were last.
    pub rules: Vec<Rule>,
    /// Remote instances, the same.
    pub remote_vms: Vec<RemoteVm>,
}

impl Changed {
    /// The object that `fwadm -j` prints.
    pub fn to_json(&self) -> Value {
        json!({
            "vms": self.vms,
            "rules": self.rules.iter().map(Rule::to_json).collect::<Vec<_>>(),
            "remoteVMs": self.remote_vms.iter().map(RemoteVm::to_json).collect::<Vec<_>>(),
        })
    }
}

/// A change that is found to be possible.
#[derive(Debug, Default)]
pub(crate) struct Planned {
    pub(crate) writes: Writes,
    pub(crate) changed: Changed,
}

/// Checks a change against what is stored, and says what it comes to.
///
/// # Errors
/// [`FirewallError::Refused`] with everything that is wrong.
pub(crate) fn plan(change: &Change, stored: &Contents, locals: &[LocalVm]) -> Result<Planned, FirewallError> {
    match change {
        Change::Delete { rules, remote_vms } => {
            if rules.is_empty() && remote_vms.is_empty() {
                return Err(FirewallError::Refused(vec!["Payload must contain one of: rvmUUIDs, uuids".to_owned()]));
            }
            Ok(settle(Next { no_rules: rules.clone(), no_remote_vms: remote_vms.clone(), ..Next::default() }, &[], stored, locals))
        }
        Change::Replace { rules, remote_vms, no_rules, no_remote_vms } => {
            let here: BTreeSet<InstanceUuid> = locals.iter().map(|vm| vm.facts.uuid).collect();
            let usable = |vm: &&RemoteVm| !here.contains(&vm.uuid) && !vm.ips.is_empty();
            let next = Next {
                rules: rules.iter().map(|rule| (rule.uuid, with_version(rule.clone()))).collect(),
                remotes: remote_vms.iter().filter(usable).map(|vm| (vm.uuid, vm.clone())).collect(),
                no_rules: no_rules.clone(),
                no_remote_vms: no_remote_vms.clone(),
            };
            Ok(settle(next, &[], stored, locals))
        }
        Change::Add { rules, remote_vms, local_vms, origin } => {
            put(rules, remote_vms, local_vms, stored, locals, |object| added(object, origin))
        }
        Change::Update { rules, remote_vms, local_vms, origin } => {
            put(rules, remote_vms, local_vms, stored, locals, |object| updated(object, origin, stored))
        }
    }
}

fn put(
    rules: &[JsonMap],
    remote_vms: &[JsonMap],
    local_vms: &[InstanceUuid],
    stored: &Contents,
    locals: &[LocalVm],
    prepare: impl Fn(&JsonMap) -> Result<JsonMap, Vec<String>>,
) -> Result<Planned, FirewallError> {
    if rules.is_empty() && remote_vms.is_empty() && local_vms.is_empty() {
        return Err(FirewallError::Refused(vec!["Payload must contain one of: rules, localVMs, remoteVMs".to_owned()]));
    }
    let mut errors = Vec::new();
    let options = Options { enforce_global: true, ..Options::default() };
    // Of several objects with one uuid the last one counts.
    let mut wanted: BTreeMap<RuleUuid, Rule> = BTreeMap::new();
    for object in rules {
        let parsed = prepare(object).and_then(|object| {
            Rule::parse(&object, &options).map_err(|errors| errors.0.iter().map(ToString::to_string).collect::<Vec<_>>())
        });
        match parsed {
            Ok(rule) => drop(wanted.insert(rule.uuid, rule)),
            Err(reasons) => errors.extend(reasons),
        }
    }
    let known: BTreeSet<InstanceUuid> = locals.iter().map(|vm| vm.facts.uuid).collect();
    let mut remotes: BTreeMap<InstanceUuid, RemoteVm> = BTreeMap::new();
    for object in remote_vms {
        match RemoteVm::with_ips(object) {
            Ok(vm) if known.contains(&vm.uuid) => {
                errors.push(format!("Remote VM \"{}\" must not have the same UUID as a local VM", vm.uuid));
            }
            Ok(vm) => drop(remotes.insert(vm.uuid, vm)),
            Err(error) => errors.push(error.to_string()),
        }
    }
    errors.extend(local_vms.iter().filter(|uuid| !known.contains(uuid)).map(|uuid| format!("Could not find VM \"{uuid}\" in VM list")));
    if !errors.is_empty() {
        return Err(FirewallError::Refused(errors));
    }
    Ok(settle(Next { rules: wanted, remotes, ..Next::default() }, local_vms, stored, locals))
}

/// What is to be, by uuid.
#[derive(Default)]
struct Next {
    rules: BTreeMap<RuleUuid, Rule>,
    remotes: BTreeMap<InstanceUuid, RemoteVm>,
    no_rules: Vec<RuleUuid>,
    no_remote_vms: Vec<InstanceUuid>,
}

/// What it comes to: only what differs is written, and whom it concerns is what old or new say.
fn settle(next: Next, local_vms: &[InstanceUuid], stored: &Contents, locals: &[LocalVm]) -> Planned {
    let mut planned = Planned::default();
    // A file that cannot be used is written anew, whatever is remembered of it.
    let rules = next.rules.values().filter(|rule| stored.rules.get(&rule.uuid) != Some(*rule) || stored.is_bad(rule.uuid));
    let remotes = next.remotes.values().filter(|vm| stored.remote_vms.get(&vm.uuid) != Some(*vm) || stored.is_bad(vm.uuid));
    planned.writes.rules = rules.cloned().collect();
    planned.writes.remote_vms = remotes.cloned().collect();
    let rules_going: BTreeMap<RuleUuid, &Rule> = next.no_rules.iter().filter_map(|uuid| Some((*uuid, stored.rules.get(uuid)?))).collect();
    let remotes_going: BTreeMap<InstanceUuid, &RemoteVm> =
        next.no_remote_vms.iter().filter_map(|uuid| Some((*uuid, stored.remote_vms.get(uuid)?))).collect();

    let changing = planned.writes.rules.iter();
    let before = planned.writes.rules.iter().filter_map(|rule| stored.rules.get(&rule.uuid));
    planned.changed.vms = affected::named_by(changing.chain(before).chain(rules_going.values().copied()), locals);
    // What lost a tag or an address no longer is what rules admit: their instances are concerned, too (section 8.5).
    let before = planned.writes.remote_vms.iter().filter_map(|vm| stored.remote_vms.get(&vm.uuid));
    let after = planned.writes.remote_vms.iter();
    let changed_here: Vec<_> = locals.iter().map(|local| &local.facts).filter(|facts| local_vms.contains(&facts.uuid)).collect();
    planned.changed.vms.extend(changed_here.iter().filter(|facts| facts.firewall_enabled).map(|facts| facts.uuid));
    let rules = || stored.rules.values().filter(|rule| !next.rules.contains_key(&rule.uuid)).chain(next.rules.values());
    planned.changed.vms.extend(affected::admitting(after, &changed_here, rules(), locals));
    planned.changed.vms.extend(affected::admitting(before.chain(remotes_going.values().copied()), &[], rules(), locals));

    planned.changed.rules = planned.writes.rules.iter().chain(rules_going.into_values()).cloned().collect();
    planned.changed.remote_vms = planned.writes.remote_vms.iter().chain(remotes_going.into_values()).cloned().collect();
    // Also those whose files cannot be read.
    planned.writes.no_rules = next.no_rules;
    planned.writes.no_remote_vms = next.no_remote_vms;
    planned
}

/// A rule that is added, with who made it and a version.
fn added(object: &JsonMap, origin: &Origin) -> Result<JsonMap, Vec<String>> {
    let mut object = object.clone();
    if let Some(created_by) = &origin.created_by
        && !object.contains_key("created_by")
    {
        object.insert("created_by".to_owned(), json!(created_by));
    }
    Ok(versioned(object))
}

/// A stored rule with the fields that change.
fn updated(object: &JsonMap, origin: &Origin, stored: &Contents) -> Result<JsonMap, Vec<String>> {
    let Some(uuid) = object.get("uuid").filter(|uuid| !uuid.is_null()) else {
        return Err(vec![format!("Missing UUID of rule: {}", Value::Object(object.clone()))]);
    };
    let shown = uuid.as_str().map_or_else(|| uuid.to_string(), str::to_owned);
    let rule = shown.parse().ok().and_then(|uuid: RuleUuid| stored.rules.get(&uuid));
    let mut merged = match rule {
        Some(rule) => match rule.to_json() {
            Value::Object(old) => old,
            _ => JsonMap::new(),
        },
        None if origin.allow_adds => JsonMap::new(),
        None => return Err(vec![format!("Unknown rule: {shown}")]),
    };
    merged.remove("version");
    // Whoever gives one of the two takes the other away.
    if object.get("global").is_some_and(|global| *global == json!(true)) {
        merged.remove("owner_uuid");
    }
    if object.contains_key("owner_uuid") {
        merged.remove("global");
    }
    merged.extend(object.clone());
    if let Some(created_by) = &origin.created_by {
        merged.insert("created_by".to_owned(), json!(created_by));
    }
    Ok(versioned(merged))
}

fn versioned(mut object: JsonMap) -> JsonMap {
    if !object.contains_key("version") {
        object.insert("version".to_owned(), json!(new_version()));
    }
    object
}

fn with_version(mut rule: Rule) -> Rule {
    rule.version.get_or_insert_with(new_version);
    rule
}

fn new_version() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Rule::new_version(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), std::process::id())
}

/// Whether a rule names an instance on either side.
pub(crate) fn names(rule: &Rule, vm: &LocalVm) -> bool {
    let facts = &vm.facts;
    [Direction::In, Direction::Out].into_iter().any(|direction| rule.concerns(direction, facts.uuid, facts.owner, &facts.tags))
}

#[cfg(test)]
mod tests;
