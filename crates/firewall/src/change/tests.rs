//! The fixture of section 15.2, and the cases of 15.3 that need no kernel.
#![allow(clippy::needless_pass_by_value, reason = "literals are written where they are used")]

use serde_json::{Value, json};
use triton_fwrule::{RemoteVm, Rule, VmFacts};
use triton_types::{InstanceUuid, JsonMap, RuleUuid};

use super::*;
use crate::{remote_targets, rules_of_remote_vm, validate, vms_of_rule};

const O1: &str = "00000000-0000-4000-8000-000000000001";
const O2: &str = "00000000-0000-4000-8000-000000000002";
const R: &str = "10000000-0000-4000-8000-000000000001";

fn id(letter: u8) -> String {
    format!("a0000000-0000-4000-8000-0000000000{letter:02x}")
}

fn uuid(letter: u8) -> InstanceUuid {
    id(letter).parse().unwrap()
}

fn object(value: Value) -> JsonMap {
    value.as_object().unwrap().clone()
}

fn local(letter: u8, owner: &str, ip: &str, tags: Value, enabled: bool, state: &str) -> LocalVm {
    let vm =
        json!({"uuid": id(letter), "owner_uuid": owner, "nics": [{"ip": ip}], "tags": tags, "firewall_enabled": enabled, "state": state});
    LocalVm { facts: VmFacts::from_object(&object(vm)).unwrap(), ports: Vec::new() }
}

fn locals() -> Vec<LocalVm> {
    vec![
        local(0xa, O1, "10.0.0.1", json!({"role": "www"}), true, "running"),
        local(0xb, O1, "10.0.0.2", json!({"role": "db"}), true, "running"),
        local(0xc, O2, "10.0.0.3", json!({"role": "www"}), true, "running"),
        local(0xd, O1, "10.0.0.4", json!({"role": "db"}), false, "running"),
        local(0xe, O1, "10.0.0.5", json!({}), true, "stopped"),
    ]
}

fn add(rule: Value) -> Change {
    Change::Add { rules: vec![object(rule)], remote_vms: Vec::new(), local_vms: Vec::new(), origin: Origin::default() }
}

fn update(rule: Value, origin: Origin) -> Change {
    Change::Update { rules: vec![object(rule)], remote_vms: Vec::new(), local_vms: Vec::new(), origin }
}

fn with_remote(vm: Value) -> Change {
    Change::Add { rules: Vec::new(), remote_vms: vec![object(vm)], local_vms: Vec::new(), origin: Origin::default() }
}

/// What is stored after the change, as the files would have it.
fn apply(stored: &mut Contents, change: &Change) -> Changed {
    let planned = plan(change, stored, &locals()).unwrap();
    stored.rules.extend(planned.writes.rules.iter().map(|rule| (rule.uuid, rule.clone())));
    stored.remote_vms.extend(planned.writes.remote_vms.iter().map(|vm| (vm.uuid, vm.clone())));
    planned.writes.no_rules.iter().for_each(|uuid| drop(stored.rules.remove(uuid)));
    planned.writes.no_remote_vms.iter().for_each(|uuid| drop(stored.remote_vms.remove(uuid)));
    planned.changed
}

fn refused(stored: &Contents, change: &Change) -> Vec<String> {
    match plan(change, stored, &locals()) {
        Err(FirewallError::Refused(reasons)) => reasons,
        other => panic!("{other:?}"),
    }
}

fn vms(letters: &[u8]) -> BTreeSet<InstanceUuid> {
    letters.iter().map(|letter| uuid(*letter)).collect()
}

fn stored_rule(stored: &Contents) -> &Rule {
    &stored.rules[&R.parse::<RuleUuid>().unwrap()]
}

fn all_vms() -> Value {
    json!({"uuid": R, "owner_uuid": O1, "enabled": true, "rule": "FROM any TO all vms ALLOW tcp PORT 22"})
}

