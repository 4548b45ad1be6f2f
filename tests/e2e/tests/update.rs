//! Changing an instance, running or stopped: what is stored, what reaches the guest at once, what is refused.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::{Value, json};
use triton_e2e::{Node, assert_no_trace};

fn update(node: &Node, uuid: &str, payload: &Value) -> triton_e2e::Outcome {
    node.run_with("vmadm", &["update", uuid], &payload.to_string(), &[])
}

#[track_caller]
fn updated(node: &Node, uuid: &str, payload: &Value) -> Value {
    let before = node.get(uuid)["last_modified"].as_str().unwrap().to_owned();
    let outcome = update(node, uuid, payload).ok();
    assert_eq!((outcome.stdout.as_str(), outcome.last_error()), ("", format!("Successfully updated VM {uuid}").as_str()));
    let after = node.get(uuid);
    assert!(after["last_modified"].as_str().unwrap() > before.as_str(), "instances case 65");
    after
}

/// instances cases 24, 25, 26, 27, 28, 29, 65
#[test]
fn limits_of_a_running_instance_change_at_once() {
    let node = Node::with_image("update-live");
    let uuid = node.create(&node.payload(5));
    let pid = node.get(&uuid)["pid"].clone();
    let sizes = |vm: &Value| ["max_physical_memory", "max_locked_memory", "max_swap", "tmpfs"].map(|key| vm[key].as_u64().unwrap());
    let memory = || node.limit(&uuid, &["memory.max", "memory.limit_in_bytes"]);

    let vm = updated(&node, &uuid, &json!({"max_physical_memory": 512, "max_locked_memory": 512, "max_swap": 512, "tmpfs": 512}));
    assert_eq!((sizes(&vm), memory()), ([512; 4], (512_u64 << 20).to_string()));
    let vm = updated(&node, &uuid, &json!({"max_physical_memory": 1024}));
    assert_eq!((sizes(&vm), memory()), ([1024; 4], (1024_u64 << 20).to_string()));
    assert!(node.guest(&uuid, "mount").lines().any(|l| l.contains(" /tmp ") && l.contains("size=1048576k")), "the tmpfs grew in place");
    let vm = updated(&node, &uuid, &json!({"max_physical_memory": 256}));
    assert_eq!((sizes(&vm), memory()), ([256; 4], (256_u64 << 20).to_string()));
    assert_eq!(sizes(&updated(&node, &uuid, &json!({"max_swap": 2048}))), [256, 256, 2048, 256]);
    assert_eq!(sizes(&updated(&node, &uuid, &json!({"ram": "128"})))[0], 128);

    let vm = updated(&node, &uuid, &json!({"cpu_cap": 1600, "cpu_shares": 200, "max_lwps": 500}));
    assert_eq!((vm["cpu_cap"].as_u64(), node.limit(&uuid, &["pids.max"])), (Some(1600), "500".to_owned()));
    let vm = updated(&node, &uuid, &json!({"cpu_cap": 0}));
    assert!(vm.get("cpu_cap").is_none());
    assert!(["max 100000", "-1"].contains(&node.limit(&uuid, &["cpu.max", "cpu.cfs_quota_us"]).as_str()));
    assert_eq!((vm["pid"].clone(), vm["state"].as_str()), (pid, Some("running")), "nothing was restarted");

    for swap in [64, 255] {
        let outcome = update(&node, &uuid, &json!({"max_swap": swap, "alias": "changed"}));
        assert_eq!((outcome.code, outcome.last_error()), (Some(1), "Invalid value(s) for: max_swap"));
    }
    assert_eq!(node.get(&uuid), vm, "a refused payload changes nothing");
}

