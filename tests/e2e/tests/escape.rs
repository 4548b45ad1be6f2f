//! Attempts to get out of a guest, made by its root from inside, as the guest's own init runs them: confined as everything in it.
//! Each names its vector; what stands against it is printed. And attempts to make the host follow a path that the guest made.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    io::Write,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use triton_e2e::{IMAGE_UUID, Node, program, rootfs_tar, until};

const VECTORS: [&str; 38] = [
    "mknod-disk",
    "mknod-memory",
    "dev-zfs",
    "dev-fuse-kvm-tun",
    "dev-list",
    "host-memory",
    "sysrq",
    "modules",
    "kexec",
    "mount-host-disk",
    "mount-kernel",
    "proc-sys",
    "core-pattern",
    "binfmt",
    "sys-writes",
    "cgroup-v1",
    "cgroup-v2",
    "keyring",
    "host-process",
    "file-handle",
    "userfaultfd",
    "bpf",
    "perf",
    "io-uring",
    "kernel-log",
    "clock",
    "swap-and-accounting",
    "ports",
    "vsock",
    "abstract-socket",
    "scheduling",
    "chroot-breakout",
    "read-only-binds",
    "overlay-on-native",
    "foreign-ids",
    "sight",
    // Last: it takes away what the container's set-up put over /proc.
    "uncovered-proc-sys",
    "sysrq",
];

/// The probe with what it is linked from, over the test image.
fn image(node: &Node) -> String {
    let mut archive = rootfs_tar("rootfs/");
    archive.truncate(archive.len() - 1024);
    let mut tar = tar::Builder::new(archive);
    let mut add = |from: &Path, to: &str| {
        let bytes = fs::read(from).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("rootfs/{to}"), &bytes[..]).unwrap();
    };
    add(&program("escape-probe"), "bin/escape-probe");
    // This test's libraries are the probe's.
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let mut libraries: Vec<&str> =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).filter(|path| path.contains(".so")).collect();
    libraries.sort_unstable();
    libraries.dedup();
    for library in libraries {
        let name = Path::new(library).file_name().unwrap().to_str().unwrap();
        add(Path::new(library), &format!("lib/{name}"));
        if name.starts_with("ld-linux") {
            add(Path::new(library), &format!("lib64/{name}"));
        }
    }
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar.into_inner().unwrap()).unwrap();
    let file = gzip.finish().unwrap();
    let sha1: String = <sha1::Sha1 as sha1::Digest>::digest(&file).iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = IMAGE_UUID.replace("0001", "0007");
    let manifest = json!({"v": 2, "uuid": uuid, "name": "probe", "version": "1", "type": "lxd", "os": "linux",
        "files": [{"sha1": sha1, "size": file.len(), "compression": "gzip"}]});
    node.install(&manifest, &file);
    uuid
}

fn stopped(node: &Node, image: &str) -> String {
    let mut payload = node.payload(5);
    payload["image_uuid"] = image.into();
    payload["autoboot"] = false.into();
    payload["max_physical_memory"] = 256.into();
    node.create(&payload)
}

fn root(node: &Node, uuid: &str) -> PathBuf {
    node.layout().at(&format!("/zones/{uuid}/root"))
}

/// What the guest does at its boot, as its own init's child.
fn at_boot(node: &Node, uuid: &str, script: &str) {
    let path = root(node, uuid).join("etc/rc.local");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
}

#[test]
fn no_vector_leads_out_of_a_guest() {
    let node = Node::new("escape");
    let uuid = stopped(&node, &image(&node));
    let _host = UnixListener::bind_addr(&SocketAddr::from_abstract_name("triton-escape-test").unwrap()).unwrap();
    let canary = node.layout().root().join("canary");
    fs::write(&canary, "host").unwrap();
    let mut script = String::from("mkdir -p /results\nexport LD_LIBRARY_PATH=/lib\n");
    for (number, vector) in VECTORS.iter().enumerate() {
        script.push_str(&format!("/bin/escape-probe {vector} {} {} > /results/{number} 2>&1\n", std::process::id(), canary.display()));
    }
    script.push_str("echo done > /results/end");
    at_boot(&node, &uuid, &script);
    let tools = node.layout().native().join("usr/sbin/mdata");
    let before = fs::read(&tools).unwrap();
    node.vmadm(&["start", &uuid]).ok();
    let results = root(&node, &uuid).join("results");
    until("all attempts were made", || results.join("end").exists());
    let mut open = Vec::new();
    for (number, vector) in VECTORS.iter().enumerate() {
        let said = fs::read_to_string(results.join(number.to_string())).unwrap();
        println!("{vector}: {}", said.trim());
        if !said.starts_with("closed: ") {
            open.push(format!("{vector}: {}", said.trim()));
        }
    }
    assert!(open.is_empty(), "ways out:\n{}", open.join("\n"));
    assert_eq!(fs::read(&tools).unwrap(), before, "the host's tools are what they were");
    assert_eq!(fs::read_to_string(&canary).unwrap(), "host");

    let init = node.get(&uuid)["pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Seccomp:"), "2", "system calls are filtered");
    let bounding = u64::from_str_radix(&field("CapBnd:"), 16).unwrap();
    for (name, bit) in [("sys_module", 16), ("sys_rawio", 17), ("sys_time", 25), ("mac_override", 32), ("mac_admin", 33), ("syslog", 34)] {
        assert_eq!(bounding & (1 << bit), 0, "{name} is not in the bounding set");
    }
    let config = fs::read_to_string(node.layout().runtime(uuid.parse().unwrap()).join("lxc.conf")).unwrap();
    for line in ["lxc.cgroup2.devices.deny = a", "lxc.rootfs.managed = 0", "lxc.monitor.signal.pdeath = 0"] {
        assert!(config.lines().any(|other| other == line), "{line} in\n{config}");
    }
    assert!(config.contains("lxc.seccomp.profile = ") && config.contains("lxc.idmap = u 0 "), "{config}");
}

