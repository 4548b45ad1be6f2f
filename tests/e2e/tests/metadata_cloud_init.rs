//! cloud-init of Debian against the service and the seed.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::fs;

use serde_json::{Value, json};
use triton_e2e::{CloudInit, MetadataService, Node, until};

fn payload(node: &Node) -> Value {
    let mut payload = node.payload(5);
    payload["customer_metadata"] = json!({"user-script": "#!/bin/sh\necho hi\n", "root_authorized_keys": "ssh-ed25519 AAAA one\nssh-rsa BBBB two\n",
        "cloud-init:user-data": "#cloud-config\n{}\n", "user-data": "plain", "hostname": "from-metadata"});
    payload["internal_metadata"] = json!({"operator-script": "#!/bin/sh\ntrue\n"});
    payload["routes"] = json!({"10.65.0.0/16": "10.64.0.9"});
    payload["nics"][0]["gateways"] = json!(["10.64.0.1"]);
    let mut second = payload["nics"][0].clone();
    second["mac"] = json!("02:08:20:00:01:05");
    second["ips"] = json!(["10.66.0.5/24"]);
    second["primary"] = json!(false);
    payload["nics"].as_array_mut().unwrap().push(second);
    payload
}

/// A node has no mirror of Debian's packages: `cargo xtask vm test` runs this here first and takes what it made there.
#[test]
fn debian_is_at_hand() {
    assert!(CloudInit::get().root().is_dir());
}

/// metadata case 71
#[test]
fn the_client_classes_of_the_smartos_data_source_learn_everything_over_both_transports() {
    let cloud_init = CloudInit::get();
    let node = Node::with_image("cloud-init");
    let service = MetadataService::start(&node);
    let uuid = node.create(&payload(&node));
    until("the line is served", || service.status()["serial_lines"] == 1);
    let id = uuid.parse().unwrap();
    let socket = node.layout().zonecontrol(id).join("metadata.sock");
    // A socket's name has at most 107 bytes, and a test's root is deep.
    let short = std::env::temp_dir().join(format!("mdata-{}", std::process::id()));
    std::os::unix::fs::symlink(socket.parent().unwrap(), &short).unwrap();
    let config = fs::read_to_string(node.layout().runtime(id).join("lxc.conf")).unwrap();
    let device = config.lines().find_map(|line| line.split_once(" dev/ttyS1 ")?.0.strip_prefix("lxc.mount.entry = ")).unwrap();
    let told = [("socket", short.join("metadata.sock").to_string_lossy().into_owned()), ("serial", device.to_owned())]
        .map(|(kind, path)| cloud_init.run("smartos", &[kind, &path]));
    fs::remove_file(&short).unwrap();
    for told in told {
        for (name, value) in [
            ("instance-id", json!(uuid)),
            ("local-hostname", json!("from-metadata")),
            ("public-keys", json!("ssh-ed25519 AAAA one\nssh-rsa BBBB two")),
            ("user-script", json!("#!/bin/sh\necho hi\n")),
            ("legacy-user-data", json!("plain")),
            ("user-data", json!("#cloud-config\n{}\n")),
            ("availability_zone", node.get(&uuid)["datacenter_name"].clone()),
            ("operator-script", json!("#!/bin/sh\ntrue\n")),
            ("hostname", json!("web5")),
            ("dns_domain", json!("example.com")),
            ("vendor-data", Value::Null),
            ("motd_sys_info", Value::Null),
            ("put", json!("two\nlines\n")),
            ("deleted", Value::Null),
        ] {
            assert_eq!(told[name], value, "{name} in {told:#}");
        }
        assert_eq!(told["list"].as_array().unwrap().len(), 5);
        let nics = told["network"]["config"].as_array().unwrap();
        let nic = |mac: &str| nics.iter().find(|nic| nic["mac_address"] == mac).unwrap_or_else(|| panic!("{told:#}"));
        assert!(
            nic("02:08:20:00:00:05").to_string().contains("10.64.0.5/24") && nic("02:08:20:00:01:05").to_string().contains("10.66.0.5/24")
        );
        assert!(told["network"].to_string().contains("10.64.0.9"), "the route is there: {told:#}");
    }
    assert_eq!(node.get(&uuid)["customer_metadata"].as_object().unwrap().len(), 5, "what was put was deleted");
    node.vmadm(&["delete", &uuid]).ok();
}