/// firewaller case L1
#[test]
fn a_change_of_nothing_is_refused() {
    let nothing = Change::Add { rules: vec![], remote_vms: vec![], local_vms: vec![], origin: Origin::default() };
    assert_eq!(refused(&Contents::default(), &nothing), ["Payload must contain one of: rules, localVMs, remoteVMs"]);
    let nothing = Change::Delete { rules: vec![], remote_vms: vec![] };
    assert_eq!(refused(&Contents::default(), &nothing), ["Payload must contain one of: rvmUUIDs, uuids"]);
}

/// firewaller case L2
#[test]
fn a_rule_concerns_instances_with_a_firewall_running_or_not_of_its_owner() {
    assert_eq!(apply(&mut Contents::default(), &add(all_vms())).vms, vms(&[0xa, 0xb, 0xe]));
}

/// firewaller case L3
#[test]
fn who_made_a_rule_is_kept_until_somebody_says_otherwise() {
    let fwapi = Origin { created_by: Some("fwapi".to_owned()), ..Origin::default() };
    let mut stored = Contents::default();
    let by =
        |object: Value| Change::Add { rules: vec![self::object(object)], remote_vms: vec![], local_vms: vec![], origin: fwapi.clone() };
    apply(&mut stored, &by(all_vms()));
    assert!(stored_rule(&stored).is_from_fwapi());
    let mut own = all_vms();
    own["created_by"] = json!("somebody");
    apply(&mut stored, &by(own));
    assert_eq!(stored_rule(&stored).created_by.as_deref(), Some("somebody"));
    apply(&mut stored, &update(json!({"uuid": R, "enabled": false}), Origin::default()));
    assert_eq!(stored_rule(&stored).created_by.as_deref(), Some("somebody"));
    apply(&mut stored, &update(json!({"uuid": R, "enabled": true}), fwapi.clone()));
    assert!(stored_rule(&stored).is_from_fwapi());
}

/// firewaller case L4
#[test]
fn the_same_rule_of_the_same_version_changes_nothing() {
    let mut stored = Contents::default();
    let mut rule = all_vms();
    rule["version"] = json!("1.000001");
    assert_eq!(apply(&mut stored, &add(rule.clone())).rules.len(), 1);
    assert_eq!(apply(&mut stored, &add(rule.clone())), Changed::default());
    rule["version"] = json!("2.000001");
    assert_eq!(apply(&mut stored, &add(rule)).rules[0].version.as_deref(), Some("2.000001"));
    assert_eq!(apply(&mut stored, &add(all_vms())).rules.len(), 1, "without a version it always counts as changed");
}

