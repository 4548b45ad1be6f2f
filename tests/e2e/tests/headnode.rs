//! A compute node as the headnode sees it: everything by HTTP.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::collections::BTreeSet;

use serde_json::{Value, json};
use triton_e2e::{Headnode, IMAGE_UUID, Node, assert_no_trace, http, until, until_some};

fn await_job(node: &Node, reply: &Value) {
    let job = reply["job_uuid"].as_str().unwrap_or_else(|| panic!("no job: {reply}"));
    let done = until_some("the job has ended", || {
        let job = http(node, Headnode::VMAPI, "GET", &format!("/jobs/{job}"), None).json();
        (job["execution"] != "running" && job["execution"] != "queued").then_some(job)
    });
    assert_eq!(done["execution"], "succeeded", "{done:#}");
}

/// Issue, "must be seen", points 1 and 2.
#[test]
fn an_instance_is_provisioned_stopped_started_rebooted_and_destroyed_by_http_alone() {
    let node = Node::new("http");
    let headnode = Headnode::start(&node);
    let server = headnode.server();
    let mut payload = node.payload(5);
    payload["owner_uuid"] = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013".into();
    payload["nics"][0]["network_uuid"] = "f8d9cc9b-7a7a-4f2e-8d7f-5d1ae1e7c1b7".into();
    let reply = http(&node, Headnode::VMAPI, "POST", "/vms", Some(&payload));
    assert!((200..300).contains(&reply.status), "{reply:?}");
    let reply = reply.json();
    await_job(&node, &reply);
    let uuid = reply["vm_uuid"].as_str().unwrap().to_owned();
    let load = || http(&node, Headnode::CNAPI, "GET", &format!("/servers/{server}/vms/{uuid}"), None);
    let vm = load().json();
    assert_eq!((vm["state"].as_str(), vm["brand"].as_str(), vm["uuid"].as_str()), (Some("running"), Some("lx"), Some(uuid.as_str())));
    assert_eq!(vm["image_uuid"], IMAGE_UUID);
    until("CNAPI knows the instance from the status post", || {
        let record = http(&node, Headnode::CNAPI, "GET", &format!("/servers/{server}"), None).json();
        record["vms"][&uuid]["state"] == "running"
    });
    for (action, state) in [("stop", "stopped"), ("start", "running"), ("reboot", "running")] {
        let reply = http(&node, Headnode::VMAPI, "POST", &format!("/vms/{uuid}?action={action}"), Some(&json!({})));
        await_job(&node, &reply.json());
        assert_eq!(load().json()["state"], state, "{action}");
    }
    let reply = http(&node, Headnode::VMAPI, "DELETE", &format!("/vms/{uuid}"), None);
    await_job(&node, &reply.json());
    assert_eq!(load().status, 404, "VmNotFound is a 404 of CNAPI");

    // The agent's own requests are those of cn-agent.md section 5 and no others.
    let record = http(&node, Headnode::CONTROL, "GET", "/record", None).json();
    let entries = record.as_array().or_else(|| record["requests"].as_array()).unwrap_or_else(|| panic!("{record:#}"));
    let agent: BTreeSet<String> = entries
        .iter()
        .filter(|entry| entry["path"].as_str().is_some_and(|path| path.starts_with("/servers/")) && entry["method"] == "POST")
        .filter(|entry| entry.to_string().contains("cn-agent/"))
        .map(|entry| entry["path"].as_str().unwrap().replace(&server, ":uuid"))
        .collect();
    let want = ["/servers/:uuid", "/servers/:uuid/events/heartbeat", "/servers/:uuid/events/status", "/servers/:uuid/sysinfo"];
    assert_eq!(agent.into_iter().collect::<Vec<_>>(), want);
    let violations = http(&node, Headnode::CONTROL, "GET", "/violations", None).json();
    assert!(
        violations.as_array().is_none_or(Vec::is_empty) && violations["violations"].as_array().is_none_or(Vec::is_empty),
        "{violations:#}"
    );
}

