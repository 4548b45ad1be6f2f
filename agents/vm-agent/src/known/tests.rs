use serde_json::{Value, json};

use super::*;

fn vm(value: Value) -> Loaded {
    let Value::Object(map) = value else { panic!("no object: {value}") };
    Loaded::Object(map)
}

fn running(uuid: InstanceUuid, extra: (&str, Value)) -> Loaded {
    let mut vm = json!({"uuid": uuid, "state": "running", "zone_state": "running", "snapshots": []});
    vm[extra.0] = extra.1;
    self::vm(vm)
}

fn sent(step: Step) -> Value {
    match step {
        Step::Report { body, .. } => serde_json::from_slice(&body).unwrap(),
        Step::Nothing(outcome) => panic!("nothing was to be sent: {outcome:?}"),
    }
}

const NOTHING: Step = Step::Nothing(Outcome::Done);

/// vm-agent case 18
#[test]
fn the_whole_object_is_sent_and_a_key_that_went_away_is_not_in_it() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    assert_eq!(sent(known.look(uuid, running(uuid, ("cpu_cap", json!(100))), now))["cpu_cap"], 100);
    known.told(uuid, false, now);
    let body = sent(known.look(uuid, running(uuid, ("quota", json!(1000))), now));
    assert_eq!((body.get("cpu_cap"), &body["quota"]), (None, &json!(1000)));
}

#[test]
fn what_vmapi_has_is_not_sent_again_and_what_it_refused_is() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    let object = running(uuid, ("quota", json!(1)));
    assert_ne!(known.look(uuid, object.clone(), now), NOTHING);
    assert_ne!(known.look(uuid, object.clone(), now), NOTHING, "it was not taken");
    known.told(uuid, false, now);
    assert_eq!(known.look(uuid, object, now), NOTHING);
}

/// vm-agent case 19, 20, 24
#[test]
fn one_that_is_gone_is_reported_destroyed_with_its_last_object_until_vmapi_took_that() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    assert_eq!(known.look(uuid, Loaded::Absent, now), NOTHING, "it was never seen");
    known.look(uuid, running(uuid, ("quota", json!(7))), now);
    let first = known.look(uuid, Loaded::Absent, now);
    assert_eq!(first, known.look(uuid, Loaded::Absent, now), "every attempt sends the same");
    let expected = json!({"uuid": uuid, "state": "destroyed", "zone_state": "destroyed", "snapshots": [], "quota": 7});
    assert_eq!(sent(first), expected);
    known.told(uuid, true, now);
    assert_eq!(known.look(uuid, Loaded::Absent, now), NOTHING);
    assert_eq!(known.counts(), (0, 0));
}

/// vm-agent case 29, 30, 31, 33
#[test]
fn a_hidden_instance_is_never_reported_neither_alive_nor_gone() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    assert_eq!(sent(known.look(uuid, running(uuid, ("alias", json!("a"))), now))["alias"], "a");
    known.told(uuid, false, now);
    let hidden = running(uuid, ("do_not_inventory", json!(true)));
    assert_eq!(known.look(uuid, hidden.clone(), now), NOTHING);
    assert_eq!(sent(known.look(uuid, running(uuid, ("alias", json!("b"))), now))["alias"], "b");
    assert_eq!(known.look(uuid, hidden, now), NOTHING);
    for seconds in [0, 10, 299] {
        assert_eq!(known.look(uuid, Loaded::Absent, now + Duration::from_secs(seconds)), NOTHING);
    }
    assert_eq!(known.hidden.len(), 1);
    known.look(InstanceUuid::random(), Loaded::Absent, now + Duration::from_secs(301));
    assert!(known.hidden.is_empty(), "it is forgotten");
}

#[test]
fn an_unreadable_instance_is_not_reported_and_its_end_is() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    known.look(uuid, running(uuid, ("quota", json!(7))), now);
    known.told(uuid, false, now);
    assert_eq!(known.look(uuid, Loaded::Unreadable("garbage".to_owned()), now), NOTHING);
    assert_eq!(known.counts(), (1, 1));
    assert_eq!(sent(known.look(uuid, Loaded::Absent, now))["state"], "destroyed");
}