/// firewaller case L5
#[test]
fn an_update_of_what_is_not_known_adds_it_only_when_told_so() {
    let stored = Contents::default();
    assert_eq!(refused(&stored, &update(all_vms(), Origin::default())), [format!("Unknown rule: {R}")]);
    let adds = Origin { allow_adds: true, ..Origin::default() };
    assert_eq!(apply(&mut Contents::default(), &update(all_vms(), adds.clone())).rules.len(), 1);
    assert_eq!(refused(&stored, &update(json!({"uuid": R}), adds)), ["No rule specified", "owner_uuid required"]);
    assert_eq!(refused(&stored, &update(json!({"enabled": true}), Origin::default())), [r#"Missing UUID of rule: {"enabled":true}"#]);
}

/// firewaller case L6
#[test]
fn global_takes_the_owner_away_and_an_owner_takes_global_away() {
    let mut stored = Contents::default();
    apply(&mut stored, &add(all_vms()));
    let changed = apply(&mut stored, &update(json!({"uuid": R, "global": true}), Origin::default()));
    assert_eq!((changed.vms, changed.rules[0].owner), (vms(&[0xa, 0xb, 0xc, 0xe]), None));
    apply(&mut stored, &update(json!({"uuid": R, "owner_uuid": O2}), Origin::default()));
    assert_eq!(stored_rule(&stored).owner.unwrap().to_string(), O2);
    let both = update(json!({"uuid": R, "owner_uuid": O2, "global": true}), Origin::default());
    assert_eq!(refused(&stored, &both), ["cannot specify both global and owner_uuid"]);
}

/// firewaller cases L7, L8
#[test]
fn a_disabled_rule_stays_listed_with_another_version_and_deleting_twice_is_no_error() {
    let mut stored = Contents::default();
    apply(&mut stored, &add(all_vms()));
    let before = stored_rule(&stored).clone();
    let mut changed = apply(&mut stored, &update(json!({"uuid": R, "enabled": false, "version": "9.1"}), Origin::default()));
    assert_eq!(changed.vms, vms(&[0xa, 0xb, 0xe]));
    assert!(!stored_rule(&stored).enabled && stored_rule(&stored).version != before.version);
    let delete = Change::Delete { rules: vec![R.parse().unwrap()], remote_vms: vec![] };
    assert_eq!(apply(&mut stored, &delete).vms, vms(&[0xa, 0xb, 0xe]));
    changed = apply(&mut stored, &delete);
    assert_eq!(changed, Changed::default());
}

/// firewaller case L9
#[test]
fn a_remote_vm_has_the_addresses_of_its_nics_in_order_and_nothing_else() {
    let nics = json!([{"ip": "10.7.0.1"}, {"ip": "dhcp"}, {"ips": ["10.7.0.2/24", "fd00::7/64", "addrconf"]}]);
    let mut stored = Contents::default();
    apply(&mut stored, &with_remote(json!({"uuid": id(0x77), "nics": nics, "enabled": true, "x": 1})));
    let expected = json!({"uuid": id(0x77), "ips": ["10.7.0.1", "10.7.0.2", "fd00::7"]});
    assert_eq!(stored.remote_vms[&uuid(0x77)].to_json(), expected);
}

/// firewaller case L10
#[test]
fn a_remote_vm_that_is_wrong_fails_the_whole_change() {
    let cases = [
        (json!({}), "Remote VM must have UUID".to_owned()),
        (json!({"uuid": "hasOwnProperty"}), "Invalid Remote VM UUID: hasOwnProperty".to_owned()),
        (json!({"uuid": id(0x77), "ips": ["10.0.0.9"], "owner_uuid": "x"}), "Invalid owner UUID: x".to_owned()),
        (json!({"uuid": id(0x77), "ips": ["1.2.3.4.5"]}), "Invalid IP address: 1.2.3.4.5".to_owned()),
        (json!({"uuid": id(0x77)}), format!("Remote VM \"{}\": missing IPs", id(0x77))),
        (json!({"uuid": id(0xa), "ips": ["10.0.0.9"]}), format!("Remote VM \"{}\" must not have the same UUID as a local VM", id(0xa))),
    ];
    for (vm, reason) in cases {
        let Change::Add { remote_vms, .. } = with_remote(vm) else { unreachable!() };
        let change = Change::Add { rules: vec![object(all_vms())], remote_vms, local_vms: vec![], origin: Origin::default() };
        assert_eq!(refused(&Contents::default(), &change), [reason]);
    }
}

/// firewaller case L11
#[test]
fn rules_of_a_remote_vm_are_found_without_addresses() {
    let mut stored = Contents::default();
    apply(
        &mut stored,
        &add(
            json!({"uuid": R, "owner_uuid": O1, "rule": "FROM tag role = db TO vm a0000000-0000-4000-8000-00000000000a ALLOW tcp PORT 1"}),
        ),
    );
    let vm = RemoteVm::parse(&object(json!({"uuid": id(0x77), "tags": {"role": "db"}, "owner_uuid": O1}))).unwrap();
    assert_eq!(rules_of_remote_vm(&stored, &vm).len(), 1);
    let other = RemoteVm::parse(&object(json!({"uuid": id(0x77), "tags": {"role": "db"}, "owner_uuid": O2}))).unwrap();
    assert!(rules_of_remote_vm(&stored, &other).is_empty());
}

fn targets(rule: &str) -> Value {
    let rule = Rule::parse(&object(json!({"uuid": R, "owner_uuid": O1, "enabled": true, "rule": rule})), &Options::default()).unwrap();
    remote_targets([&rule], &locals()).to_json()
}

/// firewaller case L12
#[test]
fn what_must_be_known_of_elsewhere_is_the_other_side_of_what_names_an_instance_here() {
    let (a, x) = (id(0xa), id(0x78));
    assert_eq!(
        targets(&format!("FROM (tag a = 1 OR tag a = 2 OR vm {a} OR vm {x}) TO all vms ALLOW tcp PORT 22")),
        json!({"allVMs": true, "tags": {"a": ["1", "2"]}, "vms": [x]})
    );
    assert_eq!(targets("FROM any TO all vms ALLOW tcp PORT 22"), json!({}));
    assert_eq!(targets("FROM tag a = 1 TO all vms ALLOW tcp PORT 22"), json!({"tags": {"a": "1"}}));
    let two = ["FROM tag a = 1 TO all vms ALLOW tcp PORT 22", "FROM tag a TO all vms ALLOW tcp PORT 22"]
        .map(|text| Rule::parse(&object(json!({"owner_uuid": O1, "rule": text})), &Options::default()).unwrap());
    assert_eq!(remote_targets(&two, &locals()).to_json(), json!({"tags": {"a": true}}));
}

/// firewaller case L13
#[test]
fn instances_of_a_rule_are_those_with_a_firewall_unless_all_are_wanted() {
    let mut rule = all_vms();
    rule["enabled"] = json!(false);
    let rule = Rule::parse(&object(rule), &Options::default()).unwrap();
    assert_eq!(vms_of_rule(&rule, &locals(), false), vms(&[0xa, 0xb, 0xe]));
    assert_eq!(vms_of_rule(&rule, &locals(), true), vms(&[0xa, 0xb, 0xd, 0xe]));
}

/// firewaller case L14
#[test]
fn an_instance_that_is_not_listed_cannot_be_changed() {
    let change = Change::Add { rules: vec![], remote_vms: vec![], local_vms: vec![uuid(0x79)], origin: Origin::default() };
    assert_eq!(refused(&Contents::default(), &change), [format!("Could not find VM \"{}\" in VM list", id(0x79))]);
}

/// firewaller case L15
#[test]
fn a_payload_is_checked_for_instances_that_nobody_knows() {
    let (a, x) = (id(0xa), id(0x78));
    let check = |text: String| match validate(&[object(json!({"owner_uuid": O1, "rule": text}))], &[], &Contents::default(), &locals()) {
        Ok(()) => Vec::new(),
        Err(FirewallError::Refused(reasons)) => reasons,
        Err(other) => panic!("{other}"),
    };
    let text = format!("FROM vm {x} TO any BLOCK tcp PORT 1");
    assert_eq!(check(text.clone()), [format!("No VMs found that match rule: {text}")]);
    let text = format!("FROM vm {a} TO (tag \"blue\" OR vm {x}) BLOCK tcp PORT 1");
    assert_eq!(check(text.clone()), [format!("Missing vm {x} for rule: {text}")]);
    assert!(check("FROM tag nobody TO any BLOCK tcp PORT 1".to_owned()).is_empty());
}

/// firewaller section 8.5; case E-ST10
#[test]
fn a_remote_vm_that_loses_a_tag_concerns_those_that_admitted_it() {
    let mut stored = Contents::default();
    let vm = |tags: Value| json!({"uuid": id(0x77), "ips": ["10.9.0.1"], "owner_uuid": O1, "tags": tags});
    apply(&mut stored, &with_remote(vm(json!({"role": "db"}))));
    apply(
        &mut stored,
        &add(
            json!({"uuid": R, "owner_uuid": O1, "enabled": true, "rule": format!("FROM tag role = db TO vm {} ALLOW tcp PORT 1", id(0xa))}),
        ),
    );
    assert_eq!(apply(&mut stored, &with_remote(vm(json!({})))).vms, vms(&[0xa]));
}

/// Bad input: rules of a megabyte, and of a hundred wrong fields.
#[test]
fn a_megabyte_of_rule_is_refused_with_a_reason() {
    let text = format!("FROM ({}) TO all vms ALLOW tcp PORT 1", vec!["ip 10.0.0.1"; 80_000].join(" OR "));
    assert!(text.len() > 1 << 20);
    let mut rule = all_vms();
    rule["rule"] = json!(text);
    assert_eq!(refused(&Contents::default(), &add(rule)), ["maximum of 24 targets allowed per side"]);
}

fn replace(rules: Vec<Rule>, remote_vms: Vec<RemoteVm>, no_rules: &[&str], no_remote_vms: &[InstanceUuid]) -> Change {
    let no_rules = no_rules.iter().map(|uuid| uuid.parse().unwrap()).collect();
    Change::Replace { rules, remote_vms, no_rules, no_remote_vms: no_remote_vms.to_vec() }
}

fn remote(letter: u8, owner: &str, ips: Value, tags: Value) -> RemoteVm {
    RemoteVm::parse(&object(json!({"uuid": id(letter), "owner_uuid": owner, "ips": ips, "tags": tags}))).unwrap()
}

/// firewaller sections 6.2 and 8.5: what an agent has of other services goes in whole, with what goes, and concerns who was admitted
/// before or is now.
#[test]
fn a_replacement_says_whom_old_and_new_concern_and_passes_over_what_is_here() {
    let mut stored = Contents::default();
    let rule = |uuid: &str, text: &str| {
        Rule::parse(
            &object(json!({"uuid": uuid, "owner_uuid": O1, "enabled": true, "rule": text, "created_by": "fwapi"})),
            &Options::default(),
        )
        .unwrap()
    };
    let first = rule(R, "FROM tag role = far TO tag role = www ALLOW tcp PORT 22");
    let far = remote(0x1a, O1, json!(["10.9.0.1"]), json!({"role": "far"}));
    let bare = remote(0x1b, O1, json!([]), json!({"role": "far"}));
    let here = remote(0xa, O1, json!(["10.9.0.2"]), json!({}));
    let changed = apply(&mut stored, &replace(vec![first.clone()], vec![far.clone(), bare, here], &[], &[]));
    assert_eq!(changed.vms, [uuid(0xa)].into());
    assert_eq!(stored.remote_vms.keys().copied().collect::<Vec<_>>(), [far.uuid], "neither one of this node nor one without an address");
    let kept = stored.rules[&first.uuid].clone();
    assert!(kept.version.is_some() && kept.is_from_fwapi());
    // The same again is nothing.
    let again = apply(&mut stored, &replace(vec![kept.clone()], vec![far.clone()], &[], &[]));
    assert_eq!(again, Changed::default());
    // It loses its tag: who admitted it is concerned.
    let lost = remote(0x1a, O1, json!(["10.9.0.1"]), json!({}));
    assert_eq!(apply(&mut stored, &replace(Vec::new(), vec![lost], &[], &[])).vms, [uuid(0xa)].into());
    // A rule comes and another goes in one change: both concern.
    let second = rule("10000000-0000-4000-8000-000000000002", "FROM any TO tag role = db ALLOW tcp PORT 22");
    let changed = apply(&mut stored, &replace(vec![second], Vec::new(), &[R], &[far.uuid]));
    assert_eq!((changed.vms, changed.rules.len(), changed.remote_vms.len()), ([uuid(0xa), uuid(0xb)].into(), 2, 1));
    assert_eq!((stored.rules.len(), stored.remote_vms.len()), (1, 0));
}
