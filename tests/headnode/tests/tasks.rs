//! Tasks: how the agent is asked, and what becomes of its answer.

#![allow(missing_docs, clippy::unwrap_used, clippy::type_complexity, reason = "tests say what they show by their names, and may panic")]

mod common;

use std::time::Duration;

use common::*;
use headnode_standin::{Direction, Limits};
use serde_json::{Value, json};

struct Node {
    here: Here,
    agent: FakeAgent,
}

fn node() -> Node {
    let (here, agent) = (start(), FakeAgent::start());
    register(&here.standin, agent.port);
    Node { here, agent }
}

impl Node {
    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        ask(self.here.standin.cnapi_url(), method, &format!("/servers/{SERVER}{path}"), Some(body))
    }

    /// Sends a task and waits for its record.
    fn run(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        ask(self.here.standin.cnapi_url(), "GET", &format!("/tasks/{id}/wait"), None).json()
    }
}

/// cn-agent case 55
#[test]
fn a_success_becomes_the_finish_event_and_a_failure_its_message() {
    let node = node();
    node.agent.answer(200, &json!({"vm": {"uuid": VM, "state": "running"}}));
    let task = node.run("POST", &format!("/vms/{VM}/start"), &json!({"idempotent": true, "jobid": "j"}));
    assert_eq!(task["status"], "complete");
    assert_eq!(task["history"][0]["name"], "finish");
    assert_eq!(task["history"][0]["event"]["vm"]["state"], "running");
    let got = node.agent.last();
    assert_eq!(got.body["task"], "machine_boot");
    let params = &got.body["params"];
    assert_eq!((&params["uuid"], &params["server_uuid"], &params["idempotent"]), (&json!(VM), &json!(SERVER), &json!(true)));
    assert_eq!(params["jobid"], "j");

    node.agent.answer(500, &json!({"error": "x"}));
    let task = node.run("DELETE", &format!("/vms/{VM}"), &json!({}));
    assert_eq!(task["status"], "failure");
    assert_eq!(task["history"][0]["name"], "error");
    assert_eq!(task["history"][0]["event"]["error"]["message"], "x");
    assert_eq!((&task["history"][1]["name"], &task["history"][1]["event"]), (&json!("finish"), &json!({})));
    assert_eq!(node.here.standin.violations(), []);
}

#[test]
fn the_agent_is_asked_with_the_headers_of_the_contract() {
    let node = node();
    let path = format!("/servers/{SERVER}/vms/{VM}?include_dni=true");
    node.agent.answer(200, &json!({"uuid": VM}));
    let headers = [("x-request-id", "11111111-2222-3333-4444-555555555555")];
    assert_eq!(ask_with(node.here.standin.cnapi_url(), "GET", &path, &headers, b"").unwrap().status, 200);
    let got = node.agent.last();
    assert!(got.head.starts_with("post /tasks http/1.1"), "{}", got.head);
    for line in [
        &format!("x-server-uuid: {SERVER}"),
        "x-request-id: 11111111-2222-3333-4444-555555555555",
        "accept: application/json",
        "content-type: application/json",
        "content-md5: ",
        "user-agent: restify/",
    ] {
        assert!(got.head.contains(line), "{line} in {}", got.head);
    }
    assert_eq!(got.body["params"]["include_dni"], "true", "a query's value stays a string");
    let sent: Vec<_> = node.here.standin.record(0).into_iter().filter(|entry| entry.direction == Direction::Sent).collect();
    assert_eq!((sent.len(), sent[0].status, &sent[0].body), (1, Some(200), &got.body));
}

/// cn-agent case 12
#[test]
fn only_vm_not_found_of_the_reading_tasks_becomes_404() {
    let node = node();
    let missing = json!({"error": "VM.load error: VM 0cc6 does not exist", "details": {"restCode": "VmNotFound"}});
    for path in ["", "/info", "/proc"] {
        node.agent.answer(500, &missing);
        let answer = node.ask("GET", &format!("/vms/{VM}{path}"), &json!({}));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("ResourceNotFound")), "{path}");
    }
    node.agent.answer(500, &json!({"error": "VM is not running", "details": {"restCode": "VmNotRunning"}}));
    let answer = node.ask("GET", &format!("/vms/{VM}/proc"), &json!({}));
    assert_eq!((answer.status, answer.json()["message"].as_str()), (500, Some("VM is not running")));
    assert_eq!(node.here.standin.violations(), []);
}

#[test]
fn replies_of_another_form_are_complained_about() {
    let node = node();
    for (status, body, field) in [
        (500, json!({"error": {"error": "nested"}}), "error"),
        (500, json!({"request_id": "r", "error_code": "X", "message": "m"}), "error"),
        (500, json!({"error": "x", "details": "VmNotFound"}), "details"),
        (200, Value::Null, "body"),
        (404, json!({"error": "unknown"}), "body"),
        (418, json!({"code": "a", "message": "b"}), "status"),
    ] {
        let before = node.here.standin.violations().len();
        node.agent.answer(status, &body);
        node.run("POST", "/nop", &json!({}));
        let found = node.here.standin.violations().split_off(before);
        assert!(found.iter().any(|v| v.about == "task-reply" && v.field == format!("nop: {field}")), "{field}: {found:?}");
    }
    let before = node.here.standin.violations().len();
    node.agent.answer_text(404, "");
    let task = node.run("POST", "/nop", &json!({}));
    assert_eq!(task["status"], "failure");
    assert_eq!(node.here.standin.violations().len(), before, "an empty 404 says that the agent has not started yet");
}

