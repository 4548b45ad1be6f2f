//! The program itself, on an empty root: startup, signals, the `status` verb. Only what needs no instance.

use std::{
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Recorder, Reply, eventually, remove_control_groups, send};

/// A running program; killed when the test ends, however it ends.
struct Program {
    child: Child,
    root: tempfile::TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        remove_control_groups(self.root.path());
    }
}

fn command(root: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cn-agent"));
    command.arg("--root").arg(root).stdin(Stdio::null()).env_clear();
    command
}

impl Program {
    fn start(root: tempfile::TempDir, cnapi: &Recorder) -> Self {
        let config = root.path().join("opt/smartdc/agents/etc");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::create_dir_all(root.path().join("tmp")).unwrap();
        let text = json!({"cnapi": {"url": format!("http://{}", cnapi.address)}, "no_rabbit": true, "unknown": {}}).to_string();
        std::fs::write(config.join("cn-agent.config.json"), text).unwrap();
        let log = std::fs::File::create(root.path().join("agent.log")).unwrap();
        let mut command = command(root.path());
        let child = command.args(["--admin-ip", "127.0.0.1", "--port", "0"]).stdout(log).stderr(Stdio::inherit()).spawn().unwrap();
        Self { child, root }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.root.path().join("agent.log")).unwrap()
    }

    async fn ended(&mut self) -> Option<i32> {
        let code = eventually("the end of the program", || self.child.try_wait().unwrap()).await.code();
        assert!(code.is_some(), "killed: {}", self.log());
        code
    }

    async fn status(&self) -> Output {
        let mut command = command(self.root.path());
        command.args(["status", "--json"]);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

/// What the program registered: its uuid and where it listens.
async fn registration(cnapi: &Recorder, number: usize) -> (Value, SocketAddr) {
    let sysinfo = eventually("a registration", || cnapi.to("/sysinfo").get(number).map(|seen| seen.body["sysinfo"].clone())).await;
    let port = u16::try_from(sysinfo["CN Agent Port"].as_u64().unwrap()).unwrap();
    (sysinfo, SocketAddr::from(([127, 0, 0, 1], port)))
}

async fn task(address: SocketAddr, task: &str, params: Value) -> Reply {
    let body = json!({"task": task, "params": params}).to_string();
    send(address, "POST /tasks", &[("Content-Type", "application/json")], &body).await
}

async fn open(address: SocketAddr) {
    let open = async {
        while task(address, "nop", json!({})).await.status != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, open).await.expect("the program never accepted tasks");
}

/// cn-agent cases 50 and 57
#[tokio::test]
async fn the_program_registers_serves_drains_on_sigterm_and_cleans_up_at_its_next_start() {
    let cnapi = Recorder::start().await;
    let mut program = Program::start(tempfile::tempdir().unwrap(), &cnapi);
    let (sysinfo, address) = registration(&cnapi, 0).await;
    assert_eq!((&sysinfo["System Type"], &sysinfo["Setup"], &sysinfo["Admin IP"]), (&json!("Linux"), &json!(false), &json!("127.0.0.1")));
    assert!(sysinfo["Live Image"].as_str().is_some_and(|stamp| !stamp.is_empty()));
    assert!(sysinfo["SDC Agents"].as_array().unwrap().contains(&json!({"name": "cn-agent", "version": "2.15.0"})));
    open(address).await;
    let collected = task(address, "server_sysinfo", json!({})).await.json();
    assert_eq!((&collected["sysinfo"]["UUID"], &collected["sysinfo"]["CN Agent Port"]), (&sysinfo["UUID"], &sysinfo["CN Agent Port"]));
    let agents = eventually("the agents list", || cnapi.to(sysinfo["UUID"].as_str().unwrap()).first().cloned()).await;
    assert!(agents.body["agents"].as_array().unwrap().iter().any(|agent| agent["name"] == "cn-agent" && agent["version"] == "2.15.0"));

    let shown: Value = serde_json::from_slice(&program.status().await.stdout).unwrap();
    assert_eq!((&shown["registered"], &shown["tasks"], &shown["server_uuid"]), (&json!(true), &json!("open"), &sysinfo["UUID"]));

    let guards = ["machine-provision-0cc6", "machine-creation-0cc6"].map(|name| program.root.path().join("var/tmp").join(name));
    for guard in &guards {
        std::fs::write(guard, "").unwrap();
    }
    let running = tokio::spawn(async move { task(address, "sleep", json!({"timeout": 1500})).await });
    let working = || async { send(address, "GET /history", &[], "").await.json() };
    while !working().await.as_array().unwrap().iter().any(|entry| entry["task"] == "sleep") {}
    program.signal(Signal::SIGTERM);
    assert_eq!(running.await.unwrap().seen(), (200, "{}"), "the running task ends by itself");
    assert_eq!(program.ended().await, Some(0), "{}", program.log());
    let gone = program.status().await;
    assert_eq!(gone.status.code(), Some(69), "{gone:?}");

    let root = std::mem::replace(&mut program.root, tempfile::tempdir().unwrap());
    let again = Program::start(root, &cnapi);
    let (sysinfo_again, address) = registration(&cnapi, 1).await;
    assert_eq!(sysinfo_again["UUID"], sysinfo["UUID"], "the node keeps its identity");
    open(address).await;
    assert!(guards.iter().all(|guard| !guard.exists()), "{}", again.log());
}

#[tokio::test]
async fn on_a_node_that_is_not_set_up_machine_tasks_fail_in_words_and_scripts_run() {
    let cnapi = Recorder::start().await;
    let program = Program::start(tempfile::tempdir().unwrap(), &cnapi);
    let (_, address) = registration(&cnapi, 0).await;
    open(address).await;
    let reply = task(address, "machine_load", json!({"uuid": uuid::Uuid::new_v4()})).await;
    assert_eq!((reply.status, reply.json().get("details")), (500, None), "not known is not the same as not there: {reply:?}");
    assert!(reply.json()["error"].as_str().unwrap().contains("storage.json"), "{reply:?}");
    let reply = task(address, "command_execute", json!({"script": "echo $0"})).await;
    assert!(reply.json()["stdout"].as_str().unwrap().starts_with(program.root.path().to_str().unwrap()), "{reply:?}");
    eventually("heartbeats", || (!cnapi.to("/heartbeat").is_empty()).then_some(())).await;
    assert!(cnapi.to("/status").is_empty(), "a node without storage has no status, not an empty one");
    for line in program.log().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!(record["name"], "cn-agent");
    }
}

#[tokio::test]
async fn a_broken_configuration_is_told_apart_from_a_failure() {
    let root = tempfile::tempdir().unwrap();
    let output = |root: &std::path::Path| command(root).args(["--admin-ip", "127.0.0.1", "--port", "0"]).output().unwrap();
    assert_eq!(output(root.path()).status.code(), Some(78), "no CNAPI is configured");
    let config = root.path().join("opt/smartdc/agents/etc");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("cn-agent.config.json"), "{\"cnapi\":").unwrap();
    let broken = output(root.path());
    assert_eq!(broken.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("cn-agent.config.json"));
    assert_eq!(command(root.path()).arg("--port=x").output().unwrap().status.code(), Some(2));
}