/// instances cases 58, 59, 60, 61
#[test]
fn names_tags_and_metadata_are_set_and_removed() {
    let node = Node::with_image("update-names");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    let before = node.get(&uuid);
    let outcome = update(&node, &uuid, &json!({"brand": "bogus", "uuid": "01234567-89ab-cdef-0123-456789abcdef", "zonename": "x"})).ok();
    assert_eq!(outcome.stderr.trim(), format!("Successfully updated VM {uuid}"));
    assert_eq!(node.get(&uuid), before);

    let set: Vec<String> = ["alias=useless VM", "billing_id=9.99", "package_name=p"].iter().map(|word| (*word).to_owned()).collect();
    let mut words = vec!["update", uuid.as_str()];
    words.extend(set.iter().map(String::as_str));
    node.vmadm(&words).ok();
    let vm = node.get(&uuid);
    assert_eq!((vm["alias"].as_str(), vm["billing_id"].as_str()), (Some("useless VM"), Some("9.99")));
    let vm = updated(&node, &uuid, &json!({"alias": "", "package_name": ""}));
    assert!(vm.get("alias").is_none() && vm.get("package_name").is_none());

    updated(&node, &uuid, &json!({"set_tags": {"a": 1, "b": true, "c": "x"}}));
    let vm = updated(&node, &uuid, &json!({"remove_tags": ["a", "nothing"]}));
    assert_eq!(vm["tags"], json!({"b": true, "c": "x"}));
    let vm = updated(
        &node,
        &uuid,
        &json!({"remove_tags": ["b"], "set_tags": {"b": 2}, "set_customer_metadata": {"k": "mine"},
        "set_internal_metadata": {"k": "theirs"}, "set_routes": {"172.20.42.0/24": "172.19.1.1"}, "alias": "all"}),
    );
    assert_eq!(
        (&vm["tags"]["b"], &vm["customer_metadata"]["k"], &vm["internal_metadata"]["k"]),
        (&json!(2), &json!("mine"), &json!("theirs"))
    );
    assert_eq!((&vm["routes"], &vm["alias"]), (&json!({"172.20.42.0/24": "172.19.1.1"}), &json!("all")));
    let outcome = node.vmadm(&["update", &uuid, "alias"]);
    assert_eq!((outcome.code, outcome.stderr.lines().next()), (Some(2), Some("Invalid argument: \"alias\" (must be KEY=VALUE).")));
}

