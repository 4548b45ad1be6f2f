//! Verbs about the firewall of one VM.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use serde_json::{Value, json};
use triton_instance::Instances;
use triton_types::{InstanceUuid, RuleUuid};

use super::{Failure, Session, args::One, print_json, show::unknown_vm, uuid};

pub(super) fn set_firewall(session: &Session<'_>, one: &One, enabled: bool) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(one.uuid.as_deref())?;
    let failed = |error: &dyn std::error::Error| Failure::failed(triton_instance::chain(error).to_string());
    let instances = Instances::open(&session.layout).map_err(|error| failed(&error))?;
    if !instances.exists(wanted) {
        return Err(unknown_vm(wanted));
    }
    if !session.args.dryrun {
        let payload = [("firewall_enabled".to_owned(), json!(enabled))].into_iter().collect();
        let outcome = instances.update(wanted, payload).map_err(|error| failed(&error))?;
        // Stored, but not in force: whoever asked must know.
        if !outcome.warnings.is_empty() {
            return Err(Failure::Failed(outcome.warnings));
        }
    }
    if session.args.json {
        return print_json(&json!({"result": "success"}));
    }
    Ok(writeln!(io::stdout(), "Firewall {} for VM {wanted}", if enabled { "started" } else { "stopped" })?)
}

pub(super) fn status(session: &mut Session<'_>, one: &One) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(one.uuid.as_deref())?;
    let locals = session.locals()?;
    let vm = locals.iter().find(|vm| vm.facts.uuid == wanted).ok_or_else(|| unknown_vm(wanted))?;
    let filtered = session.firewall.filter().instances()?.contains(&wanted);
    let running = filtered && vm.facts.firewall_enabled && vm.facts.is_running();
    let rules = triton_firewall::rules_of_vm(session.firewall.load()?, vm);
    let details = json!({
        "running": running,
        "firewall_enabled": vm.facts.firewall_enabled,
        "vm_state": vm.facts.state,
        "in_force": filtered,
        "rules": rules.iter().filter(|rule| rule.enabled).count(),
    });
    if session.args.json {
        return print_json(&details);
    }
    let mut out = io::stdout().lock();
    if session.args.verbose {
        for (key, value) in details.as_object().into_iter().flatten() {
            writeln!(out, "{key}: {}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))?;
        }
        return Ok(());
    }
    Ok(writeln!(out, "{}", if running { "running" } else { "stopped" })?)
}

pub(super) fn stats(session: &mut Session<'_>, one: &One) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(one.uuid.as_deref())?;
    let off = || Failure::failed(format!("Firewall is not running for VM \"{wanted}\""));
    let hits = session.firewall.filter().hits(wanted)?.ok_or_else(off)?;
    let contents = session.firewall.load()?;
    // A rule has a line for each kind of address it lists, and may be about both directions.
    let mut counted: BTreeMap<RuleUuid, u64> = BTreeMap::new();
    for hit in &hits {
        if let Some(uuid) = hit.rule.as_deref().and_then(|rule| rule.parse().ok()) {
            *counted.entry(uuid).or_default() += hit.counter.packets;
        }
    }
    let lines = counted.iter().filter_map(|(uuid, hits)| Some((hits, contents.rules.get(uuid)?.spec.to_string())));
    if session.args.json {
        let all: Vec<Value> = lines.map(|(hits, rule)| json!({"hits": hits.to_string(), "rule": rule})).collect();
        return print_json(&all);
    }
    let mut out = io::stdout().lock();
    for (hits, rule) in lines {
        writeln!(out, "{hits:<10} {rule}")?;
    }
    Ok(())
}
