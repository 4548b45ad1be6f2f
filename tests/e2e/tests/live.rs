//! What of an update reaches a running guest at once, looked at from inside; and a small userland whose own network software is told to
//! leave the host's settings alone.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::fs;

use serde_json::{Value, json};
use triton_e2e::{IMAGE_UUID, Node, rootfs_tar, until};

fn update(node: &Node, uuid: &str, payload: &Value) -> String {
    node.run_with("vmadm", &["update", uuid], &payload.to_string(), &[]).ok().stderr
}

/// instances case 49
#[test]
fn static_routes_come_change_and_go_while_the_guest_runs() {
    let node = Node::with_image("routes");
    let mut payload = node.payload(5);
    payload["routes"] = json!({"172.20.0.0/16": "10.64.0.7", "172.21.0.0/16": "nics[0]"});
    let uuid = node.create(&payload);
    let init = node.get(&uuid)["pid"].clone();
    let routes = || {
        let text = node.guest(&uuid, "ip -4 route");
        let mut lines: Vec<String> = text.lines().filter(|l| l.starts_with("172.")).map(|l| l.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    assert_eq!(routes(), ["172.20.0.0/16 via 10.64.0.7 dev eth0", "172.21.0.0/16 dev eth0 scope link"]);
    node.guest(&uuid, "ip route add 172.30.0.0/16 via 10.64.0.9");
    update(
        &node,
        &uuid,
        &json!({"set_routes": {"172.20.0.0/16": "10.64.0.8", "172.22.0.0/16": "10.64.0.7"}, "remove_routes": ["172.21.0.0/16"]}),
    );
    let wanted = ["172.20.0.0/16 via 10.64.0.8 dev eth0", "172.22.0.0/16 via 10.64.0.7 dev eth0", "172.30.0.0/16 via 10.64.0.9 dev eth0"];
    assert_eq!(routes(), wanted, "and the guest's own route stays");
    assert!(node.guest(&uuid, "ip route").contains("default via 10.64.0.1"));
    assert_eq!(node.get(&uuid)["pid"], init, "without a reboot");
    node.vmadm(&["reboot", &uuid]).ok();
    assert_eq!(routes(), wanted[..2], "a boot makes the same of the configuration");
    let outcome = node.run_with("vmadm", &["update", &uuid], &json!({"set_routes": {"x": "1.2.3.4"}}).to_string(), &[]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("Invalid route destination"), "{outcome:?}");
    assert_eq!(routes(), wanted[..2]);
}

#[test]
fn locked_memory_of_a_running_guest_follows_its_limit() {
    let node = Node::with_image("memlock");
    let uuid = node.create(&node.payload(5));
    let init = node.get(&uuid)["pid"].as_i64().unwrap();
    let limit = || {
        let text = fs::read_to_string(format!("/proc/{init}/limits")).unwrap();
        text.lines().find(|line| line.starts_with("Max locked memory")).unwrap().split_whitespace().nth(3).unwrap().to_owned()
    };
    let before = limit();
    update(&node, &uuid, &json!({"max_locked_memory": 32}));
    assert_eq!(node.get(&uuid)["max_locked_memory"], 32);
    let privileged = fs::read_to_string("/proc/self/status").unwrap();
    let mask = privileged.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim().to_owned();
    if u64::from_str_radix(&mask, 16).unwrap() & (1 << 24) == 0 {
        assert_eq!(limit(), before, "without CAP_SYS_RESOURCE limits stay as they are, and nothing fails");
    } else {
        assert_eq!(limit(), (32u64 << 20).to_string());
    }
}

/// The test image with what its maker left for `ifup`.
fn install(node: &Node) -> String {
    let mut archive = rootfs_tar("rootfs/");
    archive.truncate(archive.len() - 1024);
    let mut tar = tar::Builder::new(archive);
    let rc = "#!/bin/sh\nfor applet in ifup run-parts; do ln -sf busybox /bin/$applet; done\nmkdir -p /var/run\n\
              /bin/ifup -a > /var/ifup.log 2>&1\necho up >> /var/ups\n";
    let interfaces = "auto eth0\niface eth0 inet static\n\taddress 192.0.2.99\n\tnetmask 255.255.255.0\n";
    for (name, mode, content) in [("etc/rc.local", 0o755, rc), ("etc/network/interfaces", 0o644, interfaces)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("rootfs/{name}"), content.as_bytes()).unwrap();
    }
    let file = tar.into_inner().unwrap();
    let sha1: String = <sha1::Sha1 as sha1::Digest>::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = IMAGE_UUID.replace("0001", "0008");
    let manifest = json!({"v": 2, "uuid": uuid, "name": "alpine", "version": "1", "type": "lxd", "os": "linux",
        "files": [{"sha1": sha1, "size": file.len(), "compression": "none"}]});
    node.install(&manifest, &file);
    uuid
}

/// As Alpine's: busybox with its own `ifup`, which the image's maker has told to give the interface another address.
#[test]
fn a_busybox_guest_with_its_own_ifup_keeps_the_hosts_addresses() {
    let node = Node::new("alpine");
    let mut payload = node.payload(5);
    payload["image_uuid"] = install(&node).into();
    payload["hostname"] = "alpine".into();
    let uuid = node.create(&payload);
    let root = node.layout().at(&format!("/zones/{uuid}/root"));
    let ups = || fs::read_to_string(root.join("var/ups")).unwrap_or_default().lines().count();
    let addresses = || node.guest(&uuid, "ip -o addr show dev eth0 | grep -v fe80 | sed 's/^.*\\(inet[6]* [^ ]*\\).*$/\\1/'");
    until("ifup has run", || ups() == 1);
    assert_eq!(addresses(), "inet 10.64.0.5/24\ninet6 fd64::5/64\n");
    node.vmadm(&["reboot", &uuid]).ok();
    until("ifup has run again", || ups() == 2);
    assert_eq!(addresses(), "inet 10.64.0.5/24\ninet6 fd64::5/64\n");
    assert_eq!(node.guest(&uuid, "hostname"), "alpine\n");
}
