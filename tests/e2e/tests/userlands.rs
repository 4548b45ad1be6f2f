//! Userlands of real distributions, shaped like lx images: their own init, their own network software, and the boot scripts that such
//! images have. Whatever they run, addresses and routes are those that the node set, and they are the same after a reboot (ruling 30).
//!
//! The roots are made of Debian's packages by mmdebstrap, once, and kept beside the build.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use triton_cgroup::{CgroupLayout, Cgroups};
use triton_e2e::{Node, until};

/// As the contract describes them (instances.md section 7.7): each step's failure is ignored, exit 1 of `mdata-get` means "no such
/// key", `zfs` is tried, and the end is noted.
const JOYENT_RC: &str = "#!/bin/sh\nlog() { echo \"$*\" >> /var/log/sdc.log; }\n\
for key in user-script sdc:operator-script; do\n  /native/usr/sbin/mdata-get $key > /var/svc/value 2>> /var/log/sdc.log\n  log \"fetch $key: $?\"\ndone\n\
[ -e /var/svc/provisioning ] && mv /var/svc/provisioning /var/svc/provision_success\n\
/native/usr/sbin/zfs mount -va >> /var/log/sdc.log 2>&1 || log 'zfs: failed, ignored'\nlog booted\nexit 0\n";
const UNIT: &str = "[Unit]\nDescription=lx boot scripts\nAfter=network.target\n[Service]\nType=oneshot\nRemainAfterExit=yes\n\
ExecStart=/lib/smartdc/joyent_rc.local\n[Install]\nWantedBy=multi-user.target\n";
const INIT_SCRIPT: &str = "#!/bin/sh\n### BEGIN INIT INFO\n# Provides: joyent\n# Required-Start: $local_fs\n# Required-Stop:\n\
# Default-Start: 2 3 4 5\n# Default-Stop:\n# Short-Description: lx boot scripts\n### END INIT INFO\n[ \"$1\" = start ] && /lib/smartdc/joyent_rc.local\nexit 0\n";

/// The Debian roots: how their network is set up, and the packages that make them so.
const SYSVINIT: (&str, &str) = ("sysvinit", "sysvinit-core");
const OPENRC: (&str, &str) = ("openrc", "sysvinit-core,openrc");
const SYSTEMD: (&str, &str) = ("systemd", "systemd,systemd-sysv");

/// A Debian root as a tar archive.
fn userland((shape, packages): (&str, &str)) -> PathBuf {
    triton_e2e::userland(shape, packages, &[packages, shape, JOYENT_RC, UNIT, INIT_SCRIPT], &script(shape))
}

/// A node has no mirror of Debian's packages: `cargo xtask vm test` runs this here first and takes what it made there.
#[test]
fn debian_is_at_hand() {
    for root in [SYSVINIT, OPENRC, SYSTEMD] {
        assert!(userland(root).is_file());
    }
}

/// What is done to the root to make it look like an lx image, and what its own network software would do if it were let.
fn script(shape: &str) -> String {
    let file = |path: &str, mode: &str, content: &str| {
        format!("mkdir -p \"$1/$(dirname {path})\"\ncat > \"$1/{path}\" <<'END'\n{content}END\nchmod {mode} \"$1/{path}\"\n")
    };
    let mut text =
        String::from("set -e\nmkdir -p \"$1/var/svc\" \"$1/native\"\ntouch \"$1/var/svc/provisioning\"\nrm -f \"$1/etc/resolv.conf\"\n");
    for tool in ["mdata-get", "mdata-put", "mdata-delete", "mdata-list", "zfs"] {
        text.push_str(&format!("ln -sf /native/usr/sbin/{tool} \"$1/usr/sbin/{tool}\"\n"));
    }
    text.push_str(&file("lib/smartdc/joyent_rc.local", "755", JOYENT_RC));
    // Left by whoever made the image: all of it would take the addresses away.
    text.push_str(&file(
        "etc/network/interfaces",
        "644",
        "auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n  address 192.0.2.99/24\n",
    ));
    match shape {
        "systemd" => {
            text.push_str(&file("etc/systemd/system/joyent.service", "644", UNIT));
            let network = "[Match]\nName=eth*\n[Network]\nAddress=192.0.2.99/24\n";
            text.push_str(&file("etc/systemd/network/10-image.network", "644", network));
            text.push_str("chroot \"$1\" systemctl enable joyent.service systemd-networkd.service\n");
        }
        _ => {
            text.push_str(&file("etc/init.d/joyent", "755", INIT_SCRIPT));
            text.push_str(if shape == "openrc" {
                "chroot \"$1\" rc-update add joyent default\n"
            } else {
                "chroot \"$1\" update-rc.d joyent defaults\n"
            });
            // A guest has no terminals beside its console.
            text.push_str("sed -i '/getty/d' \"$1/etc/inittab\"\n");
        }
    }
    text
}

