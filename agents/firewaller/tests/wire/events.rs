//! Events: cases T1 to T17.

use serde_json::{Value, json};
use triton_types::{InstanceUuid, RuleUuid};

use crate::node::{ELSEWHERE, Node, OTHER, OWNER, eventually, rule, vm};

fn uuid(rule: &Value) -> RuleUuid {
    rule["uuid"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn firewaller_case_t1_an_event_without_a_value_is_ignored() {
    let mut node = Node::new();
    node.local("10.0.0.1", json!({}));
    node.start().await;
    let (before, tasks) = (node.recent().len(), node.numbers.status()["tasks"].clone());
    node.standin.announce("fw.add_rule", &Value::Null);
    node.sync().await;
    assert_eq!((node.rules(), node.recent().len(), node.numbers.status()["tasks"].clone()), (vec![], before + 1, tasks));
}

#[tokio::test]
async fn firewaller_case_t2_a_rule_about_nobody_here_is_not_stored() {
    let mut node = Node::new();
    let vm_here = node.local("10.0.0.1", json!({"role": "www"}));
    let mut off = vm(InstanceUuid::random(), OWNER, "10.0.0.2", json!({"off": "1"}));
    off["firewall_enabled"] = json!(false);
    node.has(&off);
    node.start().await;
    let asked = node.requests("/vms").len();
    let mut disabled = rule(&format!("FROM any TO vm {vm_here} ALLOW tcp PORT 22"));
    disabled["enabled"] = json!(false);
    for rule in [rule("FROM tag db TO tag db ALLOW tcp PORT 22"), rule("FROM any TO tag off ALLOW tcp PORT 22"), disabled] {
        node.event("fw.add_rule", &rule).await;
    }
    assert_eq!((node.rules(), node.requests("/vms").len()), (vec![], asked));
}

#[tokio::test]
async fn firewaller_case_t3_instances_elsewhere_are_fetched_by_both_values_of_a_tag() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({"couch": 1}));
    let there = node.remote(OWNER, "10.0.0.9", json!({"couch": 2}));
    node.remote(OWNER, "10.0.0.10", json!({"couch": 22}));
    node.start().await;
    node.event("fw.add_rule", &rule("FROM (tag couch = 1 OR tag couch = 2) TO (tag couch = 1 OR tag couch = 2) ALLOW tcp PORT 5984")).await;
    assert_eq!(node.remotes(), [there], "VMAPI's search finds 22 for 2; the agent looks again");
    let asked = node.requests("/vms?predicate");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].path.contains("tag.couch") && asked[0].path.contains("%22or%22"), "{}", asked[0].path);
    assert!(node.admits(here, "10.0.0.9", 5984) && !node.admits(here, "10.0.0.10", 5984));
}

#[tokio::test]
async fn firewaller_case_t4_all_instances_of_the_owner_and_of_nobody_else() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let there = node.remote(OWNER, "10.0.0.9", json!({}));
    node.remote(OTHER, "10.0.0.10", json!({}));
    node.start().await;
    node.event("fw.add_rule", &rule(&format!("FROM all vms TO vm {here} ALLOW tcp PORT 1"))).await;
    assert_eq!(node.remotes(), [there]);
    let asked = node.requests("/vms?predicate");
    assert_eq!((asked.len(), asked[0].path.matches("%22ne%22").count(), asked[0].path.matches("%22eq%22").count()), (1, 4, 1));
}

#[tokio::test]
async fn firewaller_case_t5_an_instance_named_by_uuid_is_fetched() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let there = node.remote(OWNER, "10.0.0.9", json!({}));
    node.start().await;
    let mut changing = rule(&format!("FROM ip 10.8.0.1 TO vm {here} ALLOW tcp PORT 1"));
    node.event("fw.add_rule", &changing).await;
    assert!(node.requests("/vms?predicate").is_empty() && node.remotes().is_empty());
    changing["rule"] = json!(format!("FROM (ip 10.8.0.1 OR vm {there}) TO vm {here} ALLOW tcp PORT 1"));
    node.event("fw.update_rule", &changing).await;
    assert_eq!(node.remotes(), [there]);
    assert!(node.admits(here, "10.0.0.9", 1) && node.admits(here, "10.8.0.1", 1));
}

#[tokio::test]
async fn firewaller_case_t6_a_global_rule_asks_for_nobody() {
    let mut node = Node::new();
    node.local("10.0.0.1", json!({}));
    node.remote(OWNER, "10.0.0.9", json!({}));
    node.start().await;
    let mut global = rule("FROM all vms TO all vms ALLOW tcp PORT 80");
    global.as_object_mut().unwrap().remove("owner_uuid");
    global["global"] = json!(true);
    node.event("fw.add_rule", &global).await;
    assert_eq!((node.rules().len(), node.requests("/vms").len()), (1, 0));
}