/// instances cases 33, 34, 41, 43; ruling 42
#[test]
fn nics_change_at_the_next_boot_and_it_is_said() {
    let node = Node::with_image("update-nics");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let add = json!({"add_nics": [{"nic_tag": "external", "mac": "02:08:20:00:00:06", "ips": ["10.65.0.6/24"]}]});
    let outcome = update(&node, &uuid, &add).ok();
    assert!(outcome.stderr.contains(&format!("Takes effect at the next boot of VM {uuid}: nics")), "{}", outcome.stderr);
    assert_eq!(node.get(&uuid)["nics"].as_array().unwrap().len(), 2);
    assert!(!node.guest(&uuid, "ip addr").contains("10.65.0.6"));
    node.vmadm(&["reboot", &uuid]).ok();
    assert!(node.guest(&uuid, "ip addr").contains("10.65.0.6/24"));

    for (bad, text) in [
        (json!({"add_nics": [{"nic_tag": "external", "ip": "10.0.0.1,10.0.0.2", "netmask": "255.0.0.0"}]}), "nics"),
        (json!({"add_nics": "eth7"}), "add_nics must be an array."),
        (json!({"update_nics": [{"mtu": 1500}]}), "NIC object needs a .mac property to update"),
        (json!({"update_nics": [{"mac": "02:08:20:00:00:99", "mtu": 1500}]}), "There is no existing NIC with that mac address"),
        (json!({"update_nics": [{"mac": "02:08:20:00:00:06", "primary": false}]}), "primary"),
        (json!({"add_nics": [{"nic_tag": "zonky", "ips": ["dhcp"]}]}), "Invalid nic tag \"zonky\""),
    ] {
        let object = node.get(&uuid);
        let outcome = update(&node, &uuid, &bad);
        assert!(outcome.code == Some(1) && outcome.stderr.contains(text), "{bad}: {}", outcome.stderr);
        assert_eq!(node.get(&uuid), object, "{bad}");
    }
    let vm = updated(&node, &uuid, &json!({"update_nics": [{"mac": "02:08:20:00:00:06", "primary": true, "ips": []}]}));
    assert!(vm["nics"][1].get("ip").is_none() && vm["nics"][0].get("primary").is_none() && vm["nics"][1]["primary"] == true);
    updated(&node, &uuid, &json!({"remove_nics": ["02:08:20:00:00:06"]}));
    node.vmadm(&["reboot", "-F", &uuid]).ok();
    assert!(!node.guest(&uuid, "ip addr").contains("02:08:20:00:00:06"));
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// A guest owns its files: what it put in the way of the host's writing is replaced or refused, never followed (ruling 51).
#[test]
fn links_that_a_guest_made_are_never_followed() {
    let node = Node::with_image("update-hostile");
    let uuid = node.create(&node.payload(5));
    let victim = node.layout().at("/var/tmp/victim");
    std::fs::write(&victim, "untouched").unwrap();
    let path = victim.to_string_lossy();
    node.guest(&uuid, &format!("rm -f /etc/resolv.conf /etc/hostname; ln -s {path} /etc/resolv.conf; ln -s {path} /etc/hostname"));
    let change = json!({"maintain_resolvers": true, "resolvers": ["9.9.9.9"], "hostname": "db5"});
    let outcome = update(&node, &uuid, &change).ok();
    assert!(outcome.stderr.contains("boot settings"), "{}", outcome.stderr);
    assert_eq!(node.guest(&uuid, "cat /etc/resolv.conf /etc/hostname"), "search example.com\nnameserver 9.9.9.9\ndb5\n");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    // The directory itself is a link: the update counts, the file is not written, and that is said.
    node.guest(&uuid, "mv /etc /etc.real && ln -s etc.real /etc");
    let outcome = update(&node, &uuid, &json!({"resolvers": ["8.8.8.8"]})).ok();
    assert!(outcome.stderr.contains("Warning: ") && outcome.stderr.contains("resolv.conf"), "{}", outcome.stderr);
    assert_eq!(node.get(&uuid)["resolvers"], json!(["8.8.8.8"]));
    node.guest(&uuid, "rm /etc && mv /etc.real /etc");
    assert!(node.guest(&uuid, "cat /etc/resolv.conf").contains("9.9.9.9"));
    // A tmpfs that is no longer one is left alone.
    node.guest(&uuid, "umount /tmp 2>/dev/null; rmdir /tmp && ln -s / /tmp");
    let outcome = update(&node, &uuid, &json!({"tmpfs": 32})).ok();
    assert!(outcome.stderr.contains("Warning: tmpfs could not be applied"), "{}", outcome.stderr);
    assert_eq!(node.get(&uuid)["tmpfs"], 32);
}

/// instances case 30; what storage in directories cannot enforce it still shows
#[test]
fn quota_and_protection_are_the_datasets() {
    let node = Node::with_image("update-quota");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    assert_eq!(updated(&node, &uuid, &json!({"quota": 13}))["quota"], 13);
    assert_eq!(updated(&node, &uuid, &json!({"quota": 0}))["quota"], 0);
    updated(&node, &uuid, &json!({"indestructible_zoneroot": true}));
    let outcome = node.vmadm(&["delete", &uuid]);
    assert_eq!(outcome.last_error(), format!("Failed to delete VM {uuid}: indestructible_zoneroot is set, cannot delete"));
    let image = node.second_image();
    let outcome = node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": image}).to_string(), &[]);
    assert_eq!(outcome.last_error(), format!("Failed to reprovision VM {uuid}: indestructible_zoneroot is set, cannot reprovision"));
    assert!(updated(&node, &uuid, &json!({"indestructible_zoneroot": false})).get("indestructible_zoneroot").is_none());
    node.vmadm(&["delete", &uuid]).ok();
}

/// Of changes at one time each is whole: the last one counts, and none is lost.
#[test]
fn updates_at_one_time_and_during_a_stop_are_all_there() {
    let node = Node::with_image("update-race");
    let uuid = node.create(&node.payload(5));
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (node, uuid) = (&node, uuid.as_str());
            let tag = format!("t{number}");
            scope.spawn(move || {
                let metadata = json!({tag.as_str(): number});
                update(node, uuid, &json!({"set_tags": metadata, "set_customer_metadata": metadata, "cpu_cap": 100 + number})).ok();
            });
        }
        scope.spawn(|| node.vmadm(&["stop", &uuid]).ok());
    });
    let vm = node.get(&uuid);
    assert_eq!((vm["tags"].as_object().unwrap().len(), vm["customer_metadata"].as_object().unwrap().len()), (6, 6));
    assert_eq!((vm["state"].as_str(), vm["autoboot"].as_bool()), (Some("stopped"), Some(false)));
}

