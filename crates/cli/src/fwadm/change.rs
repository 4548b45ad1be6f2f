//! Verbs that change rules and remote VMs.

use std::{
    fs,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use triton_firewall::{Change, Changed, Origin};
use triton_fwrule::Rule;
use triton_types::{InstanceUuid, JsonMap, RuleUuid};

use super::{
    Failure, Session,
    args::{Add, Fields, File, Update, Uuids},
    print_json, uuids,
};

/// Largest payload.
const LARGEST: u64 = 64 << 20;

/// What a file or standard input has.
#[derive(Debug, Default, PartialEq)]
struct Payload {
    rules: Vec<JsonMap>,
    remote_vms: Vec<JsonMap>,
    local_vms: Vec<InstanceUuid>,
}

pub(super) fn add(session: &mut Session<'_>, add: &Add) -> Result<(), Failure> {
    let payload = if add.words.is_empty() {
        payload(read(add.file.as_deref())?)?
    } else if add.file.is_some() {
        return Err(Failure::Usage("cannot specify both a rule and a file".to_owned()));
    } else {
        let mut rule = fields(&add.fields);
        rule.entry("enabled").or_insert(json!(false));
        rule.insert("rule".to_owned(), json!(add.words.join(" ")));
        Payload { rules: vec![rule], ..Payload::default() }
    };
    let Payload { rules, remote_vms, local_vms } = payload;
    let change = Change::Add { rules, remote_vms, local_vms, origin: Origin::default() };
    make(session, &change, "Added")
}

pub(super) fn update(session: &mut Session<'_>, update: &Update) -> Result<(), Failure> {
    let mut given = fields(&update.fields);
    if update.disable {
        given.insert("enabled".to_owned(), json!(false));
    }
    let (uuid, text) = match update.words.split_first() {
        // The rest is the rule's text; without a uuid all of it is, and the missing uuid is what is wrong.
        Some((first, rest)) if first.parse::<RuleUuid>().is_ok() || looks_like_uuid(first) => {
            (Some(super::uuid::<RuleUuid>(Some(first))?), rest)
        }
        _ => (None, update.words.as_slice()),
    };
    if !text.is_empty() {
        given.insert("rule".to_owned(), json!(text.join(" ")));
    }
    let mut payload = if update.file.is_some() || (given.is_empty() && text.is_empty()) {
        payload(read(update.file.as_deref())?)?
    } else {
        Payload { rules: vec![JsonMap::new()], ..Payload::default() }
    };
    for rule in &mut payload.rules {
        rule.extend(given.clone());
        if let Some(uuid) = uuid {
            rule.insert("uuid".to_owned(), json!(uuid));
        }
    }
    let Payload { rules, remote_vms, local_vms } = payload;
    let change = Change::Update { rules, remote_vms, local_vms, origin: Origin::default() };
    make(session, &change, "Updated")
}

/// A first word that is meant as one, though it is none.
fn looks_like_uuid(word: &str) -> bool {
    word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4
}

pub(super) fn add_remote_vms(session: &mut Session<'_>, file: &File) -> Result<(), Failure> {
    let object = read(file.file.as_deref())?;
    let remote_vms = if object.contains_key("remoteVMs") { objects(&object, "remoteVMs")? } else { vec![object] };
    let change = Change::Add { rules: Vec::new(), remote_vms, local_vms: Vec::new(), origin: Origin::default() };
    make(session, &change, "Added")
}

pub(super) fn delete(session: &mut Session<'_>, these: &Uuids) -> Result<(), Failure> {
    let change = Change::Delete { rules: uuids(&these.uuids)?, remote_vms: Vec::new() };
    make(session, &change, "Deleted")
}

pub(super) fn delete_remote_vms(session: &mut Session<'_>, these: &Uuids) -> Result<(), Failure> {
    let change = Change::Delete { rules: Vec::new(), remote_vms: uuids(&these.uuids)? };
    make(session, &change, "Deleted")
}

pub(super) fn set_enabled(session: &mut Session<'_>, these: &Uuids, enabled: bool) -> Result<(), Failure> {
    let uuids: Vec<RuleUuid> = uuids(&these.uuids)?;
    let object = |uuid| [("uuid".to_owned(), json!(uuid)), ("enabled".to_owned(), json!(enabled))].into_iter().collect();
    let rules = uuids.into_iter().map(object).collect();
    let change = Change::Update { rules, remote_vms: Vec::new(), local_vms: Vec::new(), origin: Origin::default() };
    make(session, &change, if enabled { "Enabled" } else { "Disabled" })
}

fn make(session: &mut Session<'_>, change: &Change, did: &str) -> Result<(), Failure> {
    let changed = if session.args.dryrun {
        let locals = session.locals()?;
        session.firewall.preview(change, &locals)?
    } else {
        session.firewall.change(change, || triton_instance::firewall::local_vms(&session.layout))?
    };
    if session.args.json {
        return print_json(&changed.to_json());
    }
    Ok(io::stdout().write_all(report(&changed, did, session.args.verbose).as_bytes())?)
}

/// What a change did, for people.
fn report(changed: &Changed, did: &str, verbose: bool) -> String {
    let mut lines = Vec::new();
    if !changed.rules.is_empty() {
        lines.push(format!("{did} rules:"));
        lines.extend(changed.rules.iter().map(line));
    }
    if !changed.remote_vms.is_empty() {
        lines.push(format!("{did} remote VMs:"));
        lines.extend(changed.remote_vms.iter().map(|vm| vm.uuid.to_string()));
    }
    if verbose {
        lines.extend([String::new(), "VMs affected:".to_owned()]);
        lines.extend(changed.vms.iter().map(ToString::to_string));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn line(rule: &Rule) -> String {
    format!("{} {} {}", rule.uuid, if rule.enabled { "true   " } else { "false " }, rule.spec)
}

fn fields(fields: &Fields) -> JsonMap {
    let mut object = JsonMap::new();
    if fields.enable {
        object.insert("enabled".to_owned(), json!(true));
    }
    if fields.global {
        object.insert("global".to_owned(), json!(true));
    }
    for (name, value) in [("owner_uuid", &fields.owner_uuid), ("description", &fields.desc)] {
        if let Some(value) = value {
            object.insert(name.to_owned(), json!(value));
        }
    }
    object
}

/// The object in a file, or on standard input.
fn read(file: Option<&Path>) -> Result<JsonMap, Failure> {
    let named = file.filter(|path| *path != Path::new("-"));
    let mut bytes = Vec::new();
    match named {
        Some(path) => {
            let why = |error: io::Error| Failure::failed(format!("Error reading file {}: {error}", path.display()));
            fs::File::open(path).map_err(why)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(why)?;
        }
        None if file.is_none() && io::stdin().is_terminal() => {
            return Err(Failure::Usage("Must supply a rule, -f FILE, or JSON on standard input".to_owned()));
        }
        None => drop(io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes)?),
    }
    let from = named.map_or_else(|| PathBuf::from("standard input"), Path::to_path_buf);
    if bytes.len() as u64 > LARGEST {
        return Err(Failure::failed(format!("{} is larger than {LARGEST} bytes", from.display())));
    }
    match serde_json::from_slice(&bytes) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::failed(format!("Error parsing {}: not an object", from.display()))),
        Err(error) => Err(Failure::failed(format!("Error parsing {}: {error}", from.display()))),
    }
}

