//! Verbs that only look.

use std::io::{self, Write};

use triton_firewall::{rules_of_remote_vm as remote_vms_rules, rules_of_vm as vms_rules, vms_of_rule as rules_vms};
use triton_fwrule::{RemoteVm, Rule};
use triton_types::{InstanceUuid, RuleUuid};

use super::{
    Failure, Session,
    args::{List, Of, One},
    print_json, table, uuid,
};

pub(super) fn get(session: &mut Session<'_>, one: &One) -> Result<(), Failure> {
    let wanted: RuleUuid = uuid(one.uuid.as_deref())?;
    let rule = session.firewall.load()?.rules.get(&wanted);
    print_json(&rule.ok_or_else(|| unknown_rule(wanted))?.to_json())
}

pub(super) fn get_remote_vm(session: &mut Session<'_>, one: &One) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(one.uuid.as_deref())?;
    let vm = session.firewall.load()?.remote_vms.get(&wanted);
    print_json(&vm.ok_or_else(|| unknown_remote_vm(wanted))?.to_json())
}

pub(super) fn list(session: &mut Session<'_>, list: &List) -> Result<(), Failure> {
    let json = session.args.json;
    let contents = session.firewall.load()?;
    let rules: Vec<&Rule> = contents.rules.values().collect();
    table::print(&rules, list, json)?;
    for (path, reason) in &contents.bad {
        let _ = writeln!(io::stderr(), "Warning: {} cannot be used: {reason}", path.display());
    }
    Ok(())
}

pub(super) fn list_remote_vms(session: &mut Session<'_>) -> Result<(), Failure> {
    print_json(&session.firewall.load()?.remote_vms.values().map(RemoteVm::to_json).collect::<Vec<_>>())
}

pub(super) fn rules_of_vm(session: &mut Session<'_>, of: &Of) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(of.uuid.as_deref())?;
    let locals = session.locals()?;
    let vm = locals.iter().find(|vm| vm.facts.uuid == wanted).ok_or_else(|| unknown_vm(wanted))?;
    let json = session.args.json;
    table::print(&vms_rules(session.firewall.load()?, vm), &of.list, json)
}

pub(super) fn rules_of_remote_vm(session: &mut Session<'_>, of: &Of) -> Result<(), Failure> {
    let wanted: InstanceUuid = uuid(of.uuid.as_deref())?;
    let json = session.args.json;
    let contents = session.firewall.load()?;
    let vm = contents.remote_vms.get(&wanted).ok_or_else(|| unknown_remote_vm(wanted))?;
    table::print(&remote_vms_rules(contents, vm), &of.list, json)
}

pub(super) fn vms_of_rule(session: &mut Session<'_>, one: &One) -> Result<(), Failure> {
    let wanted: RuleUuid = uuid(one.uuid.as_deref())?;
    let locals = session.locals()?;
    let json = session.args.json;
    let rule = session.firewall.load()?.rules.get(&wanted).ok_or_else(|| unknown_rule(wanted))?;
    let vms = rules_vms(rule, &locals, false);
    if json {
        return print_json(&vms);
    }
    let mut out = io::stdout().lock();
    for vm in vms {
        writeln!(out, "{vm}")?;
    }
    Ok(())
}

fn unknown_rule(uuid: RuleUuid) -> Failure {
    Failure::failed(format!("Unknown rule \"{uuid}\""))
}

fn unknown_remote_vm(uuid: InstanceUuid) -> Failure {
    Failure::failed(format!("Unknown remote VM \"{uuid}\""))
}

pub(super) fn unknown_vm(uuid: InstanceUuid) -> Failure {
    Failure::failed(format!("VM \"{uuid}\" not found"))
}
