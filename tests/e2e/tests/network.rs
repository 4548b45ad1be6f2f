//! What a guest with several NICs finds when its init begins.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use serde_json::json;
use triton_e2e::{EXTERNAL_TAG, IMAGE_UUID, Node, assert_no_trace, until};

/// instances cases 43 and 49
#[test]
fn every_nic_has_its_addresses_and_static_routes_are_there_after_each_boot() {
    let node = Node::with_image("nics");
    let before = node.traces();
    let mut payload = node.payload(5);
    let nic = |last: u8| json!({"nic_tag": EXTERNAL_TAG, "mac": format!("02:08:20:00:02:{last:02x}")});
    let mut nics = [nic(1), nic(2), nic(3), nic(4)];
    nics[0]["ips"] = json!(["172.19.1.5/24", "172.19.1.6/24", "fd00:19::5/64"]);
    nics[0]["gateways"] = json!(["172.19.1.1"]);
    nics[1]["ips"] = json!(["10.54.0.5/24"]);
    nics[1]["gateways"] = json!(["10.54.0.1"]);
    nics[1]["primary"] = true.into();
    nics[2]["ips"] = json!(["addrconf"]);
    payload["nics"] = json!(nics);
    payload["routes"] = json!({"172.20.42.0/24": "172.19.1.1", "10.55.0.0/16": "nics[1]", "10.56.1.1": "macs[2:8:20:0:2:1]"});
    let uuid = node.create(&payload);
    for boot in 1..=2 {
        let addresses = node.guest(&uuid, "ip -o addr");
        for (interface, address) in
            [("eth0", "172.19.1.5/24"), ("eth0", "172.19.1.6/24"), ("eth0", "fd00:19::5/64"), ("eth1", "10.54.0.5/24")]
        {
            assert!(
                addresses.lines().any(|line| line.contains(interface) && line.contains(address)),
                "boot {boot}, {address}:\n{addresses}"
            );
        }
        let routes = node.guest(&uuid, "ip route");
        for route in
            ["default via 10.54.0.1 dev eth1", "172.20.42.0/24 via 172.19.1.1 dev eth0", "10.55.0.0/16 dev eth1", "10.56.1.1 dev eth0"]
        {
            assert!(routes.lines().any(|line| line.starts_with(route)), "boot {boot}, {route}:\n{routes}");
        }
        assert!(!routes.contains("default via 172.19.1.1"), "only the primary NIC's gateway is the default route:\n{routes}");
        if boot == 1 {
            let pid = node.get(&uuid)["pid"].clone();
            node.vmadm(&["reboot", &uuid]).ok();
            until("it booted again", || node.get(&uuid)["pid"] != pid);
        }
    }
    let shown = node.get(&uuid)["nics"].clone();
    assert_eq!((shown[0]["ip"].as_str(), shown[2].get("ip"), shown[3].get("ips")), (Some("172.19.1.5"), None, None));
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}

/// instances.md section 7.5, ruling 10: the seed is beside the root, read-only, and the guest's root alone reads it.
#[test]
fn an_image_with_cloud_init_gets_a_seed_that_its_root_can_read_and_nobody_of_the_host() {
    let node = Node::with_image("seed");
    if node.is_machine() {
        return; // The image's snapshot cannot be changed there.
    }
    let before = node.traces();
    let cloud = node.layout().at(&format!("/zones/{IMAGE_UUID}/root/etc/cloud"));
    std::fs::create_dir(&cloud).unwrap();
    std::fs::write(cloud.join("cloud.cfg"), "").unwrap();
    let mut payload = node.payload(5);
    payload["customer_metadata"] = json!({"root_authorized_keys": "ssh-ed25519 AAAA operator"});
    let uuid = node.create(&payload);
    let seed = "/var/lib/cloud/seed/nocloud-net";
    let meta: serde_json::Value = serde_json::from_str(&node.guest(&uuid, &format!("cat {seed}/meta-data"))).unwrap();
    assert_eq!((meta["instance-id"].as_str(), &meta["public-keys"]), (Some(uuid.as_str()), &json!(["ssh-ed25519 AAAA operator"])));
    assert!(node.guest(&uuid, &format!("cat {seed}/network-config")).contains("10.64.0.5/24"));
    assert!(node.guest(&uuid, &format!("touch {seed}/x 2>&1 || echo refused")).contains("refused"));
    assert_eq!(node.guest(&uuid, &format!("stat -c '%u %a' {seed} {seed}/meta-data")), "0 500\n0 400\n");
    // Set-uid programs of the guest have real ids on disk: nobody else passes.
    use std::os::unix::fs::MetadataExt;
    let zonepath = std::fs::metadata(node.layout().at(&format!("/zones/{uuid}"))).unwrap();
    assert_eq!((zonepath.mode() & 0o7777, zonepath.uid()), (0o710, 0));
    assert!(zonepath.gid() >= 1_000_000, "the group that may pass is the guest's own root");
    node.vmadm(&["delete", &uuid]).ok();
    assert_no_trace(&node, &before);
}