fn payload(node: &Node, image: &str) -> Value {
    let mut payload = node.payload(5);
    payload["image_uuid"] = image.into();
    payload["max_physical_memory"] = 512.into();
    payload["routes"] = json!({"198.51.100.0/24": "10.64.0.7"});
    payload["nics"][0]["ips"] = json!(["10.64.0.5/24", "10.65.0.5/16", "fd64::5/64"]);
    payload
}

/// What a guest's network is: addresses of `eth0` without those that the kernel makes, and IPv4 routes.
fn network(node: &Node, uuid: &str) -> (Vec<String>, Vec<String>) {
    let words = |text: String, skip: &[&str]| -> Vec<String> {
        let lines = text.lines().filter(|line| !skip.iter().any(|word| line.contains(word)));
        let mut lines: Vec<String> = lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        lines.sort();
        lines
    };
    let addresses = node.guest(uuid, "ip -o addr show dev eth0 | sed 's/^.*\\(inet[6]* [^ ]*\\).*$/\\1/'");
    (words(addresses, &["fe80"]), words(node.guest(uuid, "ip -4 route"), &[]))
}

fn boots(node: &Node, uuid: &str) -> usize {
    let log = node.layout().at(&format!("/zones/{uuid}/root/var/log/sdc.log"));
    fs::read_to_string(log).unwrap_or_default().lines().filter(|line| *line == "booted").count()
}

/// One guest from its first boot over a reboot that its init does in an orderly way to a stop.
fn lives_with_the_hosts_addresses(node: &Node, image: &str) {
    let uuid = node.create(&payload(node, image));
    until("the boot scripts have run", || boots(node, &uuid) == 1);
    let first = network(node, &uuid);
    assert_eq!(first.0, ["inet 10.64.0.5/24", "inet 10.65.0.5/16", "inet6 fd64::5/64"]);
    for route in ["default via 10.64.0.1 dev eth0", "198.51.100.0/24 via 10.64.0.7 dev eth0"] {
        assert!(first.1.iter().any(|line| line.starts_with(route)), "{route} in {:?}", first.1);
    }
    assert_eq!(node.guest(&uuid, "hostname; cat /proc/sys/net/ipv6/conf/eth0/accept_ra"), "web5\n0\n");
    assert!(node.guest(&uuid, "cat /etc/resolv.conf").contains("nameserver 192.0.2.53"));
    let root = node.layout().at(&format!("/zones/{uuid}/root"));
    assert!(root.join("var/svc/provision_success").exists(), "the scripts told that the instance is provisioned");
    node.vmadm(&["reboot", &uuid]).ok();
    until("the boot scripts have run again", || boots(node, &uuid) == 2);
    assert_eq!(network(node, &uuid), first, "the network after a reboot");
    node.vmadm(&["stop", &uuid, "-t", "60"]).ok();
    let vm = node.get(&uuid);
    assert_eq!((&vm["state"], &vm["exit_status"]), (&json!("stopped"), &json!(0)), "it halted by itself");
    node.vmadm(&["delete", &uuid]).ok();
}

#[test]
fn a_guest_with_system_v_init_keeps_the_hosts_addresses_and_runs_the_boot_scripts() {
    let node = Node::new("sysvinit");
    let image = node.install_userland(&userland(SYSVINIT));
    lives_with_the_hosts_addresses(&node, &image);
}

#[test]
fn a_guest_with_openrc_keeps_the_hosts_addresses_and_runs_the_boot_scripts() {
    let node = Node::new("openrc");
    let image = node.install_userland(&userland(OPENRC));
    lives_with_the_hosts_addresses(&node, &image);
}

/// systemd needs a control group hierarchy of its own version: where the machine's is hybrid, the guest's init may not mount it, and a
/// booted compute node is what judges. There, this is all that is left out.
#[test]
fn a_guest_with_systemd_keeps_the_hosts_addresses_and_runs_the_boot_scripts() {
    let node = Node::new("systemd");
    let image = node.install_userland(&userland(SYSTEMD));
    if Cgroups::probe().unwrap().layout() == CgroupLayout::V2 {
        return lives_with_the_hosts_addresses(&node, &image);
    }
    // Its files are there, whether its init can run or not.
    let mut wanted = payload(&node, &image);
    wanted["autoboot"] = false.into();
    let uuid = node.create(&wanted);
    let unmanaged = fs::read_to_string(node.layout().at(&format!("/zones/{uuid}/root/etc/systemd/network/05-triton.network"))).unwrap();
    assert!(unmanaged.contains("Name=eth0\n") && unmanaged.contains("Unmanaged=yes"), "{unmanaged}");
}
