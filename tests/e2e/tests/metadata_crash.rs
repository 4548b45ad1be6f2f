//! Writes of guests that are killed, that meet others, and that cannot be stored.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
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

/// Asks at the socket of an instance as the host's root.
fn ask(node: &Node, uuid: &str, what: &Ask) -> Told {
    let socket = node.layout().zonecontrol(uuid.parse().unwrap()).join("metadata.sock");
    let mut stream = triton_agent::unix::connect(&socket).unwrap();
    stream.write_all(what.encode(1).as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    read(&line, 1).unwrap()
}

fn get(node: &Node, uuid: &str, key: &str) -> Told {
    ask(node, uuid, &Ask::Get(key.to_owned()))
}

fn failed(told: &Told) -> bool {
    matches!(told, Told::Failure(text) if !text.is_empty() && !text.contains("zones") && !text.contains('/'))
}

/// metadata attack case 28: a document is damaged while the guest runs. The host's keys are answered on; of the others the guest hears
/// that they cannot be had, not that there are none: scripts remove what is not there.
#[test]
fn a_damaged_document_costs_its_own_keys_alone() {
    let node = Node::with_image("put-damaged");
    let service = MetadataService::start(&node);
    let mut payload = node.payload(5);
    payload["internal_metadata"] = json!({"operator-script": "#!/bin/sh\n"});
    payload["tags"] = json!({"role": "db"});
    let uuid = node.create(&payload);
    mdata(&node, &uuid, "put a 1").ok();
    let value = |text: &str| Told::Success(text.as_bytes().to_vec());
    let config = node.layout().at("/zones").join(&uuid).join("config");
    let metadata = config.join("metadata.json");
    let good = fs::read(&metadata).unwrap();
    for broken in [&b"{"[..], b"", b"[]", b"null", b"{\"customer_metadata\": null}", b"{\"internal_metadata\": 7}", b"\xff\xfe"] {
        fs::write(&metadata, broken).unwrap();
        for (key, said) in [("sdc:uuid", uuid.as_str()), ("sdc:alias", "web5"), ("sdc:tags.role", "db"), ("sdc:routes", "[]")] {
            assert_eq!(get(&node, &uuid, key), value(said), "{key} beside {broken:?}");
        }
        let asked = [Ask::Get("a".into()), Ask::Get("sdc:operator-script".into()), Ask::Keys];
        let written = [Ask::Put("b".into(), b"2".to_vec()), Ask::Delete("a".into()), Ask::Put("x_pw".into(), b"2".to_vec())];
        for ask_ in asked.into_iter().chain(written) {
            let told = ask(&node, &uuid, &ask_);
            assert!(failed(&told), "{ask_:?} beside {broken:?}: {told:?}");
        }
        assert_eq!(fs::read(&metadata).unwrap(), broken, "nothing is written over what may still be mended");
    }
    fs::write(&metadata, &good).unwrap();
    assert_eq!(get(&node, &uuid, "a"), value("1"));
    // Whole, with values of other kinds than there should be.
    fs::write(&metadata, r#"{"customer_metadata": {"a": null, "b": {"c": 1}, "d": "4"}, "internal_metadata": {}}"#).unwrap();
    assert_eq!((get(&node, &uuid, "a"), get(&node, &uuid, "d")), (Told::NotFound, value("4")));
    assert_eq!(get(&node, &uuid, "b"), Told::Failure(String::new()));
    fs::remove_file(&metadata).unwrap();
    assert_eq!((get(&node, &uuid, "d"), get(&node, &uuid, "sdc:uuid")), (Told::NotFound, value(&uuid)));
    fs::write(&metadata, &good).unwrap();
    fs::write(config.join("tags.json"), "x").unwrap();
    fs::write(config.join("routes.json"), "x").unwrap();
    assert!(failed(&get(&node, &uuid, "sdc:tags.role")) && failed(&get(&node, &uuid, "sdc:routes")));
    assert_eq!((get(&node, &uuid, "a"), get(&node, &uuid, "sdc:nics.0.ip")), (value("1"), value("10.64.0.5")));
    fs::write(config.join("tags.json"), "{}").unwrap();
    fs::write(config.join("routes.json"), "{}").unwrap();
    assert_eq!(service.status()["sockets"], 1);
    let log = fs::read_to_string(node.layout().at("/var/log/metadata-agent.log")).unwrap();
    assert!(log.contains("metadata.json"), "the host is told which file");
    node.vmadm(&["delete", &uuid]).ok();
}

/// Runs a mount command of the host; true if it succeeded.
fn mount(words: &[&str]) -> bool {
    std::process::Command::new(words[0]).args(&words[1..]).status().unwrap().success()
}

/// Puts a file system over a directory, and takes it away however the test ends.
struct Over(std::path::PathBuf);

impl Over {
    fn new(path: &Path, how: &[&str]) -> Self {
        let over = Self(path.to_owned());
        assert!(mount(&[&["mount"], how, &[path.to_str().unwrap()]].concat()));
        over
    }
}

impl Drop for Over {
    fn drop(&mut self) {
        mount(&["umount", "-l", self.0.to_str().unwrap()]);
    }
}

/// metadata attack case 26: neither a file system that is full nor one that is read-only takes a value away, or the service
#[test]
fn a_put_that_cannot_be_stored_fails_and_the_old_value_stays() {
    let node = Node::with_image("put-full");
    let service = MetadataService::start(&node);
    let (uuid, neighbour) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    mdata(&node, &uuid, "put k old").ok();
    let config = node.layout().at("/zones").join(&uuid).join("config");
    let refused = |what: &str| {
        let big = Ask::Put("k".into(), vec![b'n'; 40_000]);
        assert!(failed(&ask(&node, &uuid, &big)), "{what}");
        assert!(failed(&ask(&node, &uuid, &Ask::Put("new".into(), vec![b'n'; 40_000]))), "{what}");
        assert_eq!(get(&node, &uuid, "k"), Told::Success(b"old".to_vec()), "{what}");
        assert_eq!(get(&node, &uuid, "new"), Told::NotFound, "{what}");
        assert_eq!(node.get(&uuid)["customer_metadata"], json!({"k": "old"}), "{what}");
        mdata(&node, &neighbour, "put k v").ok();
        assert_eq!(service.status()["sockets"], 2, "{what}");
    };
    {
        let _read_only = Over::new(&config, &["--bind", config.to_str().unwrap()]);
        assert!(mount(&["mount", "-o", "remount,ro,bind", config.to_str().unwrap()]));
        refused("the file system is read-only");
    }
    let files: Vec<_> = fs::read_dir(&config).unwrap().flatten().map(|entry| (entry.path(), fs::read(entry.path()).unwrap())).collect();
    {
        let _full = Over::new(&config, &["-t", "tmpfs", "-o", "size=16k,mode=700", "none"]);
        for (path, bytes) in &files {
            fs::write(path, bytes).unwrap();
        }
        refused("the file system is full");
    }
    mdata(&node, &uuid, "put k new").ok();
    assert_eq!(get(&node, &uuid, "k"), Told::Success(b"new".to_vec()));
    for uuid in [&uuid, &neighbour] {
        node.vmadm(&["delete", uuid]).ok();
    }
}