/// instances section 2.5 and 6.7
#[test]
fn file_systems_follow_an_update_volumes_are_protected_and_an_archive_is_kept() {
    let node = Node::with_image("update-filesystems");
    let uuid = node.create(&node.payload(5));
    let data = node.layout().at("/opt/data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("file"), "from the host").unwrap();
    let volume = "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c12";
    let outcome = update(
        &node,
        &uuid,
        &json!({"add_filesystems": [
        {"type": "lofs", "source": "/opt/data", "target": "/data", "options": ["ro"]},
        {"type": "lofs", "source": volume, "target": "/volume"}]}),
    )
    .ok();
    assert!(outcome.stderr.contains("next boot") && outcome.stderr.contains("filesystems"), "{}", outcome.stderr);
    let refused = update(&node, &uuid, &json!({"add_filesystems": [{"type": "lofs", "source": "/proc", "target": "/host"}]}));
    assert_eq!((refused.code, refused.last_error()), (Some(1), "Invalid value(s) for: filesystems.*.source"));
    let refused = update(&node, &uuid, &json!({"add_filesystems": [{"type": "lofs", "source": "/nowhere", "target": "/host"}]}));
    assert_eq!(refused.last_error(), "missing requested filesystem: /nowhere");
    node.vmadm(&["reboot", "-F", &uuid]).ok();
    assert_eq!(node.guest(&uuid, "cat /data/file; echo mine > /volume/mine; cat /volume/mine"), "from the hostmine\n");
    assert_ne!(node.try_guest(&uuid, "touch /data/other").code, Some(0));

    let mut sharer = node.payload(6);
    sharer["autoboot"] = false.into();
    sharer["filesystems"] = json!([{"type": "lofs", "source": format!("/zones/{uuid}/volumes/{volume}"), "target": "/theirs"}]);
    let second = node.create(&sharer);
    let outcome = node.vmadm(&["delete", &uuid]);
    let text = format!("Failed to delete VM {uuid}: Unable to delete VM {uuid} the following VMs are sharing its volumes: [\"{second}\"]");
    assert_eq!((outcome.code, outcome.last_error()), (Some(1), text.as_str()));
    assert_eq!(node.state(&uuid), "running");
    // A new root keeps the volume.
    let image = node.second_image();
    node.run_with("vmadm", &["reprovision", &uuid], &json!({"image_uuid": image}).to_string(), &[]).ok();
    assert_eq!(node.guest(&uuid, "cat /volume/mine"), "mine\n");
    node.vmadm(&["delete", &second]).ok();

    updated(
        &node,
        &uuid,
        &json!({"archive_on_delete": true, "set_tags": {"kept": true}, "update_filesystems":
        [{"target": "/data", "options": []}], "remove_filesystems": ["/volume"]}),
    );
    if !node.is_machine() {
        std::fs::create_dir(node.layout().at("/zones/archive")).unwrap();
    }
    node.vmadm(&["delete", &uuid]).ok();
    if !node.is_machine() {
        let archive = node.layout().at(&format!("/zones/archive/{uuid}"));
        let vm: Value = serde_json::from_slice(&std::fs::read(archive.join("vm.json")).unwrap()).unwrap();
        assert_eq!((&vm["tags"]["kept"], vm["filesystems"].as_array().unwrap().len()), (&json!(true), 1));
        assert!(archive.join("config/tags.json").is_file() && archive.join("zfs.dump").is_file());
    }
}

/// instances case 57; section 2.7
#[test]
fn what_is_only_stored_is_stored_and_reported() {
    let node = Node::with_image("update-stored");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    let vm = updated(
        &node,
        &uuid,
        &json!({"do_not_inventory": true, "archive_on_delete": true, "zlog_max_size": 1000, "restart_init": false,
        "init_name": "/sbin/init", "fs_allowed": "ufs,tmpfs", "limit_priv": "default,-file_link", "kernel_version": "5.10",
        "internal_metadata_namespaces": ["docker"], "set_internal_metadata": {"docker:id": "a1"}}),
    );
    for (key, value) in [
        ("do_not_inventory", json!(true)),
        ("archive_on_delete", json!(true)),
        ("zlog_max_size", json!(1000)),
        ("restart_init", json!(false)),
        ("init_name", json!("/sbin/init")),
        ("kernel_version", json!("5.10")),
    ] {
        assert_eq!(vm[key], value, "{key}");
    }
    assert_eq!(vm["internal_metadata"]["docker:id"], "a1");
    assert_eq!(node.vmadm(&["lookup", "alias=web5"]).ok().stdout.trim(), uuid, "operators see it");
    let agents = triton_instance::Instances::open(node.layout()).unwrap();
    assert!(agents.list(false).unwrap().is_empty() && agents.list(true).unwrap().len() == 1, "agents do not");
    let vm = updated(&node, &uuid, &json!({"do_not_inventory": false, "archive_on_delete": false, "restart_init": true}));
    for key in ["do_not_inventory", "archive_on_delete", "restart_init"] {
        assert!(vm.get(key).is_none(), "{key}");
    }
    let outcome = update(&node, &uuid, &json!({"docker": true}));
    assert!(outcome.code == Some(1) && outcome.stderr.contains("docker"), "{}", outcome.stderr);
}
