//! Faults, the record, persistence, images, and the program.

#![allow(missing_docs, clippy::unwrap_used, clippy::type_complexity, reason = "tests say what they show by their names, and may panic")]

mod common;

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::*;
use headnode_standin::{Direction, FaultAction, FaultError, FaultRule, firewaller::Recorder};
use serde_json::{Value, json};

/// cn-agent case 46
#[test]
fn sysinfo_can_be_failed_a_number_of_times_and_then_succeeds() {
    let here = start();
    let fail = FaultAction::Fail { status: 500, body: Some(json!({"code": "InternalError", "message": "told to"})) };
    here.standin.add_fault(FaultRule { method: Some("POST".into()), ..FaultRule::on("/sysinfo$", fail) }.times(3)).unwrap();
    let statuses: Vec<_> = (0..4).map(|_| report(&here.standin, "/sysinfo", &json!({"sysinfo": sysinfo(5309)})).status).collect();
    assert_eq!(statuses, [500, 500, 500, 200]);
    let recorded: Vec<_> = here.standin.record(0).into_iter().map(|entry| (entry.status, entry.fault.is_some())).collect();
    assert_eq!(recorded, [(Some(500), true), (Some(500), true), (Some(500), true), (Some(200), false)]);
    let gone = FaultAction::Fail { status: 404, body: Some(json!({"code": "ResourceNotFound", "message": "/servers does not exist"})) };
    here.standin.add_fault(FaultRule::on("/sysinfo$", gone)).unwrap();
    assert_eq!(report(&here.standin, "/sysinfo", &json!({})).json()["code"], "ResourceNotFound");
    here.standin.clear_faults();
    assert_eq!(report(&here.standin, "/sysinfo", &json!({"sysinfo": sysinfo(5309)})).status, 200);
}

#[test]
fn a_connection_is_dropped_an_answer_is_a_lie_and_a_body_is_spoilt_on_command() {
    let here = start();
    put_image(&here, 200_000);
    let file = format!("/images/{IMAGE}/file");
    let get = |path: &str| ask_with(here.standin.imgapi_url(), "GET", path, &[], b"");
    let good = get(&file).unwrap();
    assert!(good.whole && good.body.len() == 200_000);

    here.standin.add_fault(FaultRule::on("/file", FaultAction::Drop).times(1)).unwrap();
    assert!(get(&file).is_none());
    assert_eq!(here.standin.record(0).last().unwrap().status, None);

    here.standin.add_fault(FaultRule::on("/file", FaultAction::TruncateAfter(70_001)).times(1)).unwrap();
    let cut = get(&file).unwrap();
    assert_eq!((cut.status, cut.whole, cut.body.len()), (200, false, 70_001));

    here.standin.add_fault(FaultRule::on("/file", FaultAction::CorruptAt(131_072)).times(1)).unwrap();
    let spoilt = get(&file).unwrap();
    let wrong: Vec<_> = (0..good.body.len()).filter(|place| good.body[*place] != spoilt.body[*place]).collect();
    assert_eq!((spoilt.body.len(), wrong), (200_000, vec![131_072]));

    here.standin.add_fault(FaultRule::on("^/images/[^/]*$", FaultAction::Lie(json!({"uuid": "lie"}))).times(1)).unwrap();
    assert_eq!(get(&format!("/images/{IMAGE}")).unwrap().json(), json!({"uuid": "lie"}));
    assert_eq!(get(&format!("/images/{IMAGE}")).unwrap().json()["uuid"], IMAGE, "once means once");
}

