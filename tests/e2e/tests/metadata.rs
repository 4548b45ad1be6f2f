//! The metadata service from inside guests: what they ask by the tools that the host shows them.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::{MetadataExt, PermissionsExt},
};

use serde_json::{Value, json};
use triton_e2e::{MetadataService, Node, assert_no_trace, mdata, until};
use triton_mdata::client::{Ask, Told, read};

fn payload(node: &Node, host: u8) -> Value {
    let mut payload = node.payload(host);
    payload["customer_metadata"] = json!({"bar:foo": "customer", "foo:bar": "customer", "user-script": "#!/bin/sh\necho hi\n"});
    payload["internal_metadata"] = json!({"bar:foo": "internal", "foo:bar": "internal", "hidden": "h"});
    payload["internal_metadata_namespaces"] = json!(["baz", "foo"]);
    payload["tags"] = json!({"role": "db"});
    payload
}

/// metadata cases 50, 56, 61, 69, 70, 76, 79, 81
#[test]
fn a_guest_reads_and_writes_its_own_metadata_and_the_host_sees_it() {
    let node = Node::with_image("metadata");
    let before = node.traces();
    let service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, 5));
    let said = mdata(&node, &uuid, "get sdc:uuid").ok();
    assert_eq!(said.stdout, format!("{uuid}\n"));
    assert_eq!(node.guest(&uuid, "ls -a /.zonecontrol | grep sock"), "metadata.sock\n");
    for (command, code, stdout) in [
        ("get foo:bar", 0, "internal\n"),
        ("get bar:foo", 0, "customer\n"),
        ("get hidden", 1, ""),
        ("list", 0, "bar:foo\nuser-script\nfoo:bar\n"),
        ("put foo:qux value", 2, ""),
        ("put quux:qux value", 0, ""),
        ("delete user-script", 0, ""),
        ("delete foo:bar", 2, ""),
        ("get sdc:tags.role", 0, "db\n"),
        ("get sdc:tags", 2, ""),
        ("get sdc:max_physical_memory", 0, "64\n"),
        ("get sdc:internal_metadata.hidden", 1, ""),
        ("get", 3, ""),
        ("put root_pw secret", 0, ""),
        ("get root_pw", 0, "secret\n"),
        ("put operator-script x", 2, ""),
        ("get nope", 1, ""),
    ] {
        let said = mdata(&node, &uuid, command);
        assert_eq!((said.code, said.stdout.as_str()), (Some(code), stdout), "{command}: {}", said.stderr);
    }
    assert_eq!(mdata(&node, &uuid, "get nope").stderr, "No metadata for 'nope'\n");
    assert_eq!(mdata(&node, &uuid, "put foo:qux v").stderr, "ERROR: Cannot update the \"foo\" Namespace.\n");
    let multi = node.try_guest(&uuid, "printf 'two\\nlines\\n' | /native/usr/sbin/mdata-put ml && /native/usr/sbin/mdata-get ml").ok();
    assert_eq!(multi.stdout, "two\nlines\n");
    let vm = node.get(&uuid);
    assert_eq!(vm["customer_metadata"], json!({"bar:foo": "customer", "foo:bar": "customer", "quux:qux": "value", "ml": "two\nlines\n"}));
    assert_eq!(vm["internal_metadata"], json!({"bar:foo": "internal", "foo:bar": "internal", "hidden": "h", "root_pw": "secret"}));
    // The other way round, at once.
    node.vmadm(&["update", &uuid, "alias=renamed"]).ok();
    assert_eq!(mdata(&node, &uuid, "get sdc:alias").ok().stdout, "renamed\n");
    // The mount is the host's to write.
    for attempt in
        ["touch /.zonecontrol/x", "rm /.zonecontrol/metadata.sock", "mv /.zonecontrol/metadata.sock /x", "chmod 777 /.zonecontrol"]
    {
        assert_ne!(node.try_guest(&uuid, attempt).code, Some(0), "{attempt}");
    }
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").code, Some(0));
    node.vmadm(&["delete", &uuid]).ok();
    assert!(!node.layout().zonecontrol(uuid.parse().unwrap()).exists());
    drop(service);
    assert_no_trace(&node, &before);
}