#[test]
fn documents_are_reported_a_second_apart_and_states_at_once() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    known.look(uuid, running(uuid, ("tags", json!({"a": 1}))), now);
    known.told(uuid, false, now);
    let soon = now + Duration::from_millis(100);
    let later = known.look(uuid, running(uuid, ("tags", json!({"a": 2}))), soon);
    assert_eq!(later, Step::Nothing(Outcome::Later(now + Duration::from_secs(1))));
    assert_eq!(sent(known.look(uuid, running(uuid, ("boot_timestamp", json!("t"))), soon))["boot_timestamp"], "t");
    let then = now + Duration::from_millis(1000);
    assert_eq!(sent(known.look(uuid, running(uuid, ("tags", json!({"a": 3}))), then))["tags"]["a"], 3);
}

/// vm-agent case 34, 39
#[test]
fn after_a_gap_in_watching_only_what_differs_is_looked_at() {
    let (mut known, now) = (Known::default(), Instant::now());
    let [created, changed, deleted, same, unread, hidden, unknown] = std::array::from_fn(|_| InstanceUuid::random());
    for uuid in [changed, deleted, same, unread] {
        known.look(uuid, running(uuid, ("quota", json!(1))), now);
    }
    known.look(hidden, running(hidden, ("do_not_inventory", json!(true))), now);
    let present = BTreeMap::from([
        (created, Look::Now(running(created, ("quota", json!(1))))),
        (changed, Look::Now(running(changed, ("quota", json!(2))))),
        (same, Look::Now(running(same, ("quota", json!(1))))),
        (hidden, Look::Now(running(hidden, ("do_not_inventory", json!(true))))),
        // Not read, since it is as it was; and one that was so while nobody asked.
        (unread, Look::Same),
        (unknown, Look::Same),
    ]);
    assert_eq!(known.stale(&present), BTreeSet::from([created, changed, deleted, unknown]));
}

/// vm-agent case 36, 40, 41
#[test]
fn what_is_known_already_is_no_news_and_what_is_older_is_looked_at_and_not_reported() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    let object = |modified: &str| running(uuid, ("last_modified", json!(modified)));
    let Loaded::Object(newest) = object("2026-01-02T00:00:00.000Z") else { unreachable!() };
    known.agreed(uuid, body(&newest));
    // The first look around finds what the comparison found.
    assert!(known.stale(&BTreeMap::from([(uuid, Look::Now(object("2026-01-02T00:00:00.000Z")))])).is_empty());
    // Two events of one change.
    let changed = object("2026-01-03T00:00:00.000Z");
    assert_ne!(known.look(uuid, changed.clone(), now), NOTHING);
    known.told(uuid, false, now);
    assert_eq!(known.look(uuid, changed.clone(), now), NOTHING);
    // A list that was read before the change: the instance is read again, and has not changed.
    assert_eq!(known.stale(&BTreeMap::from([(uuid, Look::Now(object("2026-01-02T00:00:00.000Z")))])), BTreeSet::from([uuid]));
    assert_eq!(known.look(uuid, changed, now), NOTHING);
}

/// vm-agent case 42
#[test]
fn a_reboot_is_a_report_at_once() {
    let (mut known, uuid, now) = (Known::default(), InstanceUuid::random(), Instant::now());
    let boot = |pid: u32, at: &str| {
        let Loaded::Object(mut vm) = running(uuid, ("boot_timestamp", json!(at))) else { unreachable!() };
        vm.insert("pid".to_owned(), json!(pid));
        Loaded::Object(vm)
    };
    known.look(uuid, boot(100, "2026-01-02T00:00:00.000Z"), now);
    known.told(uuid, false, now);
    let body = sent(known.look(uuid, boot(200, "2026-01-02T00:00:01.000Z"), now));
    assert_eq!((&body["pid"], &body["boot_timestamp"]), (&json!(200), &json!("2026-01-02T00:00:01.000Z")));
}
