//! What goes over the wire, against a VMAPI that keeps state (vm-agent.md, conformance cases).

#![allow(clippy::unwrap_used)]

mod node;
mod vmapi;

use std::time::Duration;

use node::{Node, SERVER, eventually, object};
use serde_json::{Value, json};
use triton_types::InstanceUuid;

fn bulk_lines(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with("PUT /vms?")).count()
}

/// vm-agent case 1, 2, 3, 10, 11, 16
#[tokio::test]
async fn at_start_vmapi_is_told_in_bulk_exactly_what_it_has_wrong() {
    let mut node = Node::new();
    let [new, same, gone, hidden] = std::array::from_fn(|_| InstanceUuid::random());
    let expected = node.put(new, json!({"customer_metadata": {"k": "v"}, "quota": 10}));
    let _ = node.put(same, json!({}));
    let _ = node.put(hidden, json!({"do_not_inventory": true}));
    let theirs = |uuid, extra| (format!("{uuid}"), object(uuid, extra));
    let remote = [
        theirs(same, json!({"alias": null, "datasets": [], "quota": null, "ram": 128})),
        theirs(gone, json!({"owner_uuid": "o", "tags": {"a": 1}})),
        theirs(hidden, json!({})),
    ];
    node.vmapi.0.lock().unwrap().vms.extend(remote);
    node.start().await;
    node.stored(&expected).await;
    let ended = node.destroyed(gone).await;
    assert_eq!(
        Value::Object(ended),
        Value::Object(object(gone, json!({"owner_uuid": "o", "tags": {"a": 1}, "state": "destroyed", "zone_state": "destroyed"})))
    );
    node.settled().await;
    let lines = node.vmapi.lines();
    assert_eq!(lines[..2], [format!("GET /vms?server_uuid={SERVER}&state=active"), format!("PUT /vms?server_uuid={SERVER}")]);
    let store = node.vmapi.0.lock().unwrap();
    let told = store.requests[1].body["vms"].as_object().unwrap();
    assert_eq!(told.len(), 2, "{told:?}");
    let agent = &store.requests[0].agent;
    assert!(agent.starts_with("vm-agent/") && agent.ends_with(&format!(") server/{SERVER}")) && agent.split(' ').count() == 3, "{agent}");
    assert!(store.requests.iter().all(|request| !request.has_date), "a slow clock must not matter");
}

/// vm-agent case 4, 5
#[tokio::test]
async fn when_both_agree_nothing_is_sent_but_the_question() {
    let mut node = Node::new();
    let uuid = InstanceUuid::random();
    let vm = node.put(uuid, json!({"quota": 10}));
    node.vmapi.0.lock().unwrap().vms.insert(uuid.to_string(), vm);
    node.start().await;
    node.compared().await;
    node.settled().await;
    let lines = node.vmapi.lines();
    assert_eq!((lines.len(), bulk_lines(&lines)), (2, 0), "{lines:?}");
    // An event without a change is no report either.
    node.changes.touch([uuid]);
    node.changes.gap();
    node.settled().await;
    assert!(node.reports(uuid).is_empty());
}

/// vm-agent case 12, 13
#[tokio::test]
async fn every_failed_start_asks_both_sides_anew_after_a_growing_pause() {
    let mut node = Node::new();
    let expected = node.put(InstanceUuid::random(), json!({}));
    node.vmapi.refuse("GET", 503, 2);
    node.vmapi.refuse("PUT", 503, 1);
    node.start().await;
    node.stored(&expected).await;
    let store = node.vmapi.0.lock().unwrap();
    let words: Vec<&str> = store.requests.iter().map(|request| &request.line[..3]).collect();
    assert_eq!(words, ["GET", "GET", "GET", "PUT", "GET", "PUT"]);
    let gaps: Vec<u128> =
        [(0, 1), (1, 2), (3, 4)].map(|(a, b): (usize, usize)| (store.requests[b].at - store.requests[a].at).as_millis()).to_vec();
    assert!(gaps[0] >= 470 && gaps[1] > gaps[0] && gaps[2] > gaps[1], "{gaps:?}");
    assert_eq!(node.instances.calls.lock().unwrap().iter().filter(|(call, _)| call == "each").count(), 2);
}

/// vm-agent case 15
#[tokio::test]
async fn what_changes_during_the_comparison_is_reported_once_after_it() {
    let mut node = Node::new();
    let uuid = InstanceUuid::random();
    let _ = node.put(uuid, json!({"quota": 1}));
    node.vmapi.refuse("PUT", 503, 1);
    node.start().await;
    let vmapi = node.vmapi.clone();
    eventually("the first bulk report", move || (bulk_lines(&vmapi.lines()) == 1).then_some(())).await;
    let mut last = node.change(uuid, json!({"quota": 2}));
    for quota in 3..=5 {
        last = node.change(uuid, json!({"quota": quota}));
    }
    node.stored(&last).await;
    node.settled().await;
    assert!(node.reports(uuid).len() <= 1, "the second comparison may have had it already");
}

