//! The agents that tell VMAPI and NAPI of this node, with real guests, against the stand-in headnode.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use triton_e2e::{Headnode, Node, Reporters, assert_no_trace, http, until};

const OWNER: &str = "5e1f7b20-3c6d-4a91-8f0e-2d94b7a6c013";

fn payload(node: &Node, host: u8) -> Value {
    let mut payload = node.payload(host);
    payload["owner_uuid"] = OWNER.into();
    payload
}

fn nic(node: &Node, host: u8) -> Option<Value> {
    let reply = http(node, Headnode::NAPI, "GET", &format!("/nics/0208200000{host:02x}"), None);
    (reply.status == 200).then(|| reply.json())
}

fn vm(node: &Node, uuid: &str) -> Value {
    http(node, Headnode::VMAPI, "GET", &format!("/vms/{uuid}"), None).json()
}

fn nft(node: &Node, words: &str) -> String {
    let pin = node.layout().namespaces().join("net");
    let output = Command::new("nsenter").arg(format!("--net={}", pin.display())).arg("nft").args(words.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until both services say `state`, and says how long that took.
fn told(node: &Node, uuid: &str, host: u8, state: &str) -> Duration {
    let begun = Instant::now();
    until("NAPI and VMAPI know the state", || {
        nic(node, host).is_some_and(|nic| nic["state"] == state && nic["belongs_to_uuid"] == uuid) && vm(node, uuid)["state"] == state
    });
    begun.elapsed()
}

/// Issue 5, "must be seen"; net-agent cases 1, 2, 6, 11, 18, 23; vm-agent cases 17, 18, 19, 37, 42
#[test]
fn each_state_of_a_guest_is_known_to_napi_and_vmapi_and_what_napi_changes_reaches_the_guest() {
    let node = Node::with_image("net");
    let before = node.traces();
    {
        let headnode = Headnode::start(&node);
        let mut agents = Reporters::start(&node);
        let server = headnode.server();
        let uuid = node.create(&payload(&node, 5));
        told(&node, &uuid, 5, "running");
        let there = nic(&node, 5).unwrap();
        let expected = [("cn_uuid", json!(server)), ("owner_uuid", json!(OWNER)), ("ip", json!("10.64.0.5")), ("primary", json!(true))];
        assert!(expected.iter().all(|(key, value)| there[key] == *value), "{there:#}");
        until("the instance knows its network", || node.get(&uuid)["nics"][0]["network_uuid"] == there["network_uuid"]);
        assert_eq!(node.get(&uuid)["nics"][0]["ips"], json!(["10.64.0.5/24", "fd64::5/64"]), "its further addresses stay");

        // Stops, starts, reboots and the death of init.
        node.vmadm(&["stop", &uuid, "-F"]).ok();
        told(&node, &uuid, 5, "stopped");
        node.vmadm(&["start", &uuid]).ok();
        told(&node, &uuid, 5, "running");
        let boot = vm(&node, &uuid)["boot_timestamp"].clone();
        node.vmadm(&["reboot", &uuid, "-F"]).ok();
        until("VMAPI knows the new boot", || {
            let (here, there) = (node.get(&uuid), vm(&node, &uuid));
            there["boot_timestamp"] != boot && there["pid"] == here["pid"] && there["boot_timestamp"] == here["boot_timestamp"]
        });
        let pid = i32::try_from(node.get(&uuid)["pid"].as_i64().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        told(&node, &uuid, 5, "stopped");
        node.vmadm(&["start", &uuid]).ok();
        told(&node, &uuid, 5, "running");

        // NAPI lifts a protection: the rules of the running guest follow. Somebody empties the rules: they come back.
        let link = node.vmadm(&["info", &uuid, "network"]).ok().json()["network"][0]["host_link"].as_str().unwrap().to_owned();
        let path = "/nics/020820000005";
        http(&node, Headnode::NAPI, "PUT", path, Some(&json!({"allow_ip_spoofing": true})));
        until("the rules follow", || nft(&node, "list set bridge triton_guard any_address").contains(&link));
        assert_eq!(node.get(&uuid)["nics"][0]["allow_ip_spoofing"], true);
        nft(&node, "flush ruleset");
        until("the guard is back", || nft(&node, "list set bridge triton_guard any_address").contains(&link));
        assert!(agents.status("net-agent")["guard_repairs"].as_u64().unwrap() >= 1);

        // Nobody watches while things change on both sides.
        agents.kill("net-agent");
        agents.kill("vm-agent");
        http(&node, Headnode::NAPI, "PUT", path, Some(&json!({"allow_ip_spoofing": false})));
        node.vmadm(&["stop", &uuid, "-F"]).ok();
        let other = node.create(&payload(&node, 6));
        agents.run("net-agent");
        agents.run("vm-agent");
        told(&node, &uuid, 5, "stopped");
        told(&node, &other, 6, "running");
        until("the protection is back", || node.get(&uuid)["nics"][0]["allow_ip_spoofing"] != true);

        for (uuid, host) in [(&uuid, 5), (&other, 6)] {
            node.vmadm(&["delete", uuid]).ok();
            until("NAPI forgot the NIC", || nic(&node, host).is_none());
            until("VMAPI knows the end", || vm(&node, uuid)["state"] == "destroyed");
        }
        let violations = http(&node, Headnode::CONTROL, "GET", "/violations", None).json();
        assert!(violations.as_array().is_some_and(Vec::is_empty), "{violations:#}");
    }
    assert_no_trace(&node, &before);
}

/// A run of so many seconds waits until NICs of instances that went while no agent looked are swept (ruling 6).
const SWEPT: u64 = 300;

/// Issue 5: agents killed at random under churn, for 20 s or `TRITON_CHURN_SECONDS`.
#[test]
fn agents_that_are_killed_at_random_leave_napi_and_vmapi_with_the_truth() {
    let seconds = std::env::var("TRITON_CHURN_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let node = Node::with_image("churn");
    let before = node.traces();
    {
        let headnode = Headnode::start(&node);
        let server = headnode.server();
        let mut agents = Reporters::start(&node);
        let begun = Instant::now();
        let end = begun + Duration::from_secs(seconds);
        let mut here: BTreeMap<u8, String> = BTreeMap::new();
        let mut gone: Vec<(u8, String)> = Vec::new();
        let (mut next, mut kills) = (5, 0);
        while Instant::now() < end {
            // No address comes twice: NAPI gives none twice either.
            if here.len() < 4 && next < 200 {
                here.insert(next, node.create(&payload(&node, next)));
                next += 1;
            }
            let chosen = here.iter().nth(rand::random_range(0..here.len())).map(|(host, uuid)| (*host, uuid.clone()));
            let Some((host, uuid)) = chosen else { break };
            // Addresses last to the end.
            let due = 10.0 + 180.0 * begun.elapsed().as_secs_f64() / seconds as f64;
            match rand::random_range(0..4) {
                0 if f64::from(next) < due => {
                    node.vmadm(&["delete", &uuid]).ok();
                    here.remove(&host);
                    gone.push((host, uuid));
                }
                1 => drop(node.vmadm(&["stop", &uuid, "-F"])),
                2 => drop(node.vmadm(&["start", &uuid])),
                _ => {
                    let update = json!({"alias": format!("a{}", rand::random::<u16>())}).to_string();
                    node.run_with("vmadm", &["update", &uuid], &update, &[]).ok();
                }
            }
            if rand::random_range(0..3) == 0 {
                let name = ["net-agent", "vm-agent"][rand::random_range(0..2)];
                agents.kill(name);
                agents.run(name);
                kills += 1;
            }
        }
        assert!(kills > 0);
        println!("{kills} kills, {} instances made, {} of them destroyed", next - 5, gone.len());
        for (host, uuid) in &here {
            let local = node.get(uuid);
            told(&node, uuid, *host, local["state"].as_str().unwrap());
            until("VMAPI has the object", || {
                let there = vm(&node, uuid);
                ["alias", "last_modified", "boot_timestamp", "quota", "zone_state", "pid"].iter().all(|key| there[key] == local[key])
            });
            let (there, local) = (nic(&node, *host).unwrap(), &local["nics"][0]);
            assert_eq!((&there["cn_uuid"], &there["owner_uuid"]), (&json!(server), &json!(OWNER)), "{there:#}");
            // A VLAN that was never said is none.
            assert_eq!(there["vlan_id"].as_u64(), local["vlan_id"].as_u64().or(Some(0)));
            for key in ["ip", "netmask", "gateway", "network_uuid", "nic_tag", "mtu"] {
                assert_eq!(there[key], local[key], "{key}");
            }
        }
        for (host, uuid) in &gone {
            until("VMAPI knows the end", || vm(&node, uuid)["state"] == "destroyed");
            // What went while no agent looked is swept minutes later; until then it is what it was.
            assert!(nic(&node, *host).is_none_or(|nic| nic["belongs_to_uuid"] == json!(uuid)));
        }
        let wanted: BTreeSet<&str> = here.values().map(String::as_str).collect();
        let active = http(&node, Headnode::VMAPI, "GET", &format!("/vms?server_uuid={server}&state=active"), None).json();
        let active: BTreeSet<&str> = active.as_array().unwrap().iter().map(|vm| vm["uuid"].as_str().unwrap()).collect();
        assert_eq!(active, wanted, "what VMAPI has here");
        if seconds >= SWEPT {
            let end = Instant::now() + Duration::from_secs(600);
            loop {
                let left: Vec<u8> = gone.iter().filter(|(host, _)| nic(&node, *host).is_some()).map(|(host, _)| *host).collect();
                if left.is_empty() {
                    break;
                }
                assert!(Instant::now() < end, "NAPI still has the NICs {left:?} of instances that are gone");
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        for uuid in here.values() {
            node.vmadm(&["delete", uuid]).ok();
        }
        for host in here.keys() {
            until("NAPI forgot the NIC", || nic(&node, *host).is_none());
        }
    }
    // What a killed writer had not renamed yet goes with the next recovery, which cn-agent does every minute.
    node.recover();
    assert_no_trace(&node, &before);
}
