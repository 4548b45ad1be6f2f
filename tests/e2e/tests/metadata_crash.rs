//! Writes of guests that are killed, that meet others, and that cannot be stored.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
};

use serde_json::{Value, json};
use triton_e2e::{MetadataService, Node, mdata, until};
use triton_mdata::client::{Ask, Told, read};

fn document(node: &Node, uuid: &str) -> Value {
    let path = node.layout().at("/zones").join(uuid).join("config/metadata.json");
    serde_json::from_slice(&fs::read(path).unwrap()).expect("the file is whole")
}

/// metadata attack case 25; issue: SIGKILL during a PUT leaves the old or the new value, in every file.
#[test]
fn a_put_killed_at_any_step_leaves_the_old_or_the_new_value_and_is_then_done() {
    let node = Node::with_image("put-crash");
    let uuid = node.create(&node.payload(5));
    let trace = node.layout().at("/var/tmp/steps");
    {
        let service = MetadataService::with(&node, &[("TRITON_STEP_TRACE", trace.to_str().unwrap())]);
        mdata(&node, &uuid, "put k v0").ok();
        drop(service);
    }
    let text = fs::read_to_string(&trace).expect("steps were traced: this needs a debug build");
    let mut seen = BTreeSet::new();
    let steps: Vec<&str> = text.lines().filter(|step| step.starts_with("update.") && seen.insert(*step)).collect();
    assert!(steps.len() >= 5, "{steps:?}");
    for (round, step) in steps.iter().enumerate() {
        let (old, new) = (format!("v{round}"), format!("v{}", round + 1));
        let mut service = MetadataService::with(&node, &[("TRITON_STEP_KILL", step)]);
        std::thread::scope(|scope| {
            let put = scope.spawn(|| mdata(&node, &uuid, &format!("put k {new}")));
            until("the service is killed", || service.has_ended());
            for file in [node.get(&uuid), document(&node, &uuid)] {
                let value = &file["customer_metadata"]["k"];
                assert!(*value == old || *value == new, "{step}: {value}");
            }
            // The client waits for the next service, asks again, and is right in the end.
            service.restart();
            assert_eq!(put.join().unwrap().code, Some(0), "{step}");
        });
        assert_eq!(
            (&node.get(&uuid)["customer_metadata"]["k"], &document(&node, &uuid)["customer_metadata"]["k"]),
            (&json!(new), &json!(new))
        );
        assert_eq!(mdata(&node, &uuid, "get k").ok().stdout, format!("{new}\n"), "{step}");
        let records: Vec<_> = fs::read_dir(node.layout().machines()).unwrap().flatten().map(|e| e.file_name()).collect();
        assert_eq!(records.len(), 1, "{step}: {records:?}");
    }
    node.vmadm(&["delete", &uuid]).ok();
}

/// metadata cases 50, 59 and 63; attack case 27
#[test]
fn guests_and_operators_write_at_once_and_nothing_is_lost() {
    let node = Node::with_image("put-both");
    let config = node.layout().at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("metadata-agent.config.json"), r#"{"limits": {"writes": [1000, 1000]}}"#).unwrap();
    let service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    let modified = || node.get(&uuid)["last_modified"].as_str().unwrap().to_owned();
    let before = modified();
    mdata(&node, &uuid, "put a 1").ok();
    let after = modified();
    assert!(after > before, "{before} {after}");
    mdata(&node, &uuid, "put a 1").ok();
    assert_eq!(modified(), after, "the same value is no change");
    let writer = |name: &str| format!("for i in 1 2 3 4 5 6 7 8 9 10; do /native/usr/sbin/mdata-put {name}$i v || exit 9; done");
    std::thread::scope(|scope| {
        let guests: Vec<_> =
            ["p", "q", "r", "s"].map(|name| scope.spawn(|| node.try_guest(&uuid, &writer(name)).ok())).into_iter().collect();
        for round in 0..8 {
            let change = json!({"set_customer_metadata": {format!("op{round}"): "v"}, "set_tags": {format!("t{round}"): true}});
            node.run_with("vmadm", &["update", &uuid], &change.to_string(), &[]).ok();
        }
        guests.into_iter().for_each(|guest| drop(guest.join().unwrap()));
    });
    let vm = node.get(&uuid);
    assert_eq!(vm["customer_metadata"].as_object().unwrap().len(), 1 + 40 + 8, "{vm:#}");
    assert_eq!(vm["tags"].as_object().unwrap().len(), 8);
    assert_eq!(document(&node, &uuid)["customer_metadata"], vm["customer_metadata"]);
    node.vmadm(&["delete", &uuid]).ok();
    drop(service);
}

/// metadata attack case 28: the document is damaged while the guest runs. What the operator's tools cannot read is not invented
/// for the guest either: it hears that its metadata is not available, and nothing of the host.
#[test]
fn a_damaged_document_is_no_reason_to_end() {
    let node = Node::with_image("put-damaged");
    let service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    mdata(&node, &uuid, "put a 1").ok();
    let short = std::env::temp_dir().join(format!("mdata-damaged-{}", std::process::id()));
    std::os::unix::fs::symlink(node.layout().zonecontrol(uuid.parse().unwrap()), &short).unwrap();
    let ask = |key: &str| {
        let mut stream = UnixStream::connect(short.join("metadata.sock")).unwrap();
        stream.write_all(Ask::Get(key.to_owned()).encode(1).as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        read(&line, 1).unwrap()
    };
    let path = node.layout().at("/zones").join(&uuid).join("config/metadata.json");
    let good = fs::read(&path).unwrap();
    for broken in [&b"{"[..], b"", b"[]", b"{\"customer_metadata\": null}", b"\xff\xfe"] {
        fs::write(&path, broken).unwrap();
        match ask("a") {
            Told::Failure(text) => assert!(!text.contains("zones") && !text.is_empty(), "{text}"),
            Told::NotFound => {}
            Told::Success(value) => panic!("{broken:?}: {value:?}"),
        }
        assert_eq!(service.status()["sockets"], 1);
    }
    fs::write(&path, &good).unwrap();
    assert_eq!(ask("a"), Told::Success(b"1".to_vec()));
    fs::remove_file(&short).unwrap();
    node.vmadm(&["delete", &uuid]).ok();
}
