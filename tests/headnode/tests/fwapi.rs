//! FWAPI of the stand-in: `/resolve` of section 15.6, `/rules`, `/updates`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{Answer, Here, OWNER, ask, start};
use serde_json::{Value, json};

const X: &str = "7f2e0d3c-5a2b-4d8e-9c1f-0a1b2c3d4e5f";

fn fwapi(world: &Here, method: &str, path: &str, body: &Value) -> Answer {
    ask(world.standin.fwapi_url(), method, path, (!body.is_null()).then_some(body))
}

fn resolve(rules: &[&str], question: &Value) -> (Vec<Value>, Value) {
    let world = start();
    for rule in rules {
        let rule = rule.replace("vm X", &format!("vm {X}"));
        let made = fwapi(&world, "POST", "/rules", &json!({"rule": rule, "owner_uuid": OWNER, "enabled": true}));
        assert_eq!(made.status, 202, "{}", String::from_utf8_lossy(&made.body));
        assert!(!made.header("x-update-id").is_empty());
    }
    let mut question = question.clone();
    question["owner_uuid"] = json!(OWNER);
    let answer = fwapi(&world, "POST", "/resolve", &question).json();
    (answer["rules"].as_array().unwrap().clone(), json!([answer["tags"], answer["vms"], answer["allVMs"]]))
}

/// firewaller case V1
#[test]
fn firewaller_case_v1_rules_of_a_tag_and_whom_they_speak_of() {
    let rules = [
        "FROM tag other TO tag role ALLOW tcp PORT 1",
        "FROM vm X TO tag role = web ALLOW tcp PORT 2",
        "FROM (tag foo = bar OR tag foo = baz) TO tag role = web ALLOW tcp PORT 3",
    ];
    let (found, peers) = resolve(&rules, &json!({"tags": {"role": ["web"]}}));
    assert_eq!((found.len(), peers), (3, json!([{"other": true, "foo": ["bar", "baz"]}, [X], false])));
}

/// firewaller cases V2 to V6
#[test]
fn firewaller_case_v2_to_v6_sides_that_change_nothing_name_nobody() {
    let one = |rule: &str, question: Value| {
        let (found, peers) = resolve(&[rule], &question);
        assert_eq!(found.len(), 1, "{rule}");
        peers
    };
    let nobody = json!([{}, [], false]);
    let everybody = json!([{}, [], true]);
    assert_eq!(one("FROM vm X TO tag role = web ALLOW tcp PORT 2", json!({"vms": [X]})), nobody);
    assert_eq!(one("FROM vm X TO all vms BLOCK udp PORT 4", json!({"vms": [X]})), everybody);
    assert_eq!(one("FROM tag one TO all vms BLOCK udp PORT 5", json!({"tags": {"unknown": ["1"]}})), nobody);
    let all_to_one = "FROM all vms TO tag one ALLOW udp PORT 6";
    assert_eq!(one(all_to_one, json!({"tags": {"one": ["1"]}})), everybody);
    assert_eq!(one(all_to_one, json!({"tags": {"other": ["1"]}})), nobody);
    let blocked = json!({"tags": {"n": ["1"]}});
    assert_eq!(one("FROM tag a TO tag n BLOCK tcp PORT 9 PRIORITY 1", blocked.clone()), json!([{"a": true}, [], false]));
    assert_eq!(one("FROM tag a TO tag n BLOCK tcp PORT 9", blocked), nobody);
}

/// firewaller case V7
#[test]
fn firewaller_case_v7_a_question_needs_an_owner() {
    assert_eq!(fwapi(&start(), "POST", "/resolve", &json!({"vms": [X]})).status, 422);
}

#[test]
fn rules_are_made_changed_listed_and_removed() {
    let world = start();
    let text = "FROM any TO all vms ALLOW tcp PORT 22";
    let rule = fwapi(&world, "POST", "/rules", &json!({"rule": text, "owner_uuid": OWNER})).json();
    let path = format!("/rules/{}", rule["uuid"].as_str().unwrap());
    assert_eq!(fwapi(&world, "PUT", &path, &json!({"enabled": true})).json()["enabled"], true);
    assert_eq!(fwapi(&world, "GET", "/rules?enabled=true&limit=1", &Value::Null).json().as_array().unwrap().len(), 1);
    assert_eq!(fwapi(&world, "GET", "/rules?global=true", &Value::Null).json(), json!([]));
    for bad in
        [json!({"rule": text}), json!({"rule": text, "owner_uuid": OWNER, "global": true}), json!({"rule": "FROM any TO any ALLOW ah"})]
    {
        assert_eq!(fwapi(&world, "POST", "/rules", &bad).status, 422, "{bad}");
    }
    assert_eq!(fwapi(&world, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(fwapi(&world, "GET", &path, &Value::Null).status, 404);
    assert_eq!(fwapi(&world, "POST", "/updates", &json!({"type": "sync"})).status, 202);
    assert_eq!(fwapi(&world, "POST", "/updates", &json!({"type": "nonsense"})).status, 422);
}