#[test]
fn machine_create_needs_an_image_with_files() {
    let node = node();
    for image in [Value::Null, json!({"uuid": IMAGE}), json!({"uuid": IMAGE, "files": []})] {
        let answer = node.ask("POST", "/vms", &json!({"uuid": VM, "image": image}));
        assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("InvalidArgument")));
    }
    assert!(node.agent.got.lock().unwrap().is_empty(), "nothing was sent");
    node.run("POST", "/vms", &json!({"uuid": VM, "image": {"uuid": IMAGE, "files": [{"compression": "gzip"}]}}));
    let params = node.agent.last().body["params"].clone();
    assert_eq!(params["dataset_url_compression"], "gzip");
    assert!(params["dataset_url"].as_str().unwrap().ends_with(&format!("/images/{IMAGE}/file")));
}

#[test]
fn tasks_are_gated_by_the_recorded_version_of_cn_agent() {
    let node = node();
    let version = |version: &str| report(&node.here.standin, "", &json!({"agents": [{"name": "cn-agent", "version": version}]}));
    for (recorded, task, status) in [
        ("2.9.0", "/sysinfo-refresh", 412),
        ("2.11.0-master-20240101T000000Z", "/reboot", 412),
        ("2.11.0", "/reboot", 202),
        ("2.13.0-x", "/recovery-config", 412),
        ("0.1.0", "/execute", 412),
        ("nonsense", "/uninstall-agents", 412),
        ("2.15.0-master-20240424T000000Z", "/recovery-config", 202),
    ] {
        version(recorded);
        assert_eq!(node.ask("POST", task, &json!({"script": "x"})).status, status, "{recorded} {task}");
    }
}

#[test]
fn sysinfo_refresh_stores_what_the_agent_sends_and_refuses_what_is_none() {
    let node = node();
    let mut document = sysinfo(node.agent.port);
    document["Hostname"] = json!("renamed");
    node.agent.answer(200, &json!({"sysinfo": document}));
    assert_eq!(node.ask("POST", "/sysinfo-refresh", &json!({})).status, 200);
    assert_eq!(node.here.standin.server(SERVER).unwrap()["sysinfo"]["Hostname"], "renamed");
    node.agent.answer(200, &json!({"sysinfo": {"UUID": "no"}}));
    assert_eq!(node.ask("POST", "/sysinfo-refresh", &json!({})).status, 500);
}

#[test]
fn a_script_s_failure_is_an_error_unless_json_was_asked_for() {
    let node = node();
    let result =
        json!({"err": {"message": "exec \"/tmp/x\": exited with status 7"}, "exitCode": 7, "signal": null, "stderr": "", "stdout": ""});
    node.agent.answer(200, &result);
    let answer = node.ask("POST", "/execute", &json!({"script": "exit 7"}));
    assert_eq!((answer.status, answer.json()["message"].as_str()), (500, Some("exec \"/tmp/x\": exited with status 7")));
    node.agent.answer(200, &result);
    assert_eq!(node.ask("POST", "/execute", &json!({"script": "exit 7", "json": true})).json(), result);
    node.agent.answer(200, &json!({"err": null, "exitCode": 0, "stdout": "hi\n"}));
    assert_eq!(node.ask("POST", "/execute", &json!({"script": "echo hi"})).json()["stdout"], "hi\n");
    let fields: Vec<_> = node.here.standin.violations().into_iter().map(|v| v.field).collect();
    assert_eq!(fields, ["command_execute: signal", "command_execute: stderr"]);
}

#[test]
fn history_must_be_a_bare_array_and_pause_must_answer_204() {
    let node = node();
    let entry = json!({"started_at": "2024-05-02T10:11:12.118Z", "task": "nop", "pid": 1, "params": {}, "status": "active", "errorCount": 0,
        "messages": [], "log": []});
    node.agent.answer(200, &json!([entry]));
    assert_eq!(node.ask("GET", "/task-history", &json!({})).json(), json!([entry]));
    assert!(node.agent.last().head.starts_with("get /history"));
    assert_eq!(node.here.standin.violations(), []);
    node.agent.answer(200, &json!({"entries": []}));
    assert_eq!(node.ask("GET", "/task-history", &json!({})).status, 500);
    node.agent.answer_text(204, "");
    assert_eq!(node.ask("POST", "/cn-agent/pause", &json!({})).status, 204);
    assert!(node.agent.last().head.starts_with("post /pause"));
    node.agent.answer(200, &json!({}));
    assert_eq!(node.ask("POST", "/cn-agent/resume", &json!({})).status, 500);
}

#[test]
fn an_agent_that_cannot_be_reached_or_is_too_slow_fails_the_task() {
    let here = start_with(|config| config.limits = Limits { load: Duration::from_millis(50), ..Limits::default() });
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    register(&here.standin, port);
    let answer = ask(here.standin.cnapi_url(), "GET", &format!("/servers/{SERVER}/vms/{VM}"), None);
    assert_eq!(answer.status, 500);
    assert!(answer.json()["message"].as_str().unwrap().contains("timeout"));
    drop(silent);
    let id = ask(here.standin.cnapi_url(), "POST", &format!("/servers/{SERVER}/nop"), Some(&json!({}))).json()["id"].clone();
    let task = ask(here.standin.cnapi_url(), "GET", &format!("/tasks/{}/wait", id.as_str().unwrap()), None).json();
    assert_eq!(task["status"], "failure");
    assert!(task["history"][0]["event"]["error"]["message"].as_str().unwrap().contains("refused"), "{task}");
}