/// firewaller cases T7, T8, T9
#[tokio::test]
async fn firewaller_case_t7_to_t9_a_rule_changes_is_switched_off_and_goes() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    let mut changing = rule(&format!("FROM any TO vm {here} ALLOW tcp PORT 22"));
    node.event("fw.add_rule", &changing).await;
    assert!(node.admits(here, "10.8.0.1", 22));
    changing["rule"] = json!("FROM any TO tag nobody ALLOW tcp PORT 22");
    node.event("fw.update_rule", &changing).await;
    assert_eq!(node.memory.here().stored.rules[&uuid(&changing)].spec.to_string(), "FROM any TO tag \"nobody\" ALLOW tcp PORT 22");
    assert!(!node.admits(here, "10.8.0.1", 22));

    node.event("fw.update_rule", &rule("FROM any TO tag nobody ALLOW tcp PORT 23")).await;
    assert_eq!(node.rules().len(), 1, "T8: unknown and about nobody");
    changing["rule"] = json!(format!("FROM any TO vm {here} ALLOW tcp PORT 22"));
    node.event("fw.update_rule", &changing).await;
    changing["enabled"] = json!(false);
    node.event("fw.update_rule", &changing).await;
    assert!(!node.memory.here().stored.rules[&uuid(&changing)].enabled && !node.admits(here, "10.8.0.1", 22));

    for _ in 0..2 {
        node.event("fw.del_rule", &changing).await;
        assert_eq!((node.rules(), node.numbers.status()["tasks_failed"].clone()), (vec![], json!(0)));
    }
}

#[tokio::test]
async fn firewaller_case_t10_a_new_instance_elsewhere_is_stored_if_its_owners_rule_names_it() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    let mut global = rule("FROM tag role = db TO all vms ALLOW tcp PORT 1");
    global.as_object_mut().unwrap().remove("owner_uuid");
    global["global"] = json!(true);
    node.event("fw.add_rule", &global).await;
    let added = vm(InstanceUuid::random(), OWNER, "10.0.0.9", json!({"role": "db"}));
    node.event("vm.add", &added).await;
    assert!(node.remotes().is_empty());
    node.event("fw.add_rule", &rule(&format!("FROM tag role = db TO vm {here} ALLOW tcp PORT 2"))).await;
    node.event("vm.add", &added).await;
    node.event("vm.add", &added).await;
    assert_eq!(node.remotes().len(), 1);
    assert!(node.admits(here, "10.0.0.9", 2));
    node.event("vm.add", &vm(InstanceUuid::random(), OTHER, "10.0.0.10", json!({"role": "db"}))).await;
    assert_eq!(node.remotes().len(), 1, "somebody else's");
}

/// firewaller cases T11, T12, T13
#[tokio::test]
async fn firewaller_case_t11_to_t13_an_instance_here_asks_for_its_rules() {
    let mut node = Node::new();
    node.start().await;
    let other = node.remote(OWNER, "10.0.0.9", json!({"role": "db"}));
    for text in ["FROM tag role = db TO tag role = www ALLOW tcp PORT 80", "FROM any TO tag role = qa ALLOW tcp PORT 81"] {
        node.fwapi_rule(&json!({"rule": text, "owner_uuid": OWNER, "enabled": true})).await;
    }
    let mut object = vm(InstanceUuid::random(), OWNER, "10.0.0.1", json!({"role": "www"}));
    let here: InstanceUuid = object["uuid"].as_str().unwrap().parse().unwrap();
    let told = json!({"type": "vm.add", "uuid": here, "owner_uuid": OWNER, "server_uuid": ELSEWHERE});
    object["firewall_enabled"] = json!(false);
    node.has(&object);
    node.event("vm.add", &told).await;
    assert!(node.requests("/resolve").is_empty(), "T11: without a firewall nothing is asked");

    object["firewall_enabled"] = json!(true);
    node.has(&object);
    node.event("vm.update", &told).await;
    let asked = node.requests("/resolve");
    assert_eq!(asked.len(), 1, "T13");
    assert_eq!(asked[0].body, json!({"owner_uuid": OWNER, "vms": [here], "tags": {"role": ["www"]}}));
    assert_eq!((node.rules().len(), node.remotes()), (1, vec![other]));
    assert!(node.admits(here, "10.0.0.9", 80));

    object["tags"] = json!({"role": "qa"});
    node.has(&object);
    node.event("vm.update", &told).await;
    assert_eq!(node.requests("/resolve")[1].body["tags"], json!({"role": ["qa"]}), "T12");
    assert_eq!(node.rules().len(), 2, "the old one stays until the next comparison");
    assert!(node.admits(here, "10.7.7.7", 81) && !node.admits(here, "10.0.0.9", 80));
}