/// metadata case 49: what `vmadm update` changes is told at the next request of a connection that was open before
#[test]
fn changes_of_the_host_are_seen_by_the_next_request_of_an_open_connection() {
    let node = Node::with_image("metadata-fresh");
    let service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, 5));
    let socket = node.layout().zonecontrol(uuid.parse().unwrap()).join("metadata.sock");
    until("its socket is there", || socket.exists());
    let mut stream = triton_agent::unix::connect(&socket).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut get = |key: &str| {
        stream.write_all(Ask::Get(key.to_owned()).encode(1).as_bytes()).unwrap();
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match read(&line, 1) {
            Some(Told::Success(value)) => String::from_utf8(value).unwrap(),
            other => format!("{other:?}"),
        }
    };
    let mac = node.get(&uuid)["nics"][0]["mac"].clone();
    for (update, key, now) in [
        (json!({"alias": "renamed"}), "sdc:alias", "renamed"),
        (json!({"set_tags": {"role": "web"}}), "sdc:tags.role", "web"),
        (json!({"set_customer_metadata": {"fresh": "yes"}}), "fresh", "yes"),
        (json!({"resolvers": ["198.51.100.53"]}), "sdc:resolvers", "[\"198.51.100.53\"]"),
        (json!({"update_nics": [{"mac": mac, "ips": ["10.64.0.77/24"]}]}), "sdc:nics.0.ip", "10.64.0.77"),
    ] {
        assert_ne!(get(key), now, "{key}");
        node.run_with("vmadm", &["update", &uuid], &update.to_string(), &[]).ok();
        assert_eq!(get(key), now, "{key}");
    }
    node.vmadm(&["delete", &uuid]).ok();
    drop(service);
}

/// metadata cases 77 and 80; attack cases 1, 3, 6
#[test]
fn the_service_may_restart_and_guests_reboot_and_only_root_is_answered() {
    let node = Node::with_image("metadata-restart");
    let first = node.create(&payload(&node, 5));
    let directory = node.layout().zonecontrol(first.parse().unwrap());
    let inode = fs::metadata(&directory).unwrap().ino();
    // Made before the guest, without the service.
    let mut service = MetadataService::start(&node);
    let second = node.create(&payload(&node, 6));
    let answered = |uuid: &str| mdata(&node, uuid, "get sdc:uuid").stdout == format!("{uuid}\n");
    until("both guests are answered", || answered(&first) && answered(&second));
    service.restart();
    // The tool waits for the new socket.
    assert_eq!(mdata(&node, &first, "get sdc:uuid").ok().stdout, format!("{first}\n"));
    assert_eq!(fs::metadata(&directory).unwrap().ino(), inode, "the directory is never replaced");
    node.vmadm(&["reboot", &first, "-F"]).ok();
    until("it is answered after a reboot", || answered(&first));
    let mode = fs::metadata(&directory).unwrap();
    assert_eq!((mode.uid(), mode.permissions().mode() & 0o777), (0, 0o750));

    let other = node.try_guest(
        &first,
        "cp /native/usr/sbin/mdata /tmp/mdata-get; chmod 755 /tmp/mdata-get; echo 'u:x:33:33::/:/bin/sh' >> /etc/passwd",
    );
    other.ok();
    let pid = node.get(&first)["pid"].to_string();
    let said = std::process::Command::new("nsenter")
        .args(["-t", &pid, "-m", "-n", "-p", "-U", "-S", "33", "-G", "33", "--", "/tmp/mdata-get", "sdc:uuid"])
        .output()
        .unwrap();
    assert_eq!((said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()), (Some(2), ""), "another user of the guest");
    for uuid in [&first, &second] {
        node.vmadm(&["delete", uuid]).ok();
    }
    drop(service);
}