/// vm-agent case 17, 18, 19
#[tokio::test]
async fn creations_changes_and_ends_are_reported_whole() {
    let node = Node::started().await;
    let uuids: [InstanceUuid; 4] = std::array::from_fn(|_| InstanceUuid::random());
    for uuid in uuids {
        let created = node.change(uuid, json!({"alias": "a", "cpu_cap": 100}));
        node.stored(&created).await;
    }
    let changed = node.change(uuids[0], json!({"quota": 1000}));
    node.stored(&changed).await;
    assert!(!node.vmapi.get(&uuids[0].to_string()).unwrap().contains_key("cpu_cap"));
    node.delete(uuids[0]);
    let ended = node.destroyed(uuids[0]).await;
    assert_eq!((&ended["quota"], ended.len()), (&json!(1000), changed.len()));
    assert_eq!(node.reports(uuids[1]).len(), 1);
}

/// vm-agent case 20
#[tokio::test]
async fn the_end_of_an_instance_is_told_with_the_same_words_until_it_is_taken_and_then_no_more() {
    let node = Node::started().await;
    let uuid = InstanceUuid::random();
    let created = node.change(uuid, json!({}));
    node.stored(&created).await;
    node.vmapi.refuse("PUT /vms/", 500, 3);
    node.delete(uuid);
    node.destroyed(uuid).await;
    node.changes.touch([uuid]);
    node.settled().await;
    let reports = node.reports(uuid);
    assert_eq!(reports.len(), 5, "one creation, four ends");
    assert!(reports[1..].windows(2).all(|pair| pair[0].1 == pair[1].1));
}

/// vm-agent case 21
#[tokio::test]
async fn after_an_outage_one_report_has_all_that_happened_during_it() {
    let node = Node::started().await;
    let uuid = InstanceUuid::random();
    let created = node.change(uuid, json!({}));
    node.stored(&created).await;
    node.vmapi.refuse("PUT /vms/", 503, 3);
    let _ = node.change(uuid, json!({"quota": 1}));
    eventually("the first attempt", || (node.reports(uuid).len() == 2).then_some(())).await;
    let last = node.change(uuid, json!({"quota": 1, "cpu_cap": 5}));
    node.stored(&last).await;
    node.settled().await;
    let reports = node.reports(uuid);
    let ok: Vec<&Value> = reports.iter().skip(4).map(|(_, body)| body).collect();
    assert_eq!(ok, [&Value::Object(last)]);
    let gaps: Vec<Duration> = reports[1..].windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert!(gaps.windows(2).all(|pair| pair[1] > pair[0]), "{gaps:?}");
}

/// vm-agent case 22
#[tokio::test]
async fn an_instance_that_vmapi_never_takes_does_not_hold_up_the_others() {
    let node = Node::started().await;
    let bad = InstanceUuid::random();
    node.vmapi.0.lock().unwrap().stubborn = Some((bad.to_string(), 409));
    let refused = node.change(bad, json!({}));
    eventually("a refusal", || (node.reports(bad).len() >= 2).then_some(())).await;
    for _ in 0..5 {
        node.settled().await;
    }
    node.vmapi.0.lock().unwrap().stubborn = None;
    node.stored(&refused).await;
}

/// vm-agent case 25, 48
#[tokio::test]
async fn without_the_store_of_instances_nothing_is_called_destroyed() {
    let mut node = Node::new();
    let uuid = InstanceUuid::random();
    node.vmapi.0.lock().unwrap().vms.insert(uuid.to_string(), object(uuid, json!({"state": "running"})));
    *node.instances.failure.lock().unwrap() = Some("the pool is not there".to_owned());
    node.start().await;
    let instances = node.instances.clone();
    eventually("three attempts", move || (instances.calls.lock().unwrap().len() >= 3).then_some(())).await;
    assert!(node.vmapi.lines().iter().all(|line| line.starts_with("GET")));
    let vm = node.put(uuid, json!({"state": "running"}));
    *node.instances.failure.lock().unwrap() = None;
    node.settled().await;
    assert_eq!(node.vmapi.get(&uuid.to_string()), Some(vm));
    // Later, too: an event while the store is away says nothing.
    *node.instances.failure.lock().unwrap() = Some("the pool is not there".to_owned());
    node.delete(uuid);
    let instances = node.instances.clone();
    eventually("a retry", move || {
        (instances.calls.lock().unwrap().iter().filter(|(call, _)| call.ends_with(&uuid.to_string())).count() >= 2).then_some(())
    })
    .await;
    assert!(node.reports(uuid).is_empty());
    *node.instances.failure.lock().unwrap() = None;
    node.destroyed(uuid).await;
}