#[test]
fn faults_are_armed_and_shown_by_the_control_service_and_bad_ones_refused() {
    let here = start();
    let control = here.standin.control_url().to_owned();
    let rule = json!({"api": "imgapi", "path": "^/ping", "action": {"fail": {"status": 503}}, "count": 2});
    assert_eq!(ask(&control, "POST", "/faults", Some(&rule)).status, 204);
    assert_eq!(ask(&control, "GET", "/faults", None).json(), json!([rule]));
    assert_eq!(ask(here.standin.cnapi_url(), "GET", "/ping", None).status, 200, "another service is not touched");
    assert_eq!(ask(here.standin.imgapi_url(), "GET", "/ping", None).status, 503);
    for bad in
        [json!({}), json!({"action": "explode"}), json!({"action": "drop", "path": "("}), json!({"action": {"fail": {"status": 99}}})]
    {
        assert_eq!(ask(&control, "POST", "/faults", Some(&bad)).status, 409, "{bad}");
    }
    assert!(matches!(here.standin.add_fault(FaultRule::on("(", FaultAction::Drop)), Err(FaultError::Pattern(_))));
    assert_eq!(ask(&control, "DELETE", "/faults", None).status, 204);
    assert_eq!(ask(&control, "GET", "/faults", None).json(), json!([]));
}

#[test]
fn the_record_is_read_from_a_number_on() {
    let here = start();
    register(&here.standin, 5309);
    let control = here.standin.control_url();
    let all = ask(control, "GET", "/record", None).json();
    let entry = &all[2];
    assert_eq!((&entry["method"], &entry["body"], &entry["status"]), (&json!("POST"), &json!({}), &json!(204)));
    assert_eq!(entry["path"], format!("/servers/{SERVER}/events/heartbeat"));
    assert!(entry["headers"]["user-agent"].as_str().unwrap().starts_with("cn-agent/"));
    assert_eq!(ask(control, "GET", "/record?since=2", None).json(), json!([entry]), "reading it is not recorded");
    assert_eq!(ask(control, "DELETE", "/record", None).status, 204);
    report(&here.standin, "/events/heartbeat", &json!({}));
    assert_eq!(ask(control, "GET", "/record", None).json()[0]["seq"], 4, "numbers go on");
    assert_eq!(ask(control, "GET", "/violations", None).json(), json!([]));
    assert_eq!(ask(control, "GET", "/placement", None).json()[SERVER], json!("it has posted no status"));
}

#[test]
fn what_is_in_the_database_survives_a_restart_and_a_task_under_way_has_failed() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("headnode.db");
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let id = {
        let here = start_with(|config| config.database = Some(database.clone()));
        register(&here.standin, silent.local_addr().unwrap().port());
        report(&here.standin, "/events/status", &status());
        let answer = ask(here.standin.cnapi_url(), "POST", &format!("/servers/{SERVER}/nop"), Some(&json!({})));
        answer.json()["id"].as_str().unwrap().to_owned()
    };
    let here = start_with(|config| config.database = Some(database.clone()));
    let server = here.standin.server(SERVER).unwrap();
    assert_eq!((&server["hostname"], &server["vms"][VM]["state"]), (&json!("cn1"), &json!("running")));
    assert_eq!(server["status"], "unknown", "heartbeats are not kept");
    let task = ask(here.standin.cnapi_url(), "GET", &format!("/tasks/{id}"), None).json();
    assert_eq!(task["status"], "failure");
    assert!(task["history"][0]["event"]["error"]["message"].as_str().unwrap().contains("restarted"));
    assert_eq!(ask(here.standin.cnapi_url(), "GET", "/tasks/none", None).status, 404);
}

