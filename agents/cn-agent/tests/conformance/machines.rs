//! Cases 29 to 36 and 39: instances, with a stateful fake below.

use std::time::Duration;

use cn_agent::Limits;
use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

use crate::support::{Answer, Bed, Builder, eventually};

/// cn-agent case 29
#[tokio::test]
async fn machine_load_gives_the_object_itself_and_hides_what_is_not_inventoried() {
    let bed = Bed::start().await;
    let (seen, hidden) = (bed.node.add(true, false), bed.node.add(false, true));
    assert_eq!(bed.task("machine_load", json!({"uuid": seen})).await.json(), json!({"uuid": seen, "state": "running"}));
    let reply = bed.task("machine_load", json!({"uuid": hidden})).await;
    assert_eq!((reply.status, &reply.json()["details"]), (500, &json!({"restCode": "VmNotFound"})));
    assert!(reply.json()["error"].as_str().unwrap().starts_with("VM.load error: "));
    for dni in [json!(true), json!("true")] {
        assert_eq!(bed.task("machine_load", json!({"uuid": hidden, "include_dni": dni})).await.status, 200);
    }
    assert_eq!(bed.task("machine_load", json!({"uuid": hidden, "include_dni": "false"})).await.status, 500);
}

/// cn-agent case 30
#[tokio::test]
async fn a_second_creation_of_a_uuid_is_refused_before_and_after_the_first_has_ended() {
    let bed = Bed::start().await;
    let uuid = InstanceUuid::random();
    let refusal = json!({"error": format!("Machine {uuid} exists.")}).to_string();
    bed.node.close_gate();
    let first = bed.later("machine_create", json!({"uuid": uuid}));
    bed.called("create").await;
    assert_eq!(bed.task("machine_create", json!({"uuid": uuid})).await.seen(), (500, refusal.as_str()));
    assert!(bed.guard(uuid).exists(), "the refused one must not remove the first one's guard");
    bed.node.open_gate();
    assert_eq!(first.await.unwrap().json(), json!({"vm": {"uuid": uuid, "state": "running"}}));
    assert!(!bed.guard(uuid).exists());
    assert_eq!(bed.task("machine_create", json!({"uuid": uuid})).await.seen(), (500, refusal.as_str()));
    assert_eq!(bed.node.calls(), [format!("create {uuid}")]);
}

/// cn-agent case 30
#[tokio::test]
async fn an_instance_that_is_not_inventoried_exists_for_a_creation() {
    let bed = Bed::start().await;
    let hidden = bed.node.add(false, true);
    assert_eq!(bed.task("machine_create", json!({"uuid": hidden})).await.json()["error"], format!("Machine {hidden} exists."));
    assert_eq!(bed.task("machine_create", json!({})).await.json()["error"], "Required 'uuid' param not found");
}

/// cn-agent case 31
#[tokio::test]
async fn firewall_rules_are_put_before_the_instance_is_made() {
    let bed = Bed::start().await;
    let (uuid, rule) = (InstanceUuid::random(), uuid::Uuid::new_v4());
    let rules = json!([{"uuid": rule, "rule": "FROM any TO all vms ALLOW tcp PORT 22", "enabled": true}]);
    bed.firewaller.answer_with("", [Answer { after: Duration::from_millis(100), ..Answer::status(200) }]);
    bed.node.close_gate();
    let create = bed.later("machine_create", json!({"uuid": uuid, "firewall_rules": rules}));
    bed.called("create").await;
    let puts = bed.firewaller.all();
    assert_eq!(puts.len(), 1);
    assert_eq!((puts[0].method.as_str(), puts[0].path.as_str()), ("PUT", format!("/rules/{rule}").as_str()));
    assert_eq!((&puts[0].body, puts[0].content_type.as_str()), (&rules[0], "application/json"));
    bed.node.open_gate();
    let reply = create.await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-request-id"), Some(puts[0].request_id.as_str()), "the caller's request id is passed on");
}

