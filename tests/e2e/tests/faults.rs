//! Faults that were not made by a kill: lost and broken state, races between callers, requests at a bad moment.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace, program, until};

fn stopped(node: &Node, host: u8) -> Value {
    let mut payload = node.payload(host);
    payload["autoboot"] = false.into();
    payload
}

/// Names of lock files, without those of instances that exist.
fn stray_locks(node: &Node) -> Vec<String> {
    let names = fs::read_dir(node.layout().locks()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("vm.") || name.starts_with("run.")).collect()
}

#[test]
fn a_request_for_an_instance_that_is_not_there_leaves_nothing() {
    let node = Node::new("unknown");
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
    for verb in ["start", "stop", "reboot", "kill", "delete", "get", "info", "console"] {
        let outcome = node.vmadm(&[verb, uuid]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{verb}");
        assert!(outcome.last_error().ends_with(&format!("zoneadm: {uuid}: No such zone configured")), "{verb}: {}", outcome.stderr);
    }
    assert_eq!(stray_locks(&node), Vec::<String>::new());
}

/// instances case 44
#[test]
fn of_creations_at_once_with_one_mac_or_one_address_exactly_one_succeeds() {
    let node = Node::with_image("claims");
    let before = node.traces();
    for same in ["mac", "ips"] {
        let texts: Vec<String> = (5..9u8)
            .map(|host| {
                let mut payload = stopped(&node, host);
                payload["nics"][0][same] = node.payload(5)["nics"][0][same].clone();
                payload.to_string()
            })
            .collect();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> = texts.iter().map(|text| scope.spawn(|| node.run_with("vmadm", &["create"], text, &[]))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        let (good, bad): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.code == Some(0));
        assert_eq!(good.len(), 1, "{same}: {bad:?}");
        for outcome in bad {
            assert_eq!(outcome.stderr.trim(), "Conflict detected with another vm, please check the MAC, IP, and VRID");
        }
        node.vmadm(&["delete", good[0].last_error().rsplit(' ').next().unwrap()]).ok();
    }
    assert_no_trace(&node, &before);
    assert_eq!(stray_locks(&node), Vec::<String>::new());
}

/// Ruling 43: a run-state is derived anew. Nobody may be told that a running guest stopped.
#[test]
fn a_run_state_that_was_lost_or_broken_changes_nothing_for_a_running_guest() {
    let node = Node::with_image("runstate");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let path = node.layout().run_state(uuid.parse().unwrap());
    let vm = node.get(&uuid);
    let monitors = node.monitors();
    for broken in [None, Some(""), Some("{"), Some("[]"), Some("{\"format\":1}"), Some("\0\0\0")] {
        match broken {
            None => fs::remove_file(&path).unwrap(),
            Some(text) => fs::write(&path, text).unwrap(),
        }
        let list = node.vmadm(&["list", "-p", "-o", "uuid,state,pid"]).ok().stdout;
        assert_eq!(list, format!("{uuid}:running:{}\n", vm["pid"]), "{broken:?}");
        assert_eq!(node.get(&uuid)["pid"], vm["pid"], "{broken:?}");
        assert_eq!(node.monitors(), monitors, "{broken:?}: its supervisor lives, so it gets no second one");
        let state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(state["phase"], "running", "{broken:?}: the file is made good");
    }
    node.vmadm(&["stop", &uuid]).ok();
    assert_eq!(node.get(&uuid)["exit_status"], 0, "the supervisor recorded the end");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// Ruling 58.
#[test]
fn a_run_state_of_a_newer_version_is_refused_by_name_and_not_overwritten() {
    let node = Node::with_image("newer");
    let uuid = node.create(&stopped(&node, 5));
    let path = node.layout().run_state(uuid.parse().unwrap());
    let text = "{\"format\": 99, \"shape\": \"another\"}";
    fs::write(&path, text).unwrap();
    let outcome = node.vmadm(&["start", &uuid]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("format 99"), "{}", outcome.stderr);
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::remove_file(&path).unwrap();
}

/// The starter dies at a moment when the monitor goes on by itself.
#[test]
fn a_start_whose_starter_was_killed_can_be_stopped_started_and_deleted_at_once() {
    let node = Node::with_image("orphanstart");
    let before = node.traces();
    for verb in ["stop", "start", "delete"] {
        let uuid = node.create(&stopped(&node, 5));
        let path = node.layout().run_state(uuid.parse().unwrap());
        let mut starter = Command::new(program("vmadm"))
            .arg("--root")
            .arg(node.layout().root())
            .args(["start", &uuid])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("a monitor took charge", || fs::read_to_string(&path).is_ok_and(|text| text.contains("\"supervisor\": {")));
        starter.kill().unwrap();
        starter.wait().unwrap();
        let begun = Instant::now();
        node.vmadm(&[verb, &uuid]).ok();
        // A stop that waits for a supervisor that waits for its guest lasts until the supervisor is given up, half a minute.
        assert!(begun.elapsed().as_secs() < 25, "{verb} waited for what would not happen");
        if verb != "delete" {
            assert_eq!(node.state(&uuid), if verb == "stop" { "stopped" } else { "running" });
            node.vmadm(&["delete", &uuid]).ok();
        }
        assert_no_trace(&node, &before);
    }
}

#[test]
fn a_creation_that_cannot_announce_itself_leaves_nothing() {
    let node = Node::with_image("announce");
    let before = node.traces();
    // A directory in the place of the file that the announcement replaces.
    let uuid = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11";
    let place = node.layout().run_state(uuid.parse().unwrap());
    fs::create_dir_all(place.join("x")).unwrap();
    let mut payload = stopped(&node, 5);
    payload["uuid"] = uuid.into();
    let outcome = node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(!node.layout().machine(uuid.parse().unwrap()).exists(), "it was taken back");
    fs::remove_dir_all(&place).unwrap();
    assert_no_trace(&node, &before);
}

#[test]
fn a_shared_file_system_comes_from_below_the_nodes_root_and_a_private_one_is_the_guests() {
    let node = Node::with_image("lofs");
    let source = node.layout().at("/export/data");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("here"), "of the node").unwrap();
    let mut payload = node.payload(5);
    payload["filesystems"] = json!([{"type": "lofs", "source": "/export/data", "target": "/data", "options": ["ro"]}]);
    let volume = "0b9c8a1e-5f0e-4e55-8d5c-2f7f3a1b9c11";
    payload["filesystems"].as_array_mut().unwrap().push(json!({"type": "lofs", "source": volume, "target": "/volume"}));
    let uuid = node.create(&payload);
    assert_eq!(node.guest(&uuid, "cat /data/here"), "of the node");
    assert!(node.guest(&uuid, "touch /data/x 2>&1 || echo refused").contains("refused"), "ro");
    node.guest(&uuid, "echo kept > /volume/file");
    node.vmadm(&["stop", "-F", &uuid]).ok();
    node.vmadm(&["start", &uuid]).ok();
    assert_eq!(node.guest(&uuid, "cat /volume/file; stat -c %u /volume/file"), "kept\n0\n", "a private volume is the guest's own");
}

#[test]
fn what_the_storage_cannot_give_is_refused_before_anything_is_made() {
    let node = Node::with_image("delegate");
    let before = node.traces();
    let mut payload = stopped(&node, 5);
    payload["delegate_dataset"] = true.into();
    let outcome = node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    if node.is_machine() {
        // ZFS gives it.
        node.vmadm(&["delete", outcome.ok().last_error().rsplit(' ').next().unwrap()]).ok();
    } else {
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains("delegate_dataset"), "{}", outcome.stderr);
    }
    assert_no_trace(&node, &before);
    // Where the kernel has no VLAN filtering, a VLAN is refused in the same way; where it has, it is given.
    let mut payload = node.payload(5);
    payload["nics"][0]["vlan_id"] = 5.into();
    let outcome = node.run_with("vmadm", &["create"], &payload.to_string(), &[]);
    if outcome.code == Some(0) {
        node.vmadm(&["delete", outcome.last_error().rsplit(' ').next().unwrap()]).ok();
    } else {
        assert!(outcome.stderr.to_lowercase().contains("vlan"), "{}", outcome.stderr);
    }
    assert_no_trace(&node, &before);
}