#[test]
fn images_are_listed_paged_and_served_with_their_headers() {
    let here = start();
    let base = here.standin.imgapi_url();
    assert_eq!(ask(base, "GET", "/ping", None).json()["imgapi"], true);
    let manifest = put_image(&here, 1000);
    for number in 1..=3 {
        let mut other = manifest.clone();
        other["uuid"] = json!(format!("00000000-0000-0000-0000-00000000000{number}"));
        other["published_at"] = json!(format!("2025-01-0{number}T00:00:00.000Z"));
        other["state"] = json!(if number == 3 { "disabled" } else { "active" });
        let file = here.images.path().join(format!("{}.imgmanifest", other["uuid"].as_str().unwrap()));
        std::fs::write(file, other.to_string()).unwrap();
    }
    let list = |query: &str| {
        let answer = ask(base, "GET", &format!("/images{query}"), None).json();
        answer.as_array().unwrap().iter().map(|image| image["uuid"].as_str().unwrap()[..].to_owned()).collect::<Vec<_>>()
    };
    let second = "00000000-0000-0000-0000-000000000001";
    assert_eq!(list("").len(), 3);
    assert_eq!(list("?state=all").len(), 4);
    assert_eq!(list("?limit=1"), [IMAGE]);
    assert_eq!(list(&format!("?limit=1&marker={IMAGE}")), [second]);
    assert_eq!(list("?name=none").len(), 0);
    assert_eq!(ask(base, "GET", "/images?limit=1001", None).status, 409);

    let get = |path: &str, headers: &[(&str, &str)]| ask_with(base, "GET", path, headers, b"").unwrap();
    let file = format!("/images/{IMAGE}/file");
    let whole = get(&file, &[]);
    assert_eq!((whole.status, whole.header("content-length"), whole.body.len()), (200, "1000", 1000));
    assert_eq!(whole.header("etag"), manifest["files"][0]["sha1"]);
    assert_eq!(whole.header("content-md5").len(), 24);
    let rest = get(&file, &[("range", "bytes=990-")]);
    assert_eq!((rest.status, rest.header("content-range"), &rest.body[..]), (206, "bytes 990-999/1000", &whole.body[990..]));
    assert_eq!(get(&file, &[("range", "bytes=1000-")]).status, 416);
    for missing in
        [&format!("{file}?index=1"), &format!("{file}?index=7"), "/images/00000000-0000-0000-0000-000000000009", "/images/x/file"]
    {
        let answer = get(missing, &[]);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("ResourceNotFound")), "{missing}");
    }
    std::fs::write(here.images.path().join(format!("{IMAGE}.file1")), "root").unwrap();
    assert_eq!(get(&format!("{file}?index=1"), &[]).body, b"root");
}

#[test]
fn without_ranges_a_download_always_begins_anew() {
    let here = start_with(|config| config.features.range = false);
    put_image(&here, 1000);
    let file = format!("/images/{IMAGE}/file");
    let answer = ask_with(here.standin.imgapi_url(), "GET", &file, &[("range", "bytes=990-")], b"").unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 1000));
}

fn job(here: &Here, answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{}", String::from_utf8_lossy(&answer.body));
    let path = format!("/jobs/{}", answer.json()["job_uuid"].as_str().unwrap());
    loop {
        let job = ask(here.standin.vmapi_url(), "GET", &path, None).json();
        if job["execution"] != "running" {
            return job;
        }
        std::thread::yield_now();
    }
}