/// cn-agent case 31
#[tokio::test]
async fn a_rule_that_is_refused_fails_the_creation_and_nothing_is_made() {
    let bed = Bed::start().await;
    let uuid = InstanceUuid::random();
    let rule = uuid::Uuid::new_v4();
    bed.firewaller.answer_with("", [Answer { body: r#"{"code":"InvalidParameter","message":"no"}"#, ..Answer::status(422) }]);
    let reply = bed.task("machine_create", json!({"uuid": uuid, "firewall_rules": [{"uuid": rule, "rule": "nonsense"}]})).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    assert!(reply.status == 500 && error.contains(&rule.to_string()) && error.contains("InvalidParameter"), "{reply:?}");
    let reply = bed.task("machine_create", json!({"uuid": uuid, "firewall_rules": [{"rule": "without uuid"}]})).await;
    assert_eq!(reply.json()["error"], "a firewall rule has no uuid");
    assert!(bed.node.calls().is_empty() && !bed.guard(uuid).exists());
    assert_eq!(bed.task("machine_create", json!({"uuid": uuid, "firewall_rules": []})).await.status, 200);
}

/// cn-agent case 32
#[tokio::test]
async fn a_failed_import_is_passed_on_and_leaves_no_guard_for_the_destruction_to_wait_for() {
    let bed = Bed::start().await;
    let (uuid, image) = (InstanceUuid::random(), ImageUuid::random());
    bed.node.fail("import", "image not found in any source");
    let params = json!({"uuid": uuid, "disks": [{"image_uuid": image}], "zpool": "zones"});
    let reply = bed.task("machine_create", params).await;
    assert_eq!(reply.seen(), (500, r#"{"error":"image not found in any source"}"#));
    assert!(!bed.guard(uuid).exists());
    assert_eq!(bed.task("machine_destroy", json!({"uuid": uuid})).await.seen(), (200, "{}"));
    assert_eq!(bed.node.calls(), [format!("import {image} Some(\"zones\")")], "nothing was made or deleted");
}

#[tokio::test]
async fn a_failed_creation_answers_with_the_message_alone_and_removes_its_guard() {
    let bed = Bed::start().await;
    let uuid = InstanceUuid::random();
    bed.node.fail("create", "no space left");
    assert_eq!(bed.task("machine_create", json!({"uuid": uuid})).await.seen(), (500, r#"{"error":"no space left"}"#));
    assert!(!bed.guard(uuid).exists());
    let reply = bed.task("machine_create", json!({"uuid": uuid, "image_uuid": "nonsense"})).await;
    assert!(reply.json()["error"].as_str().unwrap().contains("image_uuid"), "{reply:?}");
    assert!(!bed.guard(uuid).exists());
}

#[tokio::test]
async fn a_creation_whose_time_is_over_keeps_its_place_until_it_has_really_ended() {
    let limits = Limits { task_timeout: Duration::from_millis(200), ..Limits::default() };
    let bed = Builder { limits, ..Builder::default() }.start().await;
    let uuid = InstanceUuid::random();
    bed.node.close_gate();
    assert!(bed.task("machine_create", json!({"uuid": uuid})).await.body.contains("timed out"));
    assert!(bed.guard(uuid).exists(), "it still goes on");
    assert!(bed.task("machine_destroy", json!({"uuid": uuid})).await.body.contains("timed out"), "a deletion waits for it");
    bed.node.open_gate();
    eventually("the guard goes", || (!bed.guard(uuid).exists()).then_some(())).await;
    assert!(!bed.node.calls().iter().any(|call| call.starts_with("delete")), "a task whose time is over does not begin later");
    assert_eq!(bed.task("machine_destroy", json!({"uuid": uuid})).await.status, 200);
    assert!(bed.node.vms.lock().unwrap().is_empty());
}

/// cn-agent case 33
#[tokio::test]
async fn destroying_an_absent_instance_succeeds_and_other_failures_do_not() {
    let bed = Bed::start().await;
    assert_eq!(bed.task("machine_destroy", json!({"uuid": InstanceUuid::random()})).await.seen(), (200, "{}"));
    let (uuid, hidden) = (bed.node.add(true, false), bed.node.add(true, true));
    bed.node.fail("delete", "dataset is busy");
    assert_eq!(bed.task("machine_destroy", json!({"uuid": uuid})).await.seen(), (500, r#"{"error":"delete error: dataset is busy"}"#));
    bed.node.fail("delete", "first line\nzoneadm: zone x: No such zone configured");
    assert_eq!(bed.task("machine_destroy", json!({"uuid": uuid})).await.seen(), (200, "{}"));
    assert_eq!(bed.task("machine_destroy", json!({"uuid": hidden})).await.seen(), (200, "{}"));
    assert!(bed.node.vms.lock().unwrap().contains_key(&hidden), "a hidden instance is not there without include_dni");
    assert_eq!(bed.task("machine_destroy", json!({"uuid": hidden, "include_dni": true})).await.seen(), (200, "{}"));
    assert!(!bed.node.vms.lock().unwrap().contains_key(&hidden));
}

/// cn-agent case 34
#[tokio::test]
async fn a_destruction_waits_for_the_guard_of_somebody_else() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    std::fs::write(bed.guard(uuid), "").unwrap();
    let destroy = bed.later("machine_destroy", json!({"uuid": uuid}));
    while bed.history().await.is_empty() {}
    // Other work goes on meanwhile, and is enough for the destruction to have looked at the guard.
    for _ in 0..20 {
        bed.task("nop", json!({})).await;
    }
    assert!(!destroy.is_finished() && bed.node.calls().is_empty());
    std::fs::remove_file(bed.guard(uuid)).unwrap();
    assert_eq!(destroy.await.unwrap().seen(), (200, "{}"));
    assert_eq!(bed.node.calls(), [format!("delete {uuid}")]);
}

/// cn-agent case 34
#[tokio::test]
async fn a_guard_that_cannot_be_looked_at_fails_the_destruction() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    std::fs::remove_dir_all(bed.layout.at("/var/tmp")).unwrap();
    std::fs::write(bed.layout.at("/var/tmp"), "no directory").unwrap();
    let reply = bed.task("machine_destroy", json!({"uuid": uuid})).await;
    assert!(reply.status == 500 && reply.body.contains("machine-provision-"), "{reply:?}");
}

/// cn-agent case 35, as ruling 59 reads it
#[tokio::test]
async fn what_is_already_so_is_success_for_start_and_stop_and_an_error_for_kill_and_reboot() {
    let bed = Bed::start().await;
    let (running, stopped) = (bed.node.add(true, false), bed.node.add(false, false));
    let result = |uuid: InstanceUuid, state: &str| json!({"vm": {"uuid": uuid, "state": state}});
    for idempotent in [json!(false), json!(true), json!("true")] {
        let reply = bed.task("machine_boot", json!({"uuid": running, "idempotent": idempotent})).await;
        assert_eq!((reply.status, reply.json()), (200, result(running, "running")));
        let reply = bed.task("machine_shutdown", json!({"uuid": stopped, "idempotent": idempotent})).await;
        assert_eq!((reply.status, reply.json()), (200, result(stopped, "stopped")));
        let reply = bed.task("machine_reboot", json!({"uuid": stopped, "idempotent": idempotent})).await;
        let expected = r#"{"error":"vmadm.reboot error: Cannot reboot vm from state \"stopped\", must be \"running\""}"#;
        assert_eq!(reply.seen(), (500, expected));
    }
    let kill = |idempotent: Value| json!({"uuid": stopped, "idempotent": idempotent});
    let reply = bed.task("machine_kill", kill(json!(false))).await;
    assert_eq!(reply.seen(), (500, format!(r#"{{"error":"vmadm.kill error: Cannot find running init PID for VM {stopped}"}}"#).as_str()));
    assert_eq!(bed.task("machine_kill", kill(json!("true"))).await.json(), result(stopped, "stopped"));
}

#[tokio::test]
async fn start_stop_reboot_and_kill_do_what_they_say() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(false, false);
    let state = |reply: crate::support::Reply| reply.json()["vm"]["state"].as_str().map(str::to_owned);
    assert_eq!(state(bed.task("machine_boot", json!({"uuid": uuid, "update": {"alias": "a"}})).await).as_deref(), Some("running"));
    assert_eq!(
        state(bed.task("machine_reboot", json!({"uuid": uuid, "force": "true", "timeout": "30"})).await).as_deref(),
        Some("running")
    );
    assert_eq!(state(bed.task("machine_kill", json!({"uuid": uuid, "signal": 9})).await).as_deref(), Some("stopped"));
    assert_eq!(state(bed.task("machine_boot", json!({"uuid": uuid})).await).as_deref(), Some("running"));
    assert_eq!(state(bed.task("machine_shutdown", json!({"uuid": uuid, "timeout": "30"})).await).as_deref(), Some("stopped"));
    let calls = [
        format!(r#"update {uuid} {{"alias":"a"}}"#),
        format!("start {uuid}"),
        format!("reboot {uuid} force=true timeout=None"),
        format!("kill {uuid} Some(\"9\")"),
        format!("start {uuid}"),
        format!("stop {uuid} force=false timeout=Some(30)"),
    ];
    assert_eq!(bed.node.calls(), calls);
    bed.node.fail("update", "no such property");
    let reply = bed.task("machine_boot", json!({"uuid": uuid, "update": {"x": 1}})).await;
    assert_eq!(reply.seen(), (500, r#"{"error":"vmadm.update error: no such property"}"#));
    bed.node.fail("start", "guest did not start");
    assert_eq!(
        bed.task("machine_boot", json!({"uuid": uuid})).await.seen(),
        (500, r#"{"error":"vmadm.start error: guest did not start"}"#)
    );
}

/// cn-agent case 36
#[tokio::test]
async fn a_timeout_of_a_wrong_type_is_refused_before_anything_is_done() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    for task in ["machine_shutdown", "machine_reboot"] {
        let reply = bed.task(task, json!({"uuid": uuid, "timeout": {}})).await;
        assert_eq!(reply.seen(), (500, r#"{"error":"Invalid type: \"object\" for timeout"}"#));
    }
    assert!(bed.node.calls().is_empty());
}

#[tokio::test]
async fn a_missing_instance_has_its_rest_code_in_every_task() {
    let bed = Bed::start().await;
    let uuid = InstanceUuid::random();
    for (task, prefix) in [
        ("machine_boot", "vmadm.start error: "),
        ("machine_shutdown", "vmadm.stop error: "),
        ("machine_reboot", "vmadm.reboot error: "),
        ("machine_kill", "vmadm.kill error: "),
        ("machine_info", "vmadm.info error: "),
        ("machine_load", "VM.load error: "),
    ] {
        let reply = bed.task(task, json!({"uuid": uuid})).await;
        assert_eq!((reply.status, &reply.json()["details"]["restCode"]), (500, &json!("VmNotFound")), "{task}");
        assert!(reply.json()["error"].as_str().unwrap().starts_with(prefix), "{reply:?}");
        let reply = bed.task(task, json!({"uuid": "../etc"})).await;
        assert!(reply.status == 500 && reply.json()["error"].is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn changes_of_one_instance_take_turns_and_questions_do_not_wait() {
    let bed = Bed::start().await;
    let (uuid, other) = (bed.node.add(true, false), bed.node.add(false, false));
    bed.node.close_gate();
    let stop = bed.later("machine_shutdown", json!({"uuid": uuid}));
    bed.called("stop").await;
    let boot = bed.later("machine_boot", json!({"uuid": uuid}));
    // The kill passes: it is how a shutdown that hangs is ended.
    for task in ["machine_load", "machine_info", "machine_kill"] {
        assert_eq!(bed.task(task, json!({"uuid": uuid})).await.status, 200, "{task}");
    }
    assert_eq!(bed.task("server_sysinfo", json!({})).await.status, 200);
    let on_other = bed.later("machine_boot", json!({"uuid": other}));
    bed.called(&format!("start {other}")).await;
    assert!(!bed.node.calls().contains(&format!("start {uuid}")), "the boot waits for the shutdown");
    bed.node.open_gate();
    for task in [stop, boot, on_other] {
        assert_eq!(task.await.unwrap().status, 200);
    }
    assert_eq!(bed.node.calls().last(), Some(&format!("start {uuid}")));
}

#[tokio::test]
async fn a_crowd_of_slow_changes_leaves_room_for_questions() {
    let bed = Bed::start().await;
    let uuids: Vec<_> = (0..40).map(|_| bed.node.add(true, false)).collect();
    bed.node.close_gate();
    let stops: Vec<_> = uuids.iter().map(|uuid| bed.later("machine_shutdown", json!({"uuid": uuid}))).collect();
    eventually("as many changes as may run", || (bed.node.calls().len() >= 20).then_some(())).await;
    assert_eq!(bed.task("machine_load", json!({"uuid": uuids[0]})).await.status, 200);
    assert_eq!(bed.node.calls().len(), 20);
    bed.node.open_gate();
    for stop in stops {
        assert_eq!(stop.await.unwrap().status, 200);
    }
}

/// cn-agent case 39
#[tokio::test]
async fn machine_info_is_a_string_that_holds_json() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    for (types, expected) in [(json!(["vnc"]), json!(["vnc"])), (json!(null), json!(["all"])), (json!("a,b"), json!(["a", "b"]))] {
        let reply = bed.task("machine_info", json!({"uuid": uuid, "types": types})).await.json();
        let inner: Value = serde_json::from_str(reply.as_str().unwrap()).unwrap();
        assert_eq!(inner["types"], expected);
    }
}

/// cn-agent case 57
#[tokio::test]
async fn guards_left_by_an_earlier_agent_are_gone_after_the_start() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("var/tmp");
    std::fs::create_dir_all(&directory).unwrap();
    let names = ["machine-provision-0cc6", "machine-creation-0cc6"].map(|name| directory.join(name));
    for name in &names {
        std::fs::write(name, "").unwrap();
    }
    let bed = Builder { root: Some(root), ..Builder::default() }.start().await;
    assert!(names.iter().all(|name| !name.exists()));
    assert!(bed.layout.at("/var/tmp").is_dir());
}