/// instances case 69
#[test]
fn a_protected_instance_stays_until_its_protection_ends_and_a_failed_one_is_not_protected() {
    let node = Node::with_image("protected");
    let before = node.traces();
    let mut payload = stopped(&node, 5);
    payload["indestructible_zoneroot"] = true.into();
    let uuid = node.create(&payload);
    let outcome = node.vmadm(&["delete", &uuid]);
    assert_eq!(
        (outcome.code, outcome.stderr.trim()),
        (Some(1), format!("Failed to delete VM {uuid}: indestructible_zoneroot is set, cannot delete").as_str())
    );
    // Cleared in the file alone, the hold still counts.
    let path = node.layout().machine(uuid.parse().unwrap());
    let text = fs::read_to_string(&path).unwrap();
    let cleared = text.replace("\"indestructible_zoneroot\": true,", "");
    assert_ne!(text, cleared, "{text}");
    fs::write(&path, &cleared).unwrap();
    assert!(node.vmadm(&["delete", &uuid]).stderr.contains("indestructible_zoneroot is set"));
    // A creation that failed: deletable, hold or not.
    fs::write(&path, text.replace("\"state\": \"installed\"", "\"state\": \"provisioning\"")).unwrap();
    assert_eq!(node.state(&uuid), "failed");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// Ruling 3: also when the clock was set back.
#[test]
fn last_modified_increases_with_every_change_whatever_the_clock_says() {
    let node = Node::with_image("clock");
    let uuid = node.create(&node.payload(5));
    let future = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
    let file = fs::File::options().write(true).open(node.layout().machine(uuid.parse().unwrap())).unwrap();
    file.set_modified(future).unwrap();
    let modified = || node.get(&uuid)["last_modified"].as_str().unwrap().to_owned();
    let mut last = modified();
    assert!(last.starts_with("2096"), "{last}");
    for (verb, change) in
        [("kill", ["kill", "-s", "KILL"].as_slice()), ("stop", &["stop"]), ("start", &["start"]), ("stop", &["stop", "-F"])]
    {
        let args: Vec<&str> = change.iter().copied().chain([uuid.as_str()]).collect();
        node.vmadm(&args).ok();
        let now = modified();
        assert!(now > last, "{verb}: {last} {now}");
        last = now;
    }
}

/// A small file system in the place of a directory, with the directory's content; goes with the guard.
struct Small(std::path::PathBuf);
impl Small {
    fn over(directory: &std::path::Path, kib: u32) -> Self {
        let saved = directory.with_extension("saved");
        let run =
            |program: &str, args: &[&str]| assert!(Command::new(program).args(args).status().unwrap().success(), "{program} {args:?}");
        let (place, saved) = (directory.to_str().unwrap(), saved.to_str().unwrap());
        run("cp", &["-a", place, saved]);
        run("mount", &["-t", "tmpfs", "-o", &format!("size={kib}k,mode=755"), "tmpfs", place]);
        let guard = Self(directory.to_owned());
        run("cp", &["-a", &format!("{saved}/."), place]);
        guard
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("fill")).unwrap();
        while std::io::Write::write(&mut file, &[0; 1024]).is_ok_and(|count| count > 0) {}
    }
}
impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn on_a_full_disk_nothing_is_started_that_cannot_be_recorded_and_deletion_frees_space() {
    let node = Node::with_image("full");
    let uuid = node.create(&stopped(&node, 5));
    let small = Small::over(&node.layout().state(), 64);
    small.fill();
    let outcome = node.vmadm(&["start", &uuid]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("No space left"), "{}", outcome.stderr);
    assert_eq!(node.state(&uuid), "stopped", "what was not done is not half done");
    let outcome = node.run_with("vmadm", &["create"], &stopped(&node, 6).to_string(), &[]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("No space left"), "{}", outcome.stderr);
    assert_eq!(node.vmadm(&["lookup"]).ok().stdout, format!("{uuid}\n"));
    node.vmadm(&["delete", &uuid]).ok();
    assert_eq!(node.vmadm(&["lookup"]).ok().stdout, "");
    assert!(!node.layout().at(&format!("/zones/{uuid}")).exists());
}

/// instances.md section 7.2: a private range of ids, never given twice.
#[test]
fn the_ids_of_an_instance_whose_file_cannot_be_read_are_given_to_nobody() {
    let node = Node::with_image("ids");
    let range = |uuid: &str| {
        let text = fs::read_to_string(format!("/proc/{}/uid_map", node.get(uuid)["pid"])).unwrap();
        text.split_whitespace().nth(1).unwrap().to_owned()
    };
    let broken = node.create(&node.payload(5));
    let (path, owned) = (node.layout().machine(broken.parse().unwrap()), range(&broken));
    let good = fs::read(&path).unwrap();
    fs::write(&path, &good[..20]).unwrap();
    let other = node.create(&node.payload(6));
    assert_ne!(range(&other), owned);
    fs::write(&path, good).unwrap();
    node.vmadm(&["delete", &broken]).ok();
    let third = node.create(&node.payload(7));
    assert_eq!(range(&third), owned, "what is known to be free is used again");
}