#[tokio::test]
async fn firewaller_case_t14_a_known_instance_elsewhere_changes_its_addresses_and_tags() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let there = node.remote(OWNER, "10.0.0.9", json!({"role": "db"}));
    node.start().await;
    node.event("fw.add_rule", &rule(&format!("FROM tag role = db TO vm {here} ALLOW tcp PORT 1"))).await;
    assert!(node.admits(here, "10.0.0.9", 1));
    let change = json!({"uuid": there, "owner_uuid": OWNER, "remove_ips": ["10.0.0.9"], "add_nics": [{"ip": "10.0.0.19"}]});
    // VMAPI may not have it yet: what the event says counts.
    node.event("vm.update", &change).await;
    assert!(node.admits(here, "10.0.0.19", 1) && !node.admits(here, "10.0.0.9", 1));
    node.event("vm.update", &json!({"uuid": there, "owner_uuid": OWNER, "remove_tags": ["role"]})).await;
    assert!(!node.admits(here, "10.0.0.19", 1), "E-ST10: at once");
    assert_eq!(node.remotes(), [there]);
}

/// firewaller cases T15, T16
#[tokio::test]
async fn firewaller_case_t15_t16_an_unknown_instance_elsewhere_is_asked_for_when_it_may_matter() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    node.event("fw.add_rule", &rule(&format!("FROM tag role = db TO vm {here} ALLOW tcp PORT 1"))).await;
    let there = node.remote(OWNER, "10.0.0.9", json!({"role": "db"}));
    let path = format!("/vms/{there}");
    node.event("vm.update", &json!({"uuid": there, "owner_uuid": OWNER, "set_tags": {"role": "www"}})).await;
    assert!(node.requests(&path).is_empty() && node.remotes().is_empty());
    node.event("vm.update", &json!({"uuid": there, "owner_uuid": OWNER, "set_tags": {"role": "db"}})).await;
    assert_eq!((node.requests(&path).len(), node.remotes()), (1, vec![there]));
    let second = node.remote(OWNER, "10.0.0.10", json!({"role": "db"}));
    node.event("vm.update", &json!({"uuid": second, "set_tags": {"other": "1"}})).await;
    assert_eq!(node.requests(&format!("/vms/{second}")).len(), 1, "T16");
    assert!(node.remotes().contains(&second));
}

#[tokio::test]
async fn firewaller_case_t17_an_instance_elsewhere_goes() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    let there = node.remote(OWNER, "10.0.0.9", json!({"role": "db"}));
    node.start().await;
    node.event("fw.add_rule", &rule(&format!("FROM tag role = db TO vm {here} ALLOW tcp PORT 1"))).await;
    assert!(node.admits(here, "10.0.0.9", 1));
    for value in [json!({"owner_uuid": OWNER}), json!({"uuid": InstanceUuid::random()}), json!({"uuid": there}), json!({"uuid": there})] {
        node.event("vm.delete", &value).await;
    }
    assert!(node.remotes().is_empty() && !node.admits(here, "10.0.0.9", 1));
    assert_eq!(node.numbers.status()["tasks_failed"], 0);
}

#[tokio::test]
async fn firewaller_case_t18_a_list_that_is_not_complete_changes_nothing_and_the_next_task_runs() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    node.memory.here().lists_fail = Some("ENOENT: the pool is not there".to_owned());
    let added = rule(&format!("FROM any TO vm {here} ALLOW tcp PORT 22"));
    node.event("fw.add_rule", &added).await;
    assert_eq!((node.rules(), node.numbers.status()["tasks_failed"].clone()), (vec![], json!(1)));
    node.memory.here().lists_fail = None;
    node.event("fw.add_rule", &added).await;
    assert_eq!(node.rules().len(), 1);
}

/// firewaller case F14, and rules that are none
#[tokio::test]
async fn an_event_that_comes_twice_is_as_good_as_once_and_a_bad_one_stops_nobody() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    let mut bad = rule("FROM any TO nonsense");
    node.event("fw.add_rule", &bad).await;
    bad["rule"] = json!(format!("FROM any TO vm {here} ALLOW tcp PORT 22"));
    node.event("fw.add_rule", &bad).await;
    let once = node.memory.here().stored.clone();
    node.event("fw.add_rule", &bad).await;
    assert_eq!(node.memory.here().stored, once);
    assert_eq!(once.rules.len(), 1);
}

/// firewaller cases F10, F11
#[tokio::test]
async fn after_garbage_or_an_end_the_agent_subscribes_again_and_compares() {
    let mut node = Node::new();
    let here = node.local("10.0.0.1", json!({}));
    node.start().await;
    let syncs = || node.numbers.status()["syncs"].as_u64().unwrap();
    for garbage in [Some(&b"\x09garbage that is no frame"[..]), None] {
        let (before, subscriptions) = (syncs(), node.standin.fast_clients().1);
        match garbage {
            Some(bytes) => node.standin.say_to_fast(bytes),
            None => node.standin.close_fast(),
        }
        eventually("subscribed and compared again", || node.standin.fast_clients().1 > subscriptions && syncs() > before).await;
    }
    node.fwapi_rule(&json!({"rule": format!("FROM any TO vm {here} ALLOW tcp PORT 22"), "owner_uuid": OWNER, "enabled": true})).await;
    eventually("events come again", || node.admits(here, "10.8.0.1", 22)).await;
    assert_eq!(node.standin.violations(), []);
}