#[test]
fn an_instance_is_provisioned_stopped_and_destroyed_by_vmapi() {
    let (here, agent) = (start(), FakeAgent::start());
    let manifest = put_image(&here, 1000);
    let request = json!({
        "uuid": VM, "owner_uuid": OWNER, "image_uuid": IMAGE, "alias": "web0", "ram": "512", "firewall_enabled": true,
        "package": {"uuid": OWNER, "quota": 512, "cpu_cap": 100, "max_lwps": 1000},
        "nics": [{"nic_tag": "external", "ip": "10.0.0.5", "resolvers": ["8.8.8.8", "8.8.4.4"]}, {"nic_tag": "admin", "resolvers": ["8.8.8.8"]}],
    });
    let none = job(&here, &ask(here.standin.vmapi_url(), "POST", "/vms", Some(&request)));
    assert_eq!(none["execution"], "failed");
    assert!(none["error"].as_str().unwrap().starts_with("No compute resources available"), "{none}");
    assert_eq!(ask(here.standin.vmapi_url(), "POST", "/vms", Some(&request)).status, 409, "the failed one still has the uuid");

    let mut request = request;
    request["uuid"] = json!(SERVER);
    register(&here.standin, agent.port);
    report(&here.standin, "/events/status", &status());
    agent.answer(200, &json!({"vm": {"uuid": SERVER, "state": "running", "zone_state": "running"}}));
    let done = job(&here, &ask(here.standin.vmapi_url(), "POST", "/vms", Some(&request)));
    assert_eq!(done["execution"], "succeeded", "{done}");
    let body = agent.last().body;
    assert_eq!(body["task"], "machine_create");
    let params = &body["params"];
    for (key, value) in [
        ("uuid", json!(SERVER)),
        ("brand", json!("lx")),
        ("image", manifest),
        ("image_uuid", json!(IMAGE)),
        ("ram", json!("512")),
        ("max_physical_memory", json!(512)),
        ("quota", json!(0.5)),
        ("cpu_cap", json!(100)),
        ("billing_id", json!(OWNER)),
        ("archive_on_delete", json!(true)),
        ("resolvers", json!(["8.8.8.8", "8.8.4.4"])),
        ("jobid", done["uuid"].clone()),
    ] {
        assert_eq!(params[key], value, "{key}");
    }
    assert_eq!((&params["nics"][0]["primary"], params["nics"][1].get("primary")), (&json!(true), None));
    assert_eq!(params["nics"][0]["mac"].as_str().unwrap().len(), 17);
    let vm = ask(here.standin.vmapi_url(), "GET", &format!("/vms/{SERVER}"), None).json();
    assert_eq!((&vm["state"], &vm["server_uuid"], &vm["alias"]), (&json!("running"), &json!(SERVER), &json!("web0")));

    agent.answer(200, &json!({"vm": {"uuid": SERVER, "state": "stopped"}}));
    job(&here, &ask(here.standin.vmapi_url(), "POST", &format!("/vms/{SERVER}?action=stop"), Some(&json!({"timeout": 30}))));
    assert_eq!((agent.last().body["task"].as_str(), &agent.last().body["params"]["timeout"]), (Some("machine_shutdown"), &json!(30)));
    assert_eq!(ask(here.standin.vmapi_url(), "GET", &format!("/vms/{SERVER}"), None).json()["state"], "stopped");
    job(&here, &ask(here.standin.vmapi_url(), "DELETE", &format!("/vms/{SERVER}"), None));
    assert_eq!(ask(here.standin.vmapi_url(), "GET", &format!("/vms/{SERVER}"), None).json()["state"], "destroyed");
    assert_eq!(ask(here.standin.vmapi_url(), "GET", "/vms?state=active", None).json(), json!([]));
    let sent = here.standin.record(0).into_iter().filter(|entry| entry.direction == Direction::Sent).count();
    assert_eq!(sent, 3);
}

#[test]
fn a_caller_s_resolvers_and_a_refusal_of_resolvers_are_passed_on_as_vmapi_does() {
    let (here, agent) = (start(), FakeAgent::start());
    put_image(&here, 10);
    register(&here.standin, agent.port);
    report(&here.standin, "/events/status", &status());
    let mut request =
        json!({"owner_uuid": OWNER, "image_uuid": IMAGE, "resolvers": ["1.1.1.1"], "nics": [{"nic_tag": "a", "resolvers": ["8.8.8.8"]}]});
    job(&here, &ask(here.standin.vmapi_url(), "POST", "/vms", Some(&request)));
    let params = agent.last().body["params"].clone();
    assert_eq!((&params["resolvers"], &params["internal_metadata"]), (&json!(["1.1.1.1"]), &json!({"no_nic_resolvers": true})));
    request.as_object_mut().unwrap().remove("resolvers");
    request["internal_metadata"] = json!({"set_resolvers": false});
    job(&here, &ask(here.standin.vmapi_url(), "POST", "/vms", Some(&request)));
    assert!(agent.last().body["params"].get("resolvers").is_none());
    for (field, value) in [("owner_uuid", json!("x")), ("image_uuid", json!(VM)), ("brand", json!("kvm")), ("nics", json!([{}]))] {
        let mut bad = request.clone();
        bad[field] = value;
        let answer = ask(here.standin.vmapi_url(), "POST", "/vms", Some(&bad));
        assert_eq!((answer.status, answer.json()["errors"][0]["field"].as_str()), (409, Some(field)));
    }
}

