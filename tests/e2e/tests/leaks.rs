//! Hundreds of mixed operations, with the services of the node beside them: afterwards there is no descriptor, mount, link, control
//! group, dataset, process or nftables object more than before. `TRITON_LEAK_OPERATIONS` says how many (200).
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command},
};

use serde_json::json;
use triton_e2e::{Node, assert_no_trace, until};

/// A service whose descriptors are counted.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    /// Open descriptors by what they are.
    fn descriptors(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fd", self.0.id())).unwrap().flatten() {
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let text = target.to_string_lossy().into_owned();
            let kind = if text.starts_with('/') { text } else { text.split(':').next().unwrap_or_default().to_owned() };
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts
    }
}

/// The node's nftables, counters left out.
fn ruleset(node: &Node) -> String {
    let pin = node.layout().namespaces().join("net");
    let output = Command::new("nsenter").arg(format!("--net={}", pin.display())).args(["nft", "-s", "list", "ruleset"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.contains("comment \"generation")).collect::<Vec<_>>().join("\n")
}

fn uuid(slot: usize) -> String {
    format!("6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e8{slot:03x}")
}

/// One after the other what an operator does, in an order that never repeats itself soon. Returns how many were done.
fn operate(node: &Node, wanted: usize) -> usize {
    const SLOTS: usize = 4;
    let mut exists = [false; SLOTS];
    let mut running = [false; SLOTS];
    let mut snapshots = [0; SLOTS];
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut done = 0;
    while done < wanted {
        let slot = random(SLOTS);
        let id = uuid(slot);
        if !exists[slot] {
            let mut payload = node.payload(u8::try_from(10 + slot).unwrap());
            payload["uuid"] = id.as_str().into();
            payload["max_physical_memory"] = 32.into();
            node.create(&payload);
            (exists[slot], running[slot], snapshots[slot]) = (true, true, 0);
            done += 1;
            continue;
        }
        match random(9) {
            0 => drop(node.vmadm(&["update", &id, &format!("alias=n{done}")]).ok()),
            1 => {
                let change = json!({"set_tags": {"n": done}, "set_customer_metadata": {"n": done}, "cpu_cap": 50 + done, "update_nics":
                    [{"mac": format!("02:08:20:00:00:{:02x}", 10 + slot), "allow_ip_spoofing": done % 2 == 0}]});
                node.run_with("vmadm", &["update", &id], &change.to_string(), &[]).ok();
            }
            2 => {
                node.vmadm(&["create-snapshot", &id, &format!("s{done}")]).ok();
                snapshots[slot] = done;
            }
            3 if snapshots[slot] > 0 => {
                node.vmadm(&["rollback-snapshot", &id, &format!("s{}", snapshots[slot])]).ok();
                running[slot] = true;
            }
            4 if running[slot] => drop(node.vmadm(&["reboot", "-F", &id]).ok()),
            5 if running[slot] => drop(node.guest(&id, "echo x > /root/file")),
            6 if running[slot] => {
                node.vmadm(&["stop", "-F", &id]).ok();
                running[slot] = false;
            }
            6 => {
                node.vmadm(&["start", &id]).ok();
                running[slot] = true;
            }
            7 => {
                node.vmadm(&["delete", &id]).ok();
                exists[slot] = false;
            }
            // What is refused must leave as little as what is done.
            8 => {
                let bad = json!({"update_nics": [{"mac": "02:08:20:00:00:ff", "ips": ["10.64.0.1/24"]}]});
                assert_eq!(node.run_with("vmadm", &["update", &id], &bad.to_string(), &[]).code, Some(1));
            }
            _ => continue,
        }
        done += 1;
    }
    for slot in (0..SLOTS).filter(|slot| exists[*slot]) {
        node.vmadm(&["delete", &uuid(slot)]).ok();
    }
    done
}

#[test]
fn hundreds_of_operations_leave_nothing() {
    let node = Node::with_image("leaks");
    // Once round, so that what is made at the first use (bridges, tables) is there.
    operate(&node, 12);
    let service = Service(node.spawn("metadata-agent", &[], &[]));
    until("the metadata service answers", || node.run("metadata-agent", &["status"]).code == Some(0));
    let before = (node.traces(), ruleset(&node), node.links());
    let descriptors = service.descriptors();
    let wanted = std::env::var("TRITON_LEAK_OPERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    assert_eq!(operate(&node, wanted), wanted);
    assert_no_trace(&node, &before.0);
    assert_eq!(node.links(), before.2, "links");
    assert_eq!(ruleset(&node), before.1, "nftables objects");
    until("the service has closed what belonged to guests", || {
        service.descriptors() == descriptors || service.descriptors().values().sum::<usize>() <= descriptors.values().sum()
    });
    let locks: Vec<_> = fs::read_dir(node.layout().locks()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!locks.iter().any(|name| name.to_string_lossy().contains("6a3f0c4e")), "locks of instances that are gone: {locks:?}");
    let control: Vec<_> =
        fs::read_dir(node.layout().at("/var/zonecontrol")).into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    assert!(control.iter().all(|name| !name.to_string_lossy().contains("6a3f0c4e")), "directories of sockets: {control:?}");
}