/// cn-agent cases 29, 30, 33, 35, 39, 40, 41
#[test]
fn machine_tasks_answer_as_the_contract_says() {
    let node = Node::with_image("tasks");
    let headnode = Headnode::start(&node);
    let before = node.traces();
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
    let mut payload = node.payload(5);
    payload["uuid"] = uuid.into();
    payload["firewall_rules"] = json!([]);
    payload["image"] = json!({"uuid": IMAGE_UUID});
    let reply = headnode.task("machine_create", &payload);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["vm"]["state"], "running");
    let reply = headnode.task("machine_create", &payload);
    assert_eq!((reply.status, reply.body.as_str()), (500, format!("{{\"error\":\"Machine {uuid} exists.\"}}").as_str()));
    assert_eq!(headnode.task("machine_load", &json!({"uuid": uuid})).json()["uuid"], uuid);
    let info = headnode.task("machine_info", &json!({"uuid": uuid})).json();
    assert!(serde_json::from_str::<Value>(info.as_str().unwrap()).unwrap().is_object());
    assert_eq!(headnode.task("machine_boot", &json!({"uuid": uuid})).status, 200, "ruling 59");
    assert_eq!(headnode.task("machine_boot", &json!({"uuid": uuid, "idempotent": "true"})).json()["vm"]["state"], "running");
    assert_eq!(headnode.task("machine_reboot", &json!({"uuid": uuid})).json()["vm"]["state"], "running");
    assert_eq!(headnode.task("machine_shutdown", &json!({"uuid": uuid, "force": true})).json()["vm"]["state"], "stopped");
    assert_eq!(headnode.task("machine_shutdown", &json!({"uuid": uuid})).status, 200, "ruling 59");
    assert_eq!(headnode.task("machine_kill", &json!({"uuid": uuid})).status, 500);
    assert_eq!(headnode.task("machine_kill", &json!({"uuid": uuid, "idempotent": true})).status, 200);
    assert_eq!(headnode.task("machine_reboot", &json!({"uuid": uuid, "idempotent": true})).status, 500, "ruling 59");
    assert_eq!(headnode.task("image_ensure_present", &json!({"image_uuid": IMAGE_UUID})).body, "{}");
    assert_eq!(headnode.task("image_get", &json!({"uuid": IMAGE_UUID})).json()["uuid"], IMAGE_UUID);
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}", "a missing instance is success");
    let reply = headnode.task("machine_load", &json!({"uuid": uuid}));
    assert_eq!((reply.status, &reply.json()["details"]["restCode"]), (500, &json!("VmNotFound")));
    assert!(reply.json()["error"].as_str().unwrap().starts_with("VM.load error: "));
    assert_no_trace(&node, &before);
}

/// Issue, "must be seen", point 4.
#[test]
fn agents_may_die_and_come_back_and_guests_do_not_notice() {
    let node = Node::with_image("agents");
    let mut headnode = Headnode::start(&node);
    let uuid = node.create(&node.payload(5));
    let before = node.get(&uuid);
    headnode.kill_agent();
    node.guest(&uuid, "true");
    headnode.start_agent(&[]);
    headnode.await_running();
    let after = headnode.task("machine_load", &json!({"uuid": uuid})).json();
    for key in ["pid", "boot_timestamp", "state", "last_modified"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    assert_eq!(node.monitors().iter().filter(|line| line.contains(" run ")).count(), 1);
}

/// Issue, "must be seen", point 3: cn-agent at every step of a creation.
#[test]
fn a_creation_during_which_cn_agent_is_killed_can_be_destroyed() {
    let node = Node::with_image("crash-agent");
    let mut headnode = Headnode::start(&node);
    let before = node.traces();
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
    let mut payload = node.payload(5);
    payload["uuid"] = uuid.into();
    let trace = node.layout().at("/var/tmp/steps").to_string_lossy().into_owned();
    headnode.kill_agent();
    headnode.start_agent(&[("TRITON_STEP_TRACE", trace.as_str())]);
    headnode.await_running();
    assert_eq!(headnode.task("machine_create", &payload).status, 200);
    let text = std::fs::read_to_string(&trace).unwrap();
    assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}");
    let steps: BTreeSet<&str> = text.lines().collect();
    assert!(steps.len() >= 8, "{steps:?}");
    for step in steps {
        headnode.kill_agent();
        headnode.start_agent(&[("TRITON_STEP_KILL", step)]);
        until(&format!("cn-agent has taken the task and died at {step}"), || {
            // The task is lost with its agent: the connection ends without an answer.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| headnode.task("machine_create", &payload)));
            headnode.agent_ended()
        });
        headnode.start_agent(&[]);
        headnode.await_running();
        let reply = headnode.task("machine_load", &json!({"uuid": uuid}));
        if reply.status == 200 {
            let state = reply.json()["state"].as_str().unwrap().to_owned();
            assert!(["failed", "stopped", "running", "ready"].contains(&state.as_str()), "{step}: {state}");
        }
        assert_eq!(headnode.task("machine_destroy", &json!({"uuid": uuid})).body, "{}", "{step}");
        assert_no_trace(&node, &before);
    }
}
