//! The subscription to FWAPI's events against upstream's own server (npm package `fast-messages`, as FWAPI links it).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "upstream/fast.rs"]
mod judge;
mod upstream;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use triton_headnode::{FastError, FastEvent, FastFeed};

/// The package's clock is a native module that is not built here; its logger is wanted silent. Each line of input is an event.
const SERVER: &str = r"
const Module = require('module');
const load = Module._load;
Module._load = function (name, ...rest) {
    return name === 'microtime' ? {now: () => Date.now() * 1000} : load.call(this, name, ...rest);
};
const quiet = () => false;
const log = {child: () => log, trace: quiet, debug: quiet, info: quiet, warn: quiet, error: quiet, fatal: quiet};
const server = require('fast-messages').createServer({log, server_id: 'fwapi0'});
server.listen(0, () => process.stdout.write(server.fast_socket.address().port + '\n'));
require('readline').createInterface({input: process.stdin})
    .on('line', (line) => server.send(JSON.parse(line)))
    .on('close', () => process.exit(0));
";

struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    address: String,
}

impl Server {
    fn start() -> Self {
        let manifest = json!({"name": "judge", "private": true, "dependencies": {"fast-messages": "2.0.1"},
            "overrides": {"oldcrc": "npm:crc@0.3.0"}});
        let folder = upstream::installed("fast-messages", &manifest);
        let mut child = upstream::node(&folder, SERVER).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node");
        let stdin = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, stdin, address: format!("127.0.0.1:{}", line.trim()) }
    }

    fn send(&mut self, event: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{event}").unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}

async fn next(feed: &mut FastFeed) -> Result<FastEvent, FastError> {
    tokio::time::timeout(Duration::from_secs(20), feed.next()).await.expect("nothing came in 20 s")
}

async fn event(feed: &mut FastFeed) -> Value {
    match next(feed).await.expect("the subscription ended") {
        FastEvent::Event(event) => event,
        FastEvent::Began(state) => panic!("a second beginning: {state}"),
    }
}

/// firewaller cases F5, F6, F7, F8 and F9 with the real server
#[tokio::test]
async fn npm_fast_messages_and_ours_understand_each_other() {
    let mut server = Server::start();
    let mut feed = FastFeed::connect(&server.address, "cn0").await.unwrap();
    let FastEvent::Began(state) = next(&mut feed).await.unwrap() else { panic!("no beginning") };
    assert_eq!((&state["server_id"], &state["version"]), (&json!("fwapi0"), &json!(1)));

    for id in 1..=100 {
        server.send(
            &json!({"id": id, "name": "fw.update_rule", "value": {"rule": "FROM tag \"日本 é 😀\" TO all vms ALLOW tcp PORT 22", "n": id}}),
        );
    }
    for id in 1..=100 {
        let event = event(&mut feed).await;
        assert_eq!((&event["id"], &event["value"]["n"]), (&json!(id), &json!(id)));
        assert!(event["value"]["rule"].as_str().unwrap().contains("日本 é 😀"));
    }

    let mut second = FastFeed::connect(&server.address, "cn0").await.unwrap();
    let FastEvent::Began(state) = next(&mut second).await.unwrap() else { panic!("no beginning") };
    assert_eq!(state["last_id"], 100);
    assert!(matches!(next(&mut feed).await, Err(FastError::Ended)), "the first one is told that it was replaced");
    server.send(&json!({"id": 101, "name": "sync", "value": {"type": "sync"}}));
    assert_eq!(event(&mut second).await["name"], "sync");
    assert_eq!(server.child.try_wait().unwrap(), None, "the real service has survived what it was sent");
}

#[tokio::test]
async fn firewaller_case_f2_f3_f4_f8_npm_fast_messages_answers_as_the_stand_in_does() {
    let mut server = Server::start();
    let address = server.address.clone();
    judge::answers_as_fwapi_does(&address, || server.send(&json!({"id": 1, "name": "fw.add_rule", "value": {}}))).await;
}