/// Rules and VMs of an object, which may also be one rule.
fn payload(object: JsonMap) -> Result<Payload, Failure> {
    let is_rule = ["rule", "enabled", "description", "owner_uuid", "version"].iter().any(|key| object.contains_key(*key));
    if is_rule {
        return Ok(Payload { rules: vec![object], ..Payload::default() });
    }
    let mut local_vms = Vec::new();
    for value in list(&object, "localVMs")? {
        let uuid = value.as_object().and_then(|vm| vm.get("uuid")).unwrap_or(value).as_str();
        local_vms.push(super::uuid(uuid)?);
    }
    Ok(Payload { rules: objects(&object, "rules")?, remote_vms: objects(&object, "remoteVMs")?, local_vms })
}

fn list<'a>(object: &'a JsonMap, key: &str) -> Result<&'a [Value], Failure> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(Failure::failed(format!("{key} must be an array"))),
    }
}

fn objects(object: &JsonMap, key: &str) -> Result<Vec<JsonMap>, Failure> {
    let of = |value: &Value| value.as_object().cloned().ok_or_else(|| Failure::failed(format!("{key} must be an array of objects")));
    list(object, key)?.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use triton_fwrule::Options;

    use super::*;

    fn rule(enabled: bool) -> Rule {
        let object =
            json!({"uuid": "10000000-0000-4000-8000-000000000001", "enabled": enabled, "rule": "FROM any TO all vms ALLOW tcp PORT 22"});
        Rule::from_json(&object, &Options::default()).unwrap()
    }

    /// firewaller cases C4, C6
    #[test]
    fn a_change_is_reported_by_lines_of_rules_remote_vms_and_affected_vms() {
        let vm: InstanceUuid = "20000000-0000-4000-8000-000000000001".parse().unwrap();
        let changed = Changed { vms: [vm].into(), rules: vec![rule(true), rule(false)], remote_vms: Vec::new() };
        assert_eq!(
            report(&changed, "Added", true),
            "Added rules:\n10000000-0000-4000-8000-000000000001 true    FROM any TO all vms ALLOW tcp PORT 22\n\
             10000000-0000-4000-8000-000000000001 false  FROM any TO all vms ALLOW tcp PORT 22\n\n\
             VMs affected:\n20000000-0000-4000-8000-000000000001\n"
        );
        assert_eq!(report(&Changed::default(), "Deleted", false), "");
    }

    #[test]
    fn a_payload_is_one_rule_or_lists_and_what_is_neither_is_named() {
        let object = |value: Value| value.as_object().unwrap().clone();
        assert_eq!(payload(object(json!({"enabled": true}))).unwrap().rules.len(), 1);
        let both = payload(object(
            json!({"rules": [{"rule": "x"}], "remoteVMs": [{}], "localVMs": [{"uuid": "20000000-0000-4000-8000-000000000001"}]}),
        ));
        let both = both.unwrap();
        assert_eq!((both.rules.len(), both.remote_vms.len(), both.local_vms.len()), (1, 1, 1));
        assert_eq!(payload(object(json!({}))).unwrap(), Payload::default());
        for (wrong, text) in [
            (json!({"rules": {}}), "rules must be an array"),
            (json!({"remoteVMs": [1]}), "remoteVMs must be an array of objects"),
            (json!({"localVMs": ["x"]}), "Error: invalid UUID \"x\""),
        ] {
            assert_eq!(payload(object(wrong)), Err(Failure::failed(text)));
        }
    }
}
