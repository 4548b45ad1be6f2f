//! Cases 1 to 20: the HTTP layer.

use std::{sync::Arc, time::Duration};

use cn_agent::{Limits, TaskName};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{Answer, Bed, Builder, Recorder, eventually, send};

/// cn-agent case 1
#[tokio::test]
async fn the_history_of_a_fresh_agent_is_an_empty_array() {
    let bed = Bed::start().await;
    assert_eq!(bed.send("GET /history", "").await.seen(), (200, "[]"));
}

/// cn-agent cases 2 and 3
#[tokio::test]
async fn a_task_may_be_named_in_the_query_in_json_or_in_a_form() {
    let bed = Bed::start().await;
    assert_eq!(bed.send("POST /tasks?task=nop", r#"{"params":{}}"#).await.seen(), (200, "{}"));
    assert_eq!(bed.send("POST /tasks", r#"{"task":"nop","params":{}}"#).await.seen(), (200, "{}"));
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(send(bed.address, "POST /tasks", &form, "task=nop&params=1").await.seen(), (200, "{}"));
    assert_eq!(send(bed.address, "POST /tasks?task=nop&params=1", &[], "").await.seen(), (200, "{}"));
}

/// cn-agent case 4
#[tokio::test]
async fn a_failed_task_is_a_500_with_error_alone() {
    let bed = Bed::start().await;
    assert_eq!(bed.task("nop", json!({"error": "boom"})).await.seen(), (500, r#"{"error":"boom"}"#));
}

/// cn-agent cases 5, 6 and 7
#[tokio::test]
async fn what_is_missing_is_named_before_the_task_is_looked_up() {
    let bed = Bed::start().await;
    let no_params = r#"{"code":"InvalidArgument","message":"Missing key 'params'"}"#;
    let no_task = r#"{"code":"InvalidArgument","message":"Missing key 'task'"}"#;
    assert_eq!(bed.send("POST /tasks", r#"{"task":"nop"}"#).await.seen(), (409, no_params));
    assert_eq!(bed.send("POST /tasks", r#"{"params":{}}"#).await.seen(), (409, no_task));
    assert_eq!(bed.send("POST /tasks", "").await.seen(), (409, no_task));
    assert_eq!(
        send(bed.address, "POST /tasks", &[("Content-Type", "text/plain")], r#"{"task":"nop","params":{}}"#).await.seen(),
        (409, no_task)
    );
    let unknown = r#"{"code":"ResourceNotFound","message":"Unknown task, 'this_is_not_a_task'"}"#;
    assert_eq!(bed.send("POST /tasks", r#"{"task":"this_is_not_a_task","params":{}}"#).await.seen(), (404, unknown));
    assert_eq!(bed.send("POST /tasks", r#"{"task":"this_is_not_a_task"}"#).await.seen(), (409, no_params));
    for params in ["[]", "\"str\"", "null"] {
        let body = format!(r#"{{"task":"nop","params":{params}}}"#);
        assert_eq!(bed.send("POST /tasks", &body).await.seen(), (200, "{}"), "{params}");
    }
}

/// cn-agent case 8
#[tokio::test]
async fn malformed_json_is_400_and_lacks_the_headers_of_routed_replies() {
    let bed = Bed::start().await;
    let reply = bed.send("POST /tasks", r#"{"task":"nop","#).await;
    assert_eq!((reply.status, &reply.json()["code"]), (400, &json!("InvalidContent")));
    assert!(reply.json()["message"].as_str().unwrap().starts_with("Invalid JSON: "));
    assert_eq!((reply.header("x-request-id"), reply.header("x-response-time"), reply.header("x-server-name")), (None, None, None));
}

/// cn-agent case 9
#[tokio::test]
async fn a_task_for_another_server_is_an_empty_404() {
    let bed = Bed::start().await;
    let body = r#"{"task":"nop","params":{}}"#;
    let to = |uuid: String| async move {
        send(bed.address, "POST /tasks", &[("Content-Type", "application/json"), ("x-server-uuid", &uuid)], body).await
    };
    let other = to("564d0b8e-6099-7648-351e-877faf6c56f6".to_owned()).await;
    assert_eq!((other.seen(), other.header("content-type")), ((404, ""), None));
    assert_eq!(to(bed.server.to_string()).await.status, 200);
}

/// cn-agent case 10
#[tokio::test]
async fn a_paused_agent_refuses_everything_and_lets_running_tasks_end() {
    let bed = Bed::start().await;
    let running = bed.later("sleep", json!({"timeout": 400}));
    while bed.history().await.is_empty() {}
    for _ in 0..2 {
        let reply = bed.send("POST /pause", "").await;
        assert_eq!((reply.seen(), reply.header("content-type")), ((204, ""), None));
    }
    let refusal = r#"{"code":"ServiceUnavailableError","message":"CN Agent is not accepting tasks for maintenance"}"#;
    assert_eq!(bed.task("nop", json!({})).await.seen(), (503, refusal));
    assert_eq!(bed.task("wat", json!({})).await.seen(), (503, refusal));
    assert_eq!(bed.send("POST /tasks", "").await.seen(), (503, refusal));
    assert_eq!(bed.send("GET /ping", "").await.json()["paused"], true);
    assert_eq!(running.await.unwrap().seen(), (200, "{}"));
    for _ in 0..2 {
        assert_eq!(bed.send("POST /resume", "").await.seen(), (204, ""));
    }
    assert_eq!(bed.task("nop", json!({})).await.status, 200);
}

/// cn-agent case 11
#[tokio::test]
async fn wrong_verbs_and_paths_are_refused_in_restifys_words() {
    let bed = Bed::start().await;
    let reply = bed.send("GET /tasks", "").await;
    assert_eq!(reply.seen(), (405, r#"{"code":"MethodNotAllowedError","message":"GET is not allowed"}"#));
    assert_eq!(reply.header("allow"), Some("POST"));
    let reply = bed.send("GET /nothing", "").await;
    assert_eq!(reply.seen(), (404, r#"{"code":"ResourceNotFound","message":"/nothing does not exist"}"#));
    assert_eq!(reply.header("x-request-id"), None);
}

#[tokio::test]
async fn routed_replies_have_upstreams_headers() {
    let bed = Bed::start().await;
    let reply = bed.task("nop", json!({})).await;
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("content-length"), Some("2"));
    assert_eq!(reply.header("server"), Some("Compute Node Agent"));
    assert_eq!(reply.header("x-request-id"), Some("req-1"));
    assert_eq!(reply.header("x-server-name"), Some("cn-under-test"));
    assert!(reply.header("x-response-time").unwrap().parse::<u64>().is_ok());
    assert!(reply.header("date").is_some());
    let new = bed.send("POST /tasks", r#"{"task":"nop","params":{}}"#).await;
    assert!(new.header("x-request-id").unwrap().parse::<uuid::Uuid>().is_ok());
}

/// cn-agent case 12
#[tokio::test]
async fn a_rest_code_is_passed_in_details() {
    let bed = Bed::start().await;
    let uuid = uuid::Uuid::new_v4();
    let expected = format!(r#"{{"error":"VM.load error: vmadm load {uuid} failed: No such zone","details":{{"restCode":"VmNotFound"}}}}"#);
    assert_eq!(bed.task("machine_load", json!({"uuid": uuid})).await.seen(), (500, expected.as_str()));
}

/// cn-agent case 13
#[tokio::test]
async fn arrays_and_strings_are_sent_bare_and_a_req_id_is_echoed_in_objects_only() {
    let tasks = |registry: &mut cn_agent::Registry| {
        registry.set(TaskName::ZfsListPools, |_| async { Ok(json!([{"name": "zones"}])) });
        registry.set(TaskName::TestSubtask, |_| async { Ok(json!("text")) });
    };
    let bed = Builder { tasks, ..Builder::default() }.start().await;
    assert_eq!(bed.task("zfs_list_pools", json!({"req_id": "abc"})).await.seen(), (200, r#"[{"name":"zones"}]"#));
    assert_eq!(bed.task("test_subtask", json!({})).await.seen(), (200, r#""text""#));
    assert_eq!(bed.task("nop", json!({"req_id": "abc"})).await.seen(), (200, r#"{"req_id":"abc"}"#));
    assert_eq!(bed.task("nop", json!({"req_id": "abc", "error": "x"})).await.seen(), (500, r#"{"error":"x","req_id":"abc"}"#));
}

#[tokio::test]
async fn a_task_that_panics_is_reported_as_a_worker_that_died_and_the_agent_lives() {
    let tasks = |registry: &mut cn_agent::Registry| registry.set(TaskName::TestSubtask, |_| async { panic!("defect") });
    let bed = Builder { tasks, ..Builder::default() }.start().await;
    let expected = r#"{"error":"Child task process test_subtask did not terminate cleanly. (1)"}"#;
    assert_eq!(bed.task("test_subtask", json!({})).await.seen(), (500, expected));
    assert_eq!(bed.history().await[0]["status"], "failed");
    assert_eq!(bed.task("nop", json!({})).await.status, 200);
}

/// cn-agent case 14
#[tokio::test]
async fn a_task_beyond_its_time_is_failed_and_does_not_stay_active() {
    let limits = Limits { task_timeout: Duration::from_millis(300), ..Limits::default() };
    let bed = Builder { limits, ..Builder::default() }.start().await;
    let reply = bed.task("sleep", json!({"timeout": 200_000})).await;
    let error = reply.json()["error"].as_str().unwrap().to_owned();
    let seconds = error.strip_prefix("child task process timed out after ").and_then(|rest| rest.strip_suffix(" seconds")).unwrap();
    assert_eq!((reply.status, seconds.split_once('.').map(|(_, decimals)| decimals.len())), (500, Some(3)), "{error}");
    assert!(seconds.parse::<f64>().unwrap() >= 0.3, "{error}");
    let entry = &bed.history().await[0];
    assert_eq!((&entry["status"], &entry["errorCount"]), (&json!("failed"), &json!(1)));
    assert!(entry["finished_at"].is_string());
}

/// cn-agent case 15: the limit of a connection, without waiting for it
#[test]
fn a_connection_may_be_idle_for_longer_than_a_task_may_take() {
    assert_eq!(cn_agent::http::limits(Limits::default().task_timeout).header_timeout, Duration::from_secs(3900));
}

/// cn-agent case 15
#[tokio::test(start_paused = true)]
async fn a_nop_of_three_minutes_ends_by_itself() {
    use cn_agent::{Numbers, Runner, TaskLog, tasks};
    let node = Arc::new(crate::support::FakeNode::default());
    let model = tasks::Model::new(
        triton_files::Layout::new("/nonexistent"),
        node.clone(),
        node,
        Arc::new(|| Err("none".to_owned())),
        "http://127.0.0.1:1".parse().unwrap(),
    );
    let runner = Runner::new(tasks::registry(&model), Limits::default(), TaskLog::none(), Numbers::default());
    runner.open();
    let begin = tokio::time::Instant::now();
    for sleep in [json!(180), json!("180")] {
        assert_eq!(runner.run(TaskName::Nop, json!({"sleep": sleep}), "r".into()).await, Ok(json!({})));
    }
    assert!(begin.elapsed() >= Duration::from_secs(360), "the clock of the test is not the machine's");
}

/// cn-agent case 16
#[tokio::test]
async fn the_history_has_sixteen_entries_oldest_first() {
    let bed = Bed::start().await;
    for n in 0..20 {
        bed.task("nop", json!({"n": n})).await;
    }
    let history = bed.history().await;
    let numbers: Vec<_> = history.iter().map(|entry| entry["params"]["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (4..20).collect::<Vec<_>>());
    for key in ["started_at", "task", "params", "status", "errorCount", "messages", "log"] {
        assert!(!history[0][key].is_null(), "{key}");
    }
    let names: Vec<_> = history[0]["messages"].as_array().unwrap().iter().map(|message| message["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["progress", "start", "progress", "finish"]);
}

/// cn-agent case 17
#[tokio::test]
async fn a_running_task_is_active_and_has_no_end() {
    let bed = Bed::start().await;
    let running = bed.later("sleep", json!({"timeout": 300}));
    let entry = loop {
        if let Some(entry) = bed.history().await.first() {
            break entry.clone();
        }
    };
    assert_eq!((&entry["status"], entry.get("finished_at")), (&json!("active"), None));
    running.await.unwrap();
    let entry = bed.history().await[0].clone();
    assert_eq!((&entry["status"], entry["finished_at"].is_string()), (&json!("finished"), true));
}

/// cn-agent case 18
#[tokio::test]
async fn twenty_sleeps_run_side_by_side() {
    let bed = Bed::start().await;
    let sleeps: Vec<_> = (0..20).map(|_| bed.later("sleep", json!({"timeout": 500}))).collect();
    // All at once are active: nothing makes them wait for each other.
    let mut most = 0;
    while most < 20 {
        let history = bed.history().await;
        let active = history.iter().filter(|entry| entry["status"] == "active").count();
        assert!(active > 0 || history.len() < 20, "some waited: at most {most} at once");
        most = most.max(active);
    }
    for sleep in sleeps {
        assert_eq!(sleep.await.unwrap().status, 200);
    }
}

/// cn-agent case 18
#[tokio::test]
async fn two_installations_of_agents_run_one_after_the_other() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
    let tasks = |registry: &mut cn_agent::Registry| {
        registry.set(TaskName::AgentInstall, |_| async {
            let others = AT_ONCE.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(50)).await;
            AT_ONCE.fetch_sub(1, Ordering::SeqCst);
            Ok(json!({"others": others}))
        });
    };
    let bed = Builder { tasks, ..Builder::default() }.start().await;
    let installs: Vec<_> = (0..3).map(|_| bed.later("agent_install", json!({}))).collect();
    for install in installs {
        assert_eq!(install.await.unwrap().seen(), (200, r#"{"others":0}"#));
    }
}

/// cn-agent case 19
#[tokio::test]
async fn before_the_startup_is_done_tasks_are_for_nobody() {
    let cnapi = Recorder::start().await;
    cnapi.answer_with("/sysinfo", std::iter::repeat_n(Answer::status(500), 100_000));
    let bed = Builder::default().begin(cnapi.clone()).await;
    eventually("a first registration", || (!cnapi.to("/sysinfo").is_empty()).then_some(())).await;
    let reply = bed.task("nop", json!({})).await;
    assert_eq!((reply.seen(), reply.header("content-type")), ((404, ""), None));
    let ping = bed.send("GET /ping", "").await.json();
    assert_eq!(ping, json!({"name": "cn-agent", "version": "2.15.0", "server_uuid": bed.server, "paused": false}));
}

/// cn-agent case 20
#[tokio::test]
async fn unknown_parameters_are_accepted_by_every_task() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    for name in TaskName::ALL {
        let params = json!({"uuid": uuid, "server_uuid": bed.server, "jobid": "j", "x-request-id": {"deep": [1]}, "script": "true",
            "timeout": 1, "image_uuid": uuid, "task": "other", "path": "/etc", "command": {"Cmd": ["true"]}, "payload": {"x": 1}, "agents": []});
        let reply = bed.task(name.as_str(), params).await;
        let text = reply.body.to_lowercase();
        assert!(!text.contains("unknown") && !text.contains("did not terminate"), "{name}: {reply:?}");
    }
}

/// Ruling 57
#[tokio::test]
async fn known_tasks_without_code_say_so_in_a_500() {
    let bed = Bed::start().await;
    for (task, expected) in [
        ("test_subtask", "test_subtask is not available on Linux compute nodes in this version"),
        ("machine_screenshot", "vmadm.sysrq error: screenshots need an instance of brand kvm"),
        (
            "docker_build",
            "docker_build is not available on Linux compute nodes: build the image elsewhere and import it (imgadm import-oci)",
        ),
        ("recovery_config", "Recovery Configuration error: encrypted pools are not available on Linux compute nodes"),
    ] {
        assert_eq!(bed.task(task, json!({})).await.seen(), (500, json!({"error": expected}).to_string().as_str()));
    }
}

#[tokio::test]
async fn a_body_of_eight_mib_is_taken_and_one_beyond_the_limit_refused_clearly() {
    let bed = Bed::start().await;
    let body = |size: usize| json!({"task": "nop", "params": {"filler": "x".repeat(size)}}).to_string();
    assert_eq!(bed.send("POST /tasks", &body(8 << 20)).await.seen(), (200, "{}"));
    let mut stream = tokio::net::TcpStream::connect(bed.address).await.unwrap();
    let head =
        "POST /tasks HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut stream, head.as_bytes()).await.unwrap();
    let size = cn_agent::http::LARGEST_BODY + 1;
    let chunk = format!("{size:x}\r\n{}", "x".repeat(size));
    tokio::io::AsyncWriteExt::write_all(&mut stream, chunk.as_bytes()).await.unwrap();
    let reply = crate::support::Reply::read(&mut stream).await;
    assert_eq!((reply.status, &reply.json()["code"]), (413, &json!("RequestEntityTooLarge")));
    assert!(reply.json()["message"].as_str().unwrap().contains("16777216 bytes"), "{reply:?}");
    let history: Value = bed.history().await.into();
    assert!(history.to_string().len() < 100_000, "bulk is not kept");
}

#[tokio::test]
async fn more_tasks_than_the_limit_are_refused_and_taken_again_later() {
    let bed = Builder { limits: Limits { tasks: 3, ..Limits::default() }, ..Builder::default() }.start().await;
    let sleeps: Vec<_> = (0..3).map(|_| bed.later("sleep", json!({"timeout": 500}))).collect();
    while bed.history().await.len() < 3 {}
    let reply = bed.task("nop", json!({})).await;
    assert_eq!(reply.seen(), (503, r#"{"code":"ServiceUnavailableError","message":"CN Agent is running too many tasks"}"#));
    for sleep in sleeps {
        assert_eq!(sleep.await.unwrap().status, 200);
    }
    assert_eq!(bed.task("nop", json!({})).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_end_its_task() {
    let bed = Bed::start().await;
    let uuid = bed.node.add(true, false);
    bed.node.close_gate();
    let caller = bed.later("machine_shutdown", json!({"uuid": uuid}));
    bed.called("stop").await;
    caller.abort();
    bed.node.open_gate();
    eventually("the instance stopped", || (!bed.node.vms.lock().unwrap()[&uuid].running).then_some(())).await;
    let mut last = Value::Null;
    for _ in 0..1000 {
        last = bed.history().await[0].clone();
        if last["status"] == "finished" {
            return;
        }
    }
    panic!("{last}");
}

#[tokio::test]
async fn many_callers_at_once_are_all_served() {
    let bed = Arc::new(Bed::start().await);
    let mut callers = JoinSet::new();
    for n in 0..100 {
        let bed = bed.clone();
        callers.spawn(async move { (n, bed.task("nop", json!({"error": n.to_string()})).await) });
    }
    while let Some(reply) = callers.join_next().await {
        let (n, reply) = reply.unwrap();
        assert_eq!(reply.json()["error"], n.to_string());
    }
}