/// A guest that replaces directories of its own by links to the host's, back and forth, while the host writes below them.
#[test]
fn no_race_makes_the_host_follow_a_link_of_the_guest() {
    let node = Node::with_image("race");
    let uuid = stopped(&node, IMAGE_UUID);
    let victim = node.layout().root().join("victim");
    for directory in ["network", "systemd/network", "NetworkManager/conf.d", "sysconfig/network-scripts"] {
        fs::create_dir_all(victim.join(directory)).unwrap();
        fs::create_dir_all(root(&node, &uuid).join("etc").join(directory)).unwrap();
    }
    fs::write(victim.join("hostname"), "host\n").unwrap();
    let list = |path: &Path| {
        let output = std::process::Command::new("find").arg(path).args(["-printf", "%P %s %m %U %C@\n"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = list(&victim);
    // The link is the absolute path on the host, where it means the victim only to who follows it from outside.
    let script = format!(
        "(i=0\nwhile [ ! -e /stop ]; do\n  i=$((i + 1))\n  mv /etc /etc.real && ln -s {victim} /etc && rm /etc && mv /etc.real /etc\n  \
         mv /etc/network /etc/net.real && ln -s {victim}/network /etc/network && rm /etc/network && mv /etc/net.real /etc/network\n  \
         rm -f /etc/hostname; ln -s {victim}/hostname /etc/hostname; echo $i > /turns\ndone; echo ended > /ended) &",
        victim = victim.display()
    );
    at_boot(&node, &uuid, &script);
    node.vmadm(&["start", &uuid]).ok();
    let turns = root(&node, &uuid).join("turns");
    let turn = || fs::read_to_string(&turns).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    until("the guest has begun", || turn() > 0);
    let mut written = 0;
    for round in 0..25 {
        let from = turn();
        let update = json!({"hostname": format!("name{round}"), "maintain_resolvers": true, "resolvers": [format!("192.0.2.{}", round + 1)],
            "update_nics": [{"mac": "02:08:20:00:00:05", "ips": [format!("10.64.0.{}/24", 100 + round)]}]});
        let outcome = node.run_with("vmadm", &["update", &uuid], &update.to_string(), &[]).ok();
        written += usize::from(!outcome.stderr.contains("could not"));
        until("the guest went on", || turn() > from);
    }
    fs::write(root(&node, &uuid).join("stop"), "").unwrap();
    until("the guest has stopped", || root(&node, &uuid).join("ended").exists());
    assert_eq!(list(&victim), before, "what a link of the guest names on the host is as it was");
    println!("{written} of 25 updates reached the guest's files");
    node.vmadm(&["update", &uuid, "hostname=last"]).ok();
    assert_eq!(fs::read_to_string(root(&node, &uuid).join("etc/hostname")).unwrap(), "last\n", "without a race its files follow");
}

/// What the guest puts in the place of mount targets: the next boot follows none of it.
#[test]
fn links_in_the_place_of_mounts_lead_nowhere() {
    let node = Node::with_image("targets");
    let uuid = stopped(&node, IMAGE_UUID);
    let victim = node.layout().root().join("victim");
    fs::create_dir(&victim).unwrap();
    let inside = root(&node, &uuid);
    for target in ["native", ".zonecontrol", "tmp", "proc", "sys", "dev"] {
        let _ = fs::remove_dir_all(inside.join(target));
        std::os::unix::fs::symlink(&victim, inside.join(target)).unwrap();
    }
    let outcome = node.vmadm(&["start", &uuid]);
    // It may refuse to start; what it may not is to touch the host.
    assert!(fs::read_dir(&victim).unwrap().next().is_none(), "{:?}", fs::read_dir(&victim).unwrap().collect::<Vec<_>>());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&victim.display().to_string()), "nothing is mounted on the host's directory");
    if outcome.code == Some(0) {
        let init = node.get(&uuid)["pid"].as_i64().unwrap();
        let mounts = fs::read_to_string(format!("/proc/{init}/mountinfo")).unwrap();
        assert!(!mounts.contains("victim"), "{mounts}");
        node.vmadm(&["stop", "-F", &uuid]).ok();
    } else {
        assert!(outcome.stderr.len() > 20, "the reason is told: {}", outcome.stderr);
    }
    // A fifo, a socket and a link where init of System V listens: a stop waits for none of them.
    let uuid = {
        let mut payload: Value = node.payload(6);
        payload["autoboot"] = false.into();
        node.create(&payload)
    };
    let inside = root(&node, &uuid);
    std::os::unix::fs::symlink(victim.join("initctl"), inside.join("run/initctl")).unwrap();
    node.vmadm(&["start", &uuid]).ok();
    node.vmadm(&["stop", &uuid]).ok();
    assert!(fs::read_dir(&victim).unwrap().next().is_none());
}
