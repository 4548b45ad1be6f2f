//! One instance from creation to deletion, looked at from outside and from inside.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use triton_e2e::{Node, assert_no_trace, until};

/// What issue's section "must be seen", point 1, asks of an instance.
#[test]
fn an_instance_has_its_name_address_route_resolvers_limits_and_a_user_namespace() {
    let node = Node::with_image("inside");
    let before = node.traces();
    let uuid = node.create(&node.payload(5));
    let vm = node.get(&uuid);
    assert_eq!((vm["state"].as_str(), vm["zone_state"].as_str()), (Some("running"), Some("running")));
    assert!(vm.get("exit_status").is_none(), "instances case 62: absent before the first end");
    let init = vm["pid"].as_i64().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let line = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(line("Uid:")[1].parse::<u32>().unwrap() >= 1_000_000, "uid 0 inside is not uid 0 outside");
    assert_eq!(line("NSpid:").last().unwrap(), "1", "it is pid 1 of its own namespace");

    assert_eq!(node.guest(&uuid, "id -u; hostname").trim(), "0\nweb5");
    assert_eq!(node.guest(&uuid, "cat /etc/hostname").trim(), "web5");
    let hosts = node.guest(&uuid, "cat /etc/hosts");
    assert!(hosts.contains("10.64.0.5\tweb5.example.com web5"), "{hosts}");
    assert_eq!(node.guest(&uuid, "cat /etc/resolv.conf"), "search example.com\nnameserver 192.0.2.53\n");
    let links = node.guest(&uuid, "ip addr");
    for text in ["eth0", "10.64.0.5/24", "fd64::5/64", "02:08:20:00:00:05", "lo"] {
        assert!(links.contains(text), "{text} in\n{links}");
    }
    assert!(node.guest(&uuid, "ip route").contains("default via 10.64.0.1 dev eth0"));
    assert!(node.guest(&uuid, "mount").lines().any(|l| l.contains(" /tmp ") && l.contains("size=16384k")), "tmpfs of 16 MiB");
    let cgroup = triton_cgroup::Cgroups::probe().unwrap();
    let payload = format!("{}/payload", node.cgroup(&uuid));
    if cgroup.layout() == triton_cgroup::CgroupLayout::V2 {
        assert_eq!(cgroup.get(&payload, "memory.max").unwrap().trim(), (64 << 20).to_string());
        assert_eq!(cgroup.get(&payload, "cpu.max").unwrap().trim(), "100000 100000");
    } else {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let memory = mounts.lines().find(|l| l.contains(" cgroup ") && l.contains(",memory")).unwrap().split(' ').nth(1).unwrap();
        let limit = std::fs::read_to_string(format!("{memory}/{payload}/memory.limit_in_bytes")).unwrap();
        assert_eq!(limit.trim(), (64 << 20).to_string());
    }
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

#[test]
fn two_instances_reach_each_other_by_ipv4_and_ipv6_and_not_the_node() {
    let node = Node::with_image("ping");
    let (one, two) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    node.guest(&one, "ping -c 1 -W 5 10.64.0.6");
    node.guest(&two, "ping -c 1 -W 5 fd64::5");
    assert_eq!(node.vmadm(&["lookup", "-j", "-o", "alias", "state=running"]).ok().json().as_array().unwrap().len(), 2);
    let range = |uuid: &str| {
        let pid = node.get(uuid)["pid"].as_i64().unwrap();
        std::fs::read_to_string(format!("/proc/{pid}/uid_map")).unwrap()
    };
    assert_ne!(range(&one), range(&two), "each instance has ids of its own");
}

/// instances cases 51, 56, 63
#[test]
fn starting_stopping_and_rebooting_follow_the_contract() {
    let node = Node::with_image("states");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    let uuid = node.create(&payload);
    let vm = node.get(&uuid);
    assert_eq!((vm["state"].as_str(), vm.get("pid"), vm.get("boot_timestamp")), (Some("stopped"), None, None));
    assert_eq!(vm["autoboot"], false);

    let outcome = node.vmadm(&["stop", &uuid]).ok();
    assert_eq!(outcome.stderr.trim(), format!("VM {uuid} is already not 'running' (currently: stopped)"));
    assert_eq!(node.vmadm(&["reboot", &uuid]).code, Some(1));
    let outcome = node.vmadm(&["kill", &uuid]);
    assert_eq!((outcome.code, outcome.stderr.trim()), (Some(1), format!("Cannot find running init PID for VM {uuid}").as_str()));

    assert_eq!(node.vmadm(&["start", &uuid]).ok().stderr.trim(), format!("Successfully started VM {uuid}"));
    let first = node.get(&uuid);
    assert_eq!((first["state"].as_str(), first["autoboot"].as_bool()), (Some("running"), Some(true)));
    assert_eq!(node.vmadm(&["start", &uuid]).ok().stderr.trim(), format!("VM {uuid} is already 'running'"));

    until("the first boot is counted", || node.guest(&uuid, "cat /var/boots 2>/dev/null || true") == "boot\n");
    assert_eq!(node.vmadm(&["reboot", &uuid]).ok().stderr.trim(), format!("Successfully completed reboot for VM {uuid}"));
    let second = node.get(&uuid);
    assert_ne!(first["pid"], second["pid"]);
    assert_ne!(first["boot_timestamp"], second["boot_timestamp"]);
    until("the second boot is counted", || node.guest(&uuid, "cat /var/boots") == "boot\nboot\n");
    assert!(node.guest(&uuid, "ip addr").contains("10.64.0.5/24"), "the network is made again at a reboot");
    assert_eq!(node.guest(&uuid, "stat -c %u:%g /bin/busybox").trim(), "0:0", "the root is mapped again at a reboot");

    assert_eq!(node.vmadm(&["stop", &uuid]).ok().stderr.trim(), format!("Successfully completed stop for VM {uuid}"));
    let stopped = node.get(&uuid);
    assert_eq!((stopped["state"].as_str(), stopped["autoboot"].as_bool()), (Some("stopped"), Some(false)));
    assert_eq!(stopped["exit_status"], 0, "a power-off counts as 0");
    assert!(std::path::Path::new(&node.layout().at(&format!("/zones/{uuid}/root/shutdown-was-orderly"))).exists(), "the guest was asked");
    assert!(stopped["exit_timestamp"].is_string());

    node.vmadm(&["start", &uuid]).ok();
    node.vmadm(&["reboot", "-F", &uuid]).ok();
    assert_eq!(node.state(&uuid), "running");
    node.vmadm(&["stop", "-F", &uuid]).ok();
    assert_eq!(node.get(&uuid)["exit_status"], -9);
    let outcome = node.vmadm(&["delete", &uuid]).ok();
    assert_eq!(outcome.stderr.trim(), format!("Successfully deleted VM {uuid}"));
}

/// instances cases 50, 52, 53, 54, 55
#[test]
fn instances_are_found_and_listed_as_scripts_expect() {
    let node = Node::with_image("lookup");
    let unknown = node.vmadm(&["get", "6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.last_error().ends_with("zoneadm: 6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9c11: No such zone configured"), "{unknown:?}");
    let mut payload = node.payload(5);
    payload["autoboot"] = false.into();
    payload["tags"] = serde_json::json!({"role": "db"});
    let uuid = node.create(&payload);
    for filter in ["alias=web5", "tags.role=db", "nics.*.mac=2:8:20:0:0:5", "alias=~^WEB", "ram=64", "type=LX"] {
        assert_eq!(node.vmadm(&["lookup", "-1", filter]).ok().stdout.trim(), uuid, "{filter}");
    }
    let none = node.vmadm(&["lookup", "-1", "alias=nope"]);
    assert_eq!((none.code, none.stderr.trim()), (Some(1), "Requested unique lookup but found 0 results."));
    assert_eq!(node.vmadm(&["lookup", "bogus=1"]).stderr.trim(), "Invalid lookup key: \"bogus\"");
    let json = node.vmadm(&["lookup", "-j", "-o", "uuid,brand"]).ok().json();
    assert_eq!(json[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["uuid", "brand"]);
    assert_eq!(node.vmadm(&["list", "-p", "-o", "uuid,hostname,state"]).ok().stdout, format!("{uuid}:web5:stopped\n"));
    let table = node.vmadm(&["list"]).ok().stdout;
    assert_eq!(table.lines().next().unwrap(), "UUID                                  TYPE  RAM      STATE             ALIAS");
    assert_eq!(node.vmadm(&["list", "-H"]).ok().stdout.lines().count(), 1);
    let bad = node.vmadm(&["frobnicate"]);
    assert_eq!((bad.code, bad.stderr.lines().next()), (Some(2), Some("Invalid command: \"frobnicate\".")));
    assert_eq!(node.vmadm(&["kill", "-s", "SIGWAT", &uuid]).stderr.trim(), "Unknown signal \"SIGWAT\"");
}
