//! Section 3.12: the two ends of a migration, what they say, and what they refuse.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::support::{Bed, eventually};

struct Line(BufReader<TcpStream>);

impl Line {
    async fn open(bed: &Bed, task: &str, params: Value) -> Self {
        let reply = bed.task(task, params).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let port = u16::try_from(reply.json()["port"].as_u64().unwrap()).unwrap();
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap()))
    }

    async fn ask(&mut self, request: &Value) -> Value {
        self.0.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        self.next().await
    }

    async fn next(&mut self) -> Value {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return Value::Null;
            }
            let event: Value = serde_json::from_str(&line).unwrap();
            if event["type"] != "progress" {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn an_instance_is_sent_from_one_end_to_the_other_and_kept_hidden_there() {
    let (source, target) = (Bed::start().await, Bed::start().await);
    let uuid = source.node.add(false, false);
    let params = |action: &str| json!({"action": action, "vm": {"uuid": uuid}, "migrationTask": {"record": {"target_vm_uuid": uuid}}});
    let reply = target.task("machine_migrate_receive", json!({"vm_uuid": uuid})).await.json();
    assert_eq!(
        (&reply["event"], &reply["host"], &reply["pid"]),
        (&json!("setup completed"), &json!("127.0.0.1"), &json!(std::process::id()))
    );
    let mut control = Line::open(&source, "machine_migrate", params("sync")).await;
    assert_eq!(control.ask(&json!({"command": "ping", "eventId": 7})).await, json!({"type": "response", "command": "ping", "eventId": 7}));
    assert_eq!(control.ask(&json!({"command": "dance", "eventId": 8})).await["message"], "unexpected command: dance");
    for request in [json!({"command": "sync", "eventId": 9}), json!({"command": "sync", "eventId": 9, "host": "127.0.0.1", "port": 99_999})]
    {
        assert_eq!(control.ask(&request).await["type"], "error", "{request}");
    }
    let sync = json!({"command": "sync", "eventId": 10, "host": "127.0.0.1", "port": reply["port"]});
    assert_eq!(control.ask(&sync).await, json!({"type": "response", "command": "sync", "eventId": 10}));
    assert!(target.node.vms.lock().unwrap()[&uuid].hidden);
    assert_eq!(control.ask(&json!({"command": "stop", "eventId": 11})).await["type"], "response");
    assert_eq!(control.next().await, Value::Null, "it is over");
    // A damaged stream makes nothing, and the source hears why.
    let other = source.node.add(false, false);
    let mut end = Line::open(&target, "machine_migrate", json!({"action": "receive", "vm_uuid": other})).await;
    let request = json!({"command": "sync", "eventId": 1, "format": "triton-linux-instance"});
    assert_eq!(end.ask(&request).await["type"], "response");
    end.0.write_all(b"something else").await.unwrap();
    end.0.get_mut().shutdown().await.unwrap();
    assert_eq!(end.next().await, json!({"type": "error", "command": "sync", "message": "the stream is damaged"}));
    assert!(!target.node.vms.lock().unwrap().contains_key(&other));
}

#[tokio::test]
async fn where_both_nodes_have_zfs_only_what_the_target_lacks_is_sent_and_else_all_of_it() {
    let (source, target) = (Bed::start().await, Bed::start().await);
    let uuid = source.node.add(false, false);
    let sync = async || {
        let reply = target.task("machine_migrate_receive", json!({"vm_uuid": uuid})).await.json();
        let mut control = Line::open(&source, "machine_migrate", json!({"action": "sync", "vm_uuid": uuid})).await;
        let sync = json!({"command": "sync", "eventId": 1, "host": "127.0.0.1", "port": reply["port"]});
        assert_eq!(control.ask(&sync).await, json!({"type": "response", "command": "sync", "eventId": 1}));
        control.ask(&json!({"command": "stop", "eventId": 2})).await;
    };
    // A target without ZFS is sent the files, on the same connection.
    source.node.zfs.store(true, std::sync::atomic::Ordering::Relaxed);
    sync().await;
    target.node.vms.lock().unwrap().remove(&uuid);
    target.node.zfs.store(true, std::sync::atomic::Ordering::Relaxed);
    sync().await;
    sync().await;
    source.node.zfs.store(false, std::sync::atomic::Ordering::Relaxed);
    sync().await;
    assert!(target.node.vms.lock().unwrap()[&uuid].hidden);
    let sent: Vec<String> = source.node.calls().into_iter().filter(|call| call.starts_with("send") || call.starts_with("forget")).collect();
    let (all, first, later) = (format!("send {uuid}"), format!("send changes {uuid} false"), format!("send changes {uuid} true"));
    let forget = format!("forget marks {uuid} 1");
    let wanted = [all.clone(), forget.clone(), first, forget.clone(), later, forget.clone(), all, forget];
    assert_eq!(sent, wanted);
    let params = |value| json!({"action": "set-indestructible-delegated", "vm_uuid": uuid, "value": value});
    assert_eq!(source.task("machine_migrate", params("true")).await.status, 200);
    assert_eq!(source.task("machine_migrate", json!({"action": "remove-sync-snapshots", "vm_uuid": uuid})).await.seen(), (200, "{}"));
    assert!(source.node.calls().contains(&format!("forget marks {uuid} 0")));
}

#[tokio::test]
async fn a_live_state_another_uuid_a_stream_of_zfs_and_unknown_steps_are_refused_by_name() {
    let bed = Bed::start().await;
    let (running, stopped) = (bed.node.add(true, false), bed.node.add(false, false));
    let error = async |params: Value| bed.task("machine_migrate", params).await.json()["error"].as_str().unwrap().to_owned();
    let text = error(json!({"action": "sync", "vm_uuid": running})).await;
    assert!(text.contains(&format!("live migration is not available on Linux compute nodes: instance {running} is running")), "{text}");
    let record = json!({"record": {"vm_uuid": stopped, "target_vm_uuid": running}});
    assert!(error(json!({"action": "sync", "migrationTask": record})).await.contains("another uuid"));
    assert_eq!(error(json!({"action": "dance", "vm_uuid": stopped})).await, "Unexpected payload.action: dance");
    assert_eq!(error(json!({})).await, "Unexpected payload.action: ");
    assert!(error(json!({"action": "sync"})).await.contains("vm_uuid is missing"));
    assert!(error(json!({"action": "set-autoboot", "vm_uuid": stopped, "value": "perhaps"})).await.contains("neither"));
    let mut end = Line::open(&bed, "machine_migrate", json!({"action": "receive", "vm_uuid": stopped})).await;
    let reply = end.ask(&json!({"command": "sync", "eventId": 1, "zfsFilesystem": "zones/x", "isFirstSync": true})).await;
    assert!(reply["message"].as_str().unwrap().contains("not those of ZFS"), "{reply}");
    // Killing it ends it, and once more is no error.
    for _ in 0..2 {
        let reply = bed.task("machine_migrate", json!({"action": "kill_migration_process", "vm_uuid": stopped, "pid": 1})).await;
        assert_eq!(reply.seen(), (200, "{}"));
    }
    assert_eq!(end.next().await, Value::Null);
    // An instance has one end: the later one.
    let mut first = Line::open(&bed, "machine_migrate", json!({"action": "receive", "vm_uuid": stopped})).await;
    let mut second = Line::open(&bed, "machine_migrate", json!({"action": "receive", "vm_uuid": stopped})).await;
    assert_eq!(first.next().await, Value::Null);
    assert_eq!(second.ask(&json!({"command": "ping", "eventId": 1})).await["type"], "response");
    // The steps of a switch are updates.
    assert_eq!(
        bed.task("machine_migrate", json!({"action": "set-do-not-inventory", "vm_uuid": stopped, "value": "true"})).await.status,
        200
    );
    eventually("the update", || bed.node.calls().iter().any(|call| call.starts_with("update")).then_some(())).await;
}
