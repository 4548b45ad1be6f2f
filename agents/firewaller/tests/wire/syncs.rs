//! The comparison: cases T19 to T25, ruling 7.

use headnode_standin::{FaultAction, FaultRule};
use serde_json::{Value, json};
use triton_types::{InstanceUuid, RuleUuid};

use crate::node::{ELSEWHERE, Node, OTHER, OWNER, eventually, rule, vm};

fn of_fwapi(text: &str) -> Value {
    let mut rule = rule(text);
    rule["created_by"] = json!("fwapi");
    rule
}

/// firewaller case T19, as ruling 7 has it
#[tokio::test]
async fn firewaller_case_t19_rules_that_nobody_has_any_more_go_when_two_comparisons_say_so() {
    for filtered in [true, false] {
        let mut node = Node::new();
        if filtered {
            node.local("10.0.0.1", json!({}));
        }
        for port in 1..=3 {
            node.keep(&of_fwapi(&format!("FROM any TO all vms ALLOW tcp PORT {port}")));
        }
        node.launch().await;
        eventually("it doubts", || {
            let status = node.numbers.status();
            status["subscribed"] == true && (status["doubtful_rules"] == 3 || node.rules().is_empty())
        })
        .await;
        node.sync().await;
        assert_eq!((node.rules(), node.numbers.status()["doubtful_rules"].clone()), (vec![], json!(0)));
        assert_eq!(node.requests("/resolve").is_empty(), !filtered);
    }
}

/// ruling 7
#[tokio::test]
async fn one_comparison_alone_never_deletes_more_than_half_of_the_rules() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let mut kept = Vec::new();
    for port in 1..=3 {
        let rule = node
            .fwapi_rule(&json!({"rule": format!("FROM any TO all vms ALLOW tcp PORT {port}"), "owner_uuid": OWNER, "enabled": true}))
            .await;
        kept.push(rule["uuid"].as_str().unwrap().parse::<RuleUuid>().unwrap());
    }
    node.start().await;
    assert_eq!(node.rules().len(), 3);
    let lie = json!({"rules": [], "tags": {}, "vms": [], "allVMs": false, "owner_uuid": OWNER});
    node.standin.add_fault(FaultRule::on("/resolve", FaultAction::Lie(lie)).times(1)).unwrap();
    node.sync().await;
    assert_eq!((node.rules().len(), node.numbers.status()["doubtful_rules"].clone()), (3, json!(3)));
    assert!(node.admits(here, "10.8.0.1", 1), "what was in force still is");
    node.sync().await;
    assert_eq!((node.rules().len(), node.numbers.status()["doubtful_rules"].clone()), (3, json!(0)), "it was a lie");
}

#[tokio::test]
async fn firewaller_case_t20_the_comparison_repairs_in_both_directions_and_then_changes_nothing() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({"role": "www"}));
    let there = node.remote(OWNER, "10.0.0.9", json!({"role": "db"}));
    let theirs = node
        .fwapi_rule(&json!({"rule": "FROM tag role = db TO tag role = www ALLOW tcp PORT 2", "owner_uuid": OWNER, "enabled": true}))
        .await;
    let fresh =
        node.fwapi_rule(&json!({"rule": "FROM any TO tag role = www ALLOW tcp PORT 4", "owner_uuid": OWNER, "enabled": true})).await;
    let mut older = of_fwapi("FROM any TO tag role = www ALLOW tcp PORT 1");
    older["uuid"] = theirs["uuid"].clone();
    node.keep(&older);
    let gone = node.keep(&of_fwapi("FROM any TO tag role = www ALLOW tcp PORT 5"));
    let own = node.keep(&rule(&format!("FROM any TO vm {here} ALLOW tcp PORT 3")));
    let stale = vm(InstanceUuid::random(), OWNER, "10.0.0.66", json!({"role": "db"}));
    let stale = triton_fwrule::RemoteVm::from_vmapi(stale.as_object().unwrap()).unwrap();
    node.memory.here().stored.remotes.insert(stale.uuid, stale);
    node.start().await;
    assert!(!node.rules().contains(&gone) && node.rules().len() == 3);
    assert_eq!(node.remotes(), [there]);
    assert!(node.admits(here, "10.0.0.9", 2) && node.admits(here, "10.8.8.8", 4) && !node.admits(here, "10.8.8.8", 1));
    let given = node.ask(node.standin.fwapi_url(), http::Method::GET, &format!("/rules/{own}"), None).await.unwrap();
    assert_eq!(given["rule"], format!("FROM any TO vm {here} ALLOW tcp PORT 3"));
    assert!(node.memory.here().stored.rules.values().all(triton_fwrule::Rule::is_from_fwapi));
    assert!(node.rules().contains(&fresh["uuid"].as_str().unwrap().parse().unwrap()));
    // FWAPI gave the rule a version of its own: once more, then never again.
    node.sync().await;
    let before = node.stored();
    node.sync().await;
    assert_eq!(node.stored(), before);
    assert_eq!(node.standin.violations(), []);
}