/// metadata cases 73 and 74: the seed, read and rendered by cloud-init itself
#[test]
fn the_seed_means_to_cloud_init_what_it_says() {
    let cloud_init = CloudInit::get();
    let node = Node::with_image("cloud-init-seed");
    let mut payload = payload(&node);
    payload["autoboot"] = json!(false);
    let uuid = node.create(&payload);
    let zonepath = node.layout().at("/zones").join(&uuid);
    fs::create_dir_all(zonepath.join("root/etc/cloud")).unwrap();
    fs::write(zonepath.join("root/etc/cloud/cloud.cfg"), "").unwrap();
    // What there is of a seed is written anew at each boot.
    node.vmadm(&["stop", &uuid, "-F"]).ok();
    fs::create_dir_all(zonepath.join("seed")).unwrap();
    node.vmadm(&["start", &uuid]).ok();
    let told = cloud_init.run("nocloud", &[zonepath.join("seed").to_str().unwrap()]);
    assert_eq!(
        told["meta"],
        json!({"instance-id": uuid, "local-hostname": "web5", "public-keys": ["ssh-ed25519 AAAA one", "ssh-rsa BBBB two"]})
    );
    assert_eq!(told["user-data"], "#cloud-config\n{}\n");
    for renderer in ["eni", "netplan", "networkd", "sysconfig"] {
        let text = told[renderer].to_string();
        for wanted in ["10.64.0.5", "10.66.0.5", "fd64::5", "10.64.0.1", "10.64.0.9", "192.0.2.53", "example.com"] {
            assert!(text.contains(wanted), "{renderer} does not say {wanted}: {:#}", told[renderer]);
        }
    }
    let vendor = told["vendor"].as_array().unwrap();
    let part = |kind: &str| vendor.iter().find(|part| part[0] == kind).unwrap_or_else(|| panic!("{vendor:#?}"))[1].as_str().unwrap();
    assert!(part("text/cloud-config").contains("\"disable_root\": false"));
    assert!(part("text/cloud-boothook").starts_with("#!/bin/sh\n"));
    node.vmadm(&["delete", &uuid]).ok();
}

/// metadata case 75: what the vendor data installs, run in a guest at each of its boots
#[test]
fn the_boot_script_runs_the_operators_script_then_the_users_at_each_boot() {
    let node = Node::with_image("boot-script");
    let service = MetadataService::start(&node);
    let mut payload = node.payload(5);
    payload["customer_metadata"] = json!({"user-script": "cp /var/db/mdata-user-data /seen; echo user >> /order", "user-data": "data"});
    payload["internal_metadata"] = json!({"operator-script": "#!/bin/sh\necho operator >> /order\nexit 7\n"});
    let uuid = node.create(&payload);
    // The boot of its creation may not have come to its scripts yet.
    node.vmadm(&["stop", &uuid, "-F"]).ok();
    let script = include_str!("../../../crates/instance/src/seed_boot.sh");
    let root = node.layout().at("/zones").join(&uuid).join("root");
    fs::write(root.join("etc/rc.local"), script).unwrap();
    fs::set_permissions(root.join("etc/rc.local"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for applet in ["head", "mv"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let order = || fs::read_to_string(root.join("order")).unwrap_or_default();
    node.vmadm(&["start", &uuid]).ok();
    for boots in 1..=2 {
        if boots > 1 {
            node.vmadm(&["reboot", &uuid, "-F"]).ok();
        }
        until("both scripts ran", || order() == "operator\nuser\n".repeat(boots));
    }
    assert_eq!(fs::read_to_string(root.join("seen")).unwrap(), "data\n");
    node.run_with("vmadm", &["update", &uuid], &json!({"remove_customer_metadata": ["user-script"]}).to_string(), &[]).ok();
    node.vmadm(&["reboot", &uuid, "-F"]).ok();
    until("only the operator's script ran", || order() == format!("{}operator\n", "operator\nuser\n".repeat(2)));
    node.vmadm(&["delete", &uuid]).ok();
    drop(service);
}