/// vm-agent case 30, 31, 32
#[tokio::test]
async fn hidden_instances_are_not_reported_until_they_are_shown() {
    let mut node = Node::new();
    let [early, late, turned] = std::array::from_fn(|_| InstanceUuid::random());
    let _ = node.put(early, json!({"do_not_inventory": true}));
    node.start().await;
    node.settled().await;
    let _ = node.change(late, json!({"do_not_inventory": true}));
    let shown = node.change(turned, json!({"alias": "one"}));
    node.stored(&shown).await;
    for state in ["running", "stopped"] {
        let _ = node.change(turned, json!({"do_not_inventory": true, "alias": "two", "state": state}));
        node.settled().await;
    }
    node.delete(early);
    node.delete(late);
    node.settled().await;
    assert!(node.reports(early).is_empty() && node.reports(late).is_empty());
    assert_eq!(node.reports(turned).len(), 1);
    let shown = node.change(turned, json!({"alias": "two"}));
    node.stored(&shown).await;
}

#[tokio::test]
async fn an_unreadable_instance_is_neither_changed_nor_destroyed_at_vmapi() {
    let node = Node::started().await;
    let uuid = InstanceUuid::random();
    let vm = node.change(uuid, json!({}));
    node.stored(&vm).await;
    node.spoil(uuid);
    node.changes.gap();
    node.settled().await;
    assert_eq!(node.reports(uuid).len(), 1);
    assert_eq!(node.vmapi.get(&uuid.to_string()), Some(vm));
}

/// vm-agent case 39
#[tokio::test]
async fn after_a_gap_in_watching_what_differs_is_reported_and_nothing_else() {
    let node = Node::started().await;
    let [changed, deleted, same, created] = std::array::from_fn(|_| InstanceUuid::random());
    for uuid in [changed, deleted, same] {
        let vm = node.change(uuid, json!({}));
        node.stored(&vm).await;
    }
    let (changed_vm, created_vm) = (node.put(changed, json!({"quota": 5})), node.put(created, json!({})));
    node.delete(deleted);
    node.changes.take();
    node.changes.gap();
    node.stored(&changed_vm).await;
    node.stored(&created_vm).await;
    node.destroyed(deleted).await;
    assert_eq!(node.reports(same).len(), 1);
}

/// Ruling 5
#[tokio::test]
async fn a_state_that_changes_while_documents_are_gathered_is_told_at_once() {
    let node = Node::started().await;
    let uuid = InstanceUuid::random();
    let created = node.change(uuid, json!({"tags": {"n": 0}}));
    node.stored(&created).await;
    let _ = node.change(uuid, json!({"tags": {"n": 1}}));
    let begun = std::time::Instant::now();
    eventually("the look at the documents", || (node.instances.calls.lock().unwrap().len() >= 3).then_some(())).await;
    let running = node.change(uuid, json!({"tags": {"n": 1}, "state": "running", "zone_state": "running"}));
    node.stored(&running).await;
    assert!(begun.elapsed() < Duration::from_millis(800), "it waited for the documents: {:?}", begun.elapsed());
}

/// More than a page of instances: the first request is the contract's, the others continue it.
#[tokio::test]
async fn a_list_longer_than_a_page_is_read_to_its_end() {
    let mut node = Node::new();
    for _ in 0..2500 {
        let uuid = InstanceUuid::random();
        let vm = node.put(uuid, json!({}));
        node.vmapi.0.lock().unwrap().vms.insert(uuid.to_string(), vm);
    }
    node.start().await;
    node.compared().await;
    node.settled().await;
    let lines = node.vmapi.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("GET")).count(), 3, "{lines:?}");
    assert_eq!(bulk_lines(&lines), 0);
}

#[tokio::test]
async fn when_the_bulk_report_is_refused_each_instance_is_reported_by_itself() {
    let mut node = Node::new();
    let vms: Vec<_> = (0..3).map(|_| node.put(InstanceUuid::random(), json!({}))).collect();
    let gone = InstanceUuid::random();
    node.vmapi.0.lock().unwrap().vms.insert(gone.to_string(), object(gone, json!({"owner_uuid": "o"})));
    node.vmapi.refuse("PUT /vms?", 409, 1);
    node.start().await;
    for vm in &vms {
        node.stored(vm).await;
    }
    assert_eq!(node.destroyed(gone).await["owner_uuid"], "o");
}