#[tokio::test]
async fn firewaller_case_t21_a_failing_owner_stops_neither_the_others_nor_deletes() {
    let mut node = Node::new();
    node.local("10.0.0.1", json!({}));
    let mut other = vm(InstanceUuid::random(), OTHER, "10.0.0.2", json!({}));
    other["server_uuid"] = json!(ELSEWHERE);
    node.has(&other);
    for owner in [OWNER, OTHER] {
        node.fwapi_rule(&json!({"rule": "FROM any TO all vms ALLOW tcp PORT 1", "owner_uuid": owner, "enabled": true})).await;
    }
    node.keep(&of_fwapi("FROM any TO all vms ALLOW tcp PORT 9"));
    node.start().await;
    let gone = node.keep(&of_fwapi("FROM any TO all vms ALLOW tcp PORT 8"));
    node.memory.here().stored.rules.retain(|uuid, _| *uuid == gone);
    // Owners are asked in order of their uuid: the first one fails.
    node.standin.add_fault(FaultRule::on("/resolve", FaultAction::Fail { status: 503, body: None }).times(1)).unwrap();
    let failed = node.numbers.status()["syncs_failed"].as_u64().unwrap();
    node.sync().await;
    assert_eq!(node.numbers.status()["syncs_failed"], failed + 1);
    assert_eq!((node.rules().len(), node.rules().contains(&gone)), (2, true));
}

/// firewaller case T22, as ruling 7 has it: HTTP and FAST do not wait
#[tokio::test]
async fn firewaller_case_t22_without_fwapi_it_tries_six_times_and_serves_meanwhile() {
    let mut node = Node::new();
    node.local("10.0.0.1", json!({}));
    let kept = node.keep(&of_fwapi("FROM any TO all vms ALLOW tcp PORT 1"));
    node.standin.add_fault(FaultRule::on("/resolve", FaultAction::Fail { status: 503, body: None })).unwrap();
    let begun = std::time::Instant::now();
    node.launch().await;
    let status = node.ask(&node.url, http::Method::GET, "/status", None).await.unwrap();
    assert!(status["recent"].is_array() && begun.elapsed().as_millis() < 2000, "{status}");
    eventually("subscribed", || node.numbers.status()["subscribed"] == true).await;
    eventually("six attempts", || node.numbers.status()["syncs_failed"].as_u64() >= Some(6)).await;
    assert!((3000..6000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(node.rules(), [kept], "what is in force stays");
    node.standin.clear_faults();
    node.sync().await;
    assert!(node.numbers.status()["syncs"].as_u64() >= Some(1));
}

#[tokio::test]
async fn firewaller_case_t23_fwapi_orders_a_comparison() {
    let mut node = Node::new();
    node.start().await;
    let update = node.ask(node.standin.fwapi_url(), http::Method::POST, "/updates", Some(&json!({"type": "sync"}))).await.unwrap();
    let req_id = update["update_uuid"].as_str().unwrap().to_owned();
    eventually("it is done", || node.recent().first() == Some(&req_id)).await;
    let status = node.ask(&node.url, http::Method::GET, "/status", None).await.unwrap();
    assert_eq!((&status["queued"], &status["recent"][0]), (&json!(0), &json!(req_id)));
}

#[tokio::test]
async fn firewaller_case_t24_instances_are_read_past_the_first_thousand() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    for number in 0..1001u32 {
        node.remote(OWNER, &format!("10.1.{}.{}", number / 250, number % 250 + 1), json!({}));
    }
    node.fwapi_rule(&json!({"rule": "FROM all vms TO all vms ALLOW tcp PORT 1", "owner_uuid": OWNER, "enabled": true})).await;
    node.start().await;
    assert_eq!(node.remotes().len(), 1001);
    assert!(node.requests("/vms?predicate").iter().any(|entry| entry.path.contains("marker=")));
    assert!(node.admits(here, "10.1.4.1", 1));
}

#[tokio::test]
async fn firewaller_case_t25_an_instance_with_bad_addresses_does_not_stop_the_others() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.remote(OWNER, "dhcp", json!({}));
    node.remote(OWNER, "no address", json!({}));
    let good = node.remote(OWNER, "10.0.0.9", json!({}));
    let both = InstanceUuid::random();
    let mut object = vm(both, OWNER, "", json!({}));
    object["nics"] = json!([{"ips": ["dhcp"]}, {"ips": ["10.0.0.10/24", "fd00::10/64", "addrconf"]}]);
    node.standin.have_vm(&object).unwrap();
    node.fwapi_rule(&json!({"rule": "FROM all vms TO all vms ALLOW tcp PORT 1", "owner_uuid": OWNER, "enabled": true})).await;
    node.start().await;
    let mut stored = node.remotes();
    stored.sort();
    let mut wanted = [good, both];
    wanted.sort();
    assert_eq!(stored, wanted);
    assert!(["10.0.0.9", "10.0.0.10", "fd00::10"].iter().all(|ip| node.admits(here, ip, 1)));
}

/// ruling 1: what is remembered of a damaged file is what FWAPI says, and still the file is written anew
#[tokio::test]
async fn a_comparison_mends_damaged_files_whatever_is_remembered_of_them() {
    let mut node = Node::new();
    node.local("10.0.0.1", json!({}));
    let there = node.remote(OWNER, "10.0.0.9", json!({}));
    let theirs = node.fwapi_rule(&json!({"rule": "FROM all vms TO all vms ALLOW tcp PORT 1", "owner_uuid": OWNER, "enabled": true})).await;
    let uuid: RuleUuid = theirs["uuid"].as_str().unwrap().parse().unwrap();
    node.start().await;
    let (sound, changes) = node.stored();
    assert_eq!((sound.rules.contains_key(&uuid), sound.remotes.contains_key(&there)), (true, true));
    node.sync().await;
    assert_eq!(node.stored(), (sound.clone(), changes), "nothing is damaged: nothing is written");
    {
        let mut here = node.memory.here();
        here.stored.damaged_rules.insert(uuid);
        here.stored.damaged_remotes.insert(there);
    }
    node.sync().await;
    assert_eq!(node.stored(), (sound, changes + 1), "both are written, in one change");
}