/// metadata attack cases 7, 8 and 9
#[test]
fn what_a_guest_leaves_in_the_place_of_its_mounts_hurts_nobody() {
    let node = Node::with_image("metadata-attack");
    let service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, 5));
    let bait = node.layout().at("/var/tmp/bait-of-images");
    fs::create_dir_all(&bait).unwrap();
    let root = node.layout().at("/zones").join(&uuid).join("root");
    let bait = bait.to_str().unwrap();
    for left in [
        format!("ln -s {bait} ROOT/.zonecontrol"),
        "ln -s /proc/1/root/etc ROOT/.zonecontrol; ln -s ../../../../etc ROOT/native".to_owned(),
        "mkfifo ROOT/.zonecontrol; touch ROOT/native".to_owned(),
        "mkdir ROOT/.zonecontrol; touch ROOT/.zonecontrol/metadata.sock; mkdir ROOT/native; ln -s / ROOT/native/.zonecontrol".to_owned(),
    ] {
        node.vmadm(&["stop", &uuid, "-F"]).ok();
        let root = root.to_str().unwrap();
        let script = format!("rm -rf {root}/.zonecontrol {root}/native; {}", left.replace("ROOT", root));
        assert!(std::process::Command::new("sh").args(["-ec", &script]).status().unwrap().success());
        node.vmadm(&["start", &uuid]).ok();
        assert_eq!(node.state(&uuid), "running", "{left}");
        assert_eq!(fs::read_dir(bait).unwrap().count(), 0, "{left}");
    }
    // The last one left directories: those are mounted over.
    assert_eq!(node.guest(&uuid, "/native/usr/sbin/mdata-get sdc:uuid"), format!("{uuid}\n"));
    node.vmadm(&["delete", &uuid]).ok();
    drop(service);
}

/// metadata case 77: after a rollback of its root and with the root of another image, without a step by hand; attack case 25 of them all
#[test]
fn a_guest_is_answered_after_a_rollback_and_with_another_image() {
    let node = Node::with_image("metadata-again");
    let mut service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node, 5));
    let answered = || mdata(&node, &uuid, "get sdc:uuid").stdout == format!("{uuid}\n");
    mdata(&node, &uuid, "put before 1").ok();
    node.vmadm(&["create-snapshot", &uuid, "s1"]).ok();
    mdata(&node, &uuid, "put after 2").ok();
    for restarted in [false, true] {
        if restarted {
            service.restart();
        }
        node.vmadm(&["rollback-snapshot", &uuid, "s1"]).ok();
        if node.state(&uuid) != "running" {
            node.vmadm(&["start", &uuid]).ok();
        }
        until("it is answered after a rollback", answered);
        assert_eq!(mdata(&node, &uuid, "get before").ok().stdout, "1\n");
        assert_eq!(mdata(&node, &uuid, "get after").code, Some(1), "metadata went back with the instance");
        mdata(&node, &uuid, "put after 2").ok();
    }
    let image = node.second_image();
    for restarted in [false, true] {
        if restarted {
            service.restart();
        }
        let said = node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": image}).to_string(), &[]);
        said.ok();
        if node.state(&uuid) != "running" {
            node.vmadm(&["start", &uuid]).ok();
        }
        until("it is answered with another image", answered);
        for (key, value) in [("after", "2\n"), ("foo:bar", "internal\n"), ("sdc:image_uuid", &format!("{image}\n"))] {
            assert_eq!(mdata(&node, &uuid, &format!("get {key}")).ok().stdout, value, "{key}");
        }
        node.guest(&uuid, "/bin/busybox umount /.zonecontrol /native/.zonecontrol");
        assert_eq!(mdata(&node, &uuid, "get after").ok().stdout, "2\n", "over its serial line, too");
        node.vmadm(&["reboot", &uuid, "-F"]).ok();
    }
    node.vmadm(&["delete", &uuid]).ok();
}