#[test]
fn the_recorder_of_firewall_rules_keeps_and_refuses() {
    let recorder = Recorder::start(TcpListener::bind(("127.0.0.1", 0)).unwrap()).unwrap();
    let base = format!("http://{}", recorder.address());
    let rule = json!({"uuid": VM, "rule": "FROM any TO all vms ALLOW tcp PORT 22"});
    let headers = [("content-type", "application/json"), ("x-request-id", "r1")];
    let put = || ask_with(&base, "PUT", &format!("/rules/{VM}"), &headers, rule.to_string().as_bytes()).unwrap();
    assert_eq!(put().json(), rule);
    recorder.fail_with(Some(503));
    assert_eq!(put().status, 503);
    let rules = recorder.rules();
    assert_eq!((rules.len(), rules[0].uuid.as_str(), &rules[0].rule, rules[0].req_id.as_deref()), (2, VM, &rule, Some("r1")));
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_program_says_where_it_serves_ends_on_sigterm_and_names_a_taken_port() {
    let images = tempfile::tempdir().unwrap();
    let start = |cnapi: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headnode"));
        command.args([
            "--cnapi",
            cnapi,
            "--imgapi",
            "127.0.0.1:0",
            "--vmapi",
            "127.0.0.1:0",
            "--napi",
            "127.0.0.1:0",
            "--fwapi",
            "127.0.0.1:0",
            "--fast",
            "127.0.0.1:0",
            "--control",
            "127.0.0.1:0",
            "--images",
        ]);
        Program(command.arg(images.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    };
    let mut program = start("127.0.0.1:0");
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let urls: Value = serde_json::from_str(&line).unwrap();
    let cnapi = urls["cnapi"].as_str().unwrap();
    assert_eq!(ask(cnapi, "GET", "/servers", None).json(), json!([]));
    assert_eq!(ask(urls["control"].as_str().unwrap(), "GET", "/record", None).json().as_array().unwrap().len(), 1);

    let mut second = start(cnapi.strip_prefix("http://").unwrap());
    let mut text = String::new();
    second.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(!second.0.wait().unwrap().success() && text.contains("could not listen on 127.0.0.1:"), "{text}");

    let pid = nix::unistd::Pid::from_raw(i32::try_from(program.0.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(program.0.wait().unwrap().success());
}

/// Needs root, as a compute node does.
#[test]
fn the_program_serves_operators_outside_and_agents_inside_a_network_namespace() {
    let images = tempfile::tempdir().unwrap();
    let (send_netns, netns) = std::sync::mpsc::channel();
    let (start, started) = std::sync::mpsc::channel::<()>();
    // The namespace lives as long as this thread.
    let inside = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        send_netns.send(format!("/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid())).unwrap();
        started.recv().unwrap();
        ask("http://127.0.0.1:80", "POST", &format!("/servers/{SERVER}/sysinfo"), Some(&json!({"sysinfo": sysinfo(5309)}))).status
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_headnode"));
    command.args([
        "--cnapi",
        "127.0.0.1:0",
        "--imgapi",
        "127.0.0.1:0",
        "--vmapi",
        "127.0.0.1:0",
        "--napi",
        "127.0.0.1:0",
        "--fwapi",
        "127.0.0.1:0",
        "--fast",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
    ]);
    command.args(["--netns", &netns.recv().unwrap(), "--inside-cnapi", "127.0.0.1:80", "--images"]).arg(images.path());
    let mut program = Program(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let urls: Value = serde_json::from_str(&line).unwrap();
    start.send(()).unwrap();
    assert_eq!(inside.join().unwrap(), 200);
    let servers = ask(urls["cnapi"].as_str().unwrap(), "GET", "/servers", None).json();
    assert_eq!(servers[0]["uuid"], SERVER, "both sides are one service");
}

#[test]
fn a_stalled_request_goes_on_afterwards() {
    let here = start();
    register(&here.standin, 5309);
    here.standin.add_fault(FaultRule::on("heartbeat", FaultAction::StallMs(30)).times(1)).unwrap();
    let before = std::time::Instant::now();
    assert_eq!(report(&here.standin, "/events/heartbeat", &json!({})).status, 204);
    assert!(before.elapsed() >= Duration::from_millis(30));
}
