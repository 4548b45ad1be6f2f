//! What a guest tries against the way to its metadata: other users and namespaces, its mounts, its mounts' targets, its keys.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener, process::CommandExt},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde_json::json;
use triton_e2e::{IMAGE_UUID, MetadataService, Node, mdata, until};

/// The instance answers for itself.
fn answers(node: &Node, uuid: &str) -> bool {
    mdata(node, uuid, "get sdc:uuid").stdout == format!("{uuid}\n")
}

/// metadata attack case 4: a user namespace inside the guest's is that guest to the service, or nobody; never another one.
#[test]
fn a_namespace_inside_a_guest_is_that_guest_or_nobody() {
    let node = Node::with_image("metadata-nested");
    let service = MetadataService::start(&node);
    let (uuid, _neighbour) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    let nested = "/bin/busybox unshare -m -r /native/usr/sbin/mdata-get sdc:uuid";
    let said = node.try_guest(&uuid, nested);
    assert_eq!((said.code, said.stdout), (Some(0), format!("{uuid}\n")), "its own root in a namespace of its own: {}", said.stderr);
    // Over the mount that it makes for a root of its own, as a container in the container would have it.
    let inner = "mkdir -p /inner/.zonecontrol /inner/bin /inner/native && cp /bin/busybox /inner/bin/ && cp /native/usr/sbin/mdata /inner/mdata-get && \
        /bin/busybox mount -o bind /.zonecontrol /inner/.zonecontrol && /bin/busybox unshare -m -p -f -r /bin/busybox chroot /inner /mdata-get sdc:uuid";
    let said = node.try_guest(&uuid, inner);
    assert_eq!((said.code, said.stdout), (Some(0), format!("{uuid}\n")), "{}", said.stderr);
    // Another user of the guest that makes itself root of a namespace is still that user.
    node.guest(&uuid, "echo 'u:x:33:33::/:/bin/sh' >> /etc/passwd; cp /native/usr/sbin/mdata /tmp/mdata-get; chmod 755 /tmp/mdata-get");
    let pid = node.get(&uuid)["pid"].to_string();
    let enter = ["-t", &pid, "-m", "-u", "-n", "-p", "-i", "-U", "-S", "33", "-G", "33", "--"];
    let said = Command::new("nsenter").args(enter).args(["/bin/busybox", "unshare", "-r", "/tmp/mdata-get", "sdc:uuid"]).output().unwrap();
    assert_ne!(said.status.code(), Some(0), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "");
    drop(service);
}

/// metadata attack cases 10 and 11: whatever the guest does with its mounts, the host's directory is as it was
#[test]
fn a_guest_that_changes_its_mounts_cannot_write_to_the_hosts_directory() {
    let node = Node::with_image("metadata-mounts");
    let service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    let directory = node.layout().zonecontrol(uuid.parse().unwrap());
    let names = || fs::read_dir(&directory).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    for attempt in [
        "mount -o remount,rw /.zonecontrol && touch /.zonecontrol/x",
        "mkdir /m; mount -o bind /.zonecontrol /m && mount -o remount,rw,bind /m; touch /m/x",
        "mount -o bind,rw /.zonecontrol /.zonecontrol; touch /.zonecontrol/y",
        "rm -f /.zonecontrol/metadata.sock",
        "mv /.zonecontrol/metadata.sock /.zonecontrol/z",
        "chmod 777 /.zonecontrol",
        "chown 0:33 /.zonecontrol/metadata.sock",
        "/bin/busybox unshare -m -r sh -c 'mount -o remount,rw,bind /.zonecontrol; touch /.zonecontrol/x'",
    ] {
        assert_ne!(node.try_guest(&uuid, &format!("PATH=/bin; alias mount='/bin/busybox mount'; {attempt}")).code, Some(0), "{attempt}");
        assert_eq!(names(), ["metadata.sock"], "{attempt}");
    }
    // Even with a view that can be written: the guest's root is but of the directory's group, which may only pass.
    let machine: serde_json::Value = serde_json::from_slice(&fs::read(node.layout().machine(uuid.parse().unwrap())).unwrap()).unwrap();
    let owner = u32::try_from(machine["storage"]["ids"]["base"].as_u64().unwrap()).unwrap();
    let script = "touch x; mkdir y; rm -f metadata.sock; mv metadata.sock z; chmod 777 .; chgrp 0 .; echo tried";
    let tried = Command::new("sh").args(["-c", script]).current_dir(&directory).uid(owner).gid(owner).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&tried.stdout), "tried\n");
    assert_eq!(names(), ["metadata.sock"]);
    // Covered, moved or taken away, it costs the guest its own answers, until it boots again.
    node.guest(&uuid, "/bin/busybox mount -t tmpfs none /.zonecontrol; /bin/busybox umount -l /native/.zonecontrol; true");
    node.vmadm(&["reboot", &uuid, "-F"]).ok();
    until("it is answered again", || answers(&node, &uuid));
    drop(service);
}

/// metadata attack case 12: a directory and a link change places all the time while the guest is started
#[test]
fn targets_that_change_while_a_guest_starts_lead_nowhere() {
    let node = Node::with_image("metadata-race");
    let service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    node.vmadm(&["stop", &uuid, "-F"]).ok();
    let root = node.layout().at("/zones").join(&uuid).join("root");
    let bait = node.layout().at("/var/tmp/bait-of-the-race");
    fs::create_dir_all(bait.join("usr")).unwrap();
    fs::create_dir_all(bait.join("ttyS1")).unwrap();
    let pairs: Vec<_> = [".zonecontrol", "native", "dev"]
        .map(|name| {
            let (here, there) = (root.join(name), root.join(format!("{name}-link")));
            fs::create_dir_all(&here).unwrap();
            symlink(&bait, &there).unwrap();
            (here, there)
        })
        .into();
    let over = AtomicBool::new(false);
    let (mut started, mut refused) = (0, 0);
    let swaps = std::thread::scope(|scope| {
        let racer = scope.spawn(|| {
            let mut swaps = 0_u64;
            while !over.load(Ordering::Relaxed) {
                for (here, there) in &pairs {
                    swaps += u64::from(renameat2(AT_FDCWD, here, AT_FDCWD, there, RenameFlags::RENAME_EXCHANGE).is_ok());
                }
            }
            swaps
        });
        for round in 0..12 {
            let said = node.vmadm(&["start", &uuid]);
            if said.code == Some(0) {
                started += 1;
                node.vmadm(&["stop", &uuid, "-F"]).ok();
            } else {
                refused += 1;
                assert!(said.stderr.len() > 20, "round {round}: refused without a word: {}", said.stderr);
            }
            let found: Vec<_> = fs::read_dir(&bait).unwrap().flatten().map(|entry| entry.file_name()).collect();
            assert_eq!(found.len(), 2, "round {round}: {found:?}");
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            assert!(!mounts.contains(bait.to_str().unwrap()), "round {round}: {mounts}");
        }
        over.store(true, Ordering::Relaxed);
        racer.join().unwrap()
    });
    assert!(swaps > 1000 && started + refused == 12, "{swaps} swaps, {started} started, {refused} refused");
    assert_eq!(fs::read_dir(bait.join("usr")).unwrap().count() + fs::read_dir(bait.join("ttyS1")).unwrap().count(), 0);
    for (here, there) in &pairs {
        if here.is_symlink() {
            renameat2(AT_FDCWD, here, AT_FDCWD, there, RenameFlags::RENAME_EXCHANGE).unwrap();
        }
    }
    node.vmadm(&["start", &uuid]).ok();
    until("it is answered when the race is over", || answers(&node, &uuid));
    drop(service);
}

/// metadata attack case 13: the document is out of the guest's reach, and what an image brings in its place is not used
#[test]
fn the_documents_are_the_hosts_whatever_an_image_or_a_guest_puts_beside_them() {
    let node = Node::with_image("metadata-config");
    let service = MetadataService::start(&node);
    let bait = node.layout().at("/var/tmp/bait-of-the-documents");
    fs::create_dir_all(&bait).unwrap();
    let image = node.layout().at("/zones").join(IMAGE_UUID);
    if !node.is_machine() {
        // The folder of the image; on a node its snapshot, which nobody can change.
        assert!(image.is_dir());
        symlink(&bait, image.join("config")).unwrap();
    }
    let mut payload = node.payload(5);
    payload["internal_metadata"] = json!({"hidden": "never-to-be-seen"});
    let uuid = node.create(&payload);
    let config = node.layout().at("/zones").join(&uuid).join("config");
    assert!(fs::symlink_metadata(&config).unwrap().is_dir());
    mdata(&node, &uuid, "put k v").ok();
    assert_eq!(fs::read_dir(&bait).unwrap().count(), 0);
    // By every way up that a guest has.
    for way in ["/.zonecontrol/..", "/native/..", "/..", "/proc/1/root/..", "/var/lib/cloud/seed/nocloud-net/.."] {
        let found = node.try_guest(&uuid, &format!("cat {way}/config/metadata.json {way}/{uuid}/config/metadata.json 2> /dev/null"));
        assert_eq!(found.stdout, "", "{way}");
    }
    let search = "/bin/busybox find / -name metadata.json 2> /dev/null; /bin/busybox grep -c /config /proc/self/mountinfo";
    assert_eq!(node.try_guest(&uuid, search).stdout, "0\n");
    // A guest's own file of that name is its own.
    node.guest(&uuid, "mkdir -p /config; echo '{\"customer_metadata\":{\"evil\":\"1\"}}' > /config/metadata.json");
    assert_eq!(mdata(&node, &uuid, "get evil").code, Some(1));
    drop(service);
    if !node.is_machine() {
        fs::remove_file(image.join("config")).unwrap();
    }
}

/// metadata attack case 24: what a guest says is never a line of the log, nor speaks to the terminal of who reads it
#[test]
fn keys_of_a_guest_do_not_forge_lines_of_the_log() {
    let node = Node::with_image("metadata-log");
    let service = MetadataService::with(&node, &[("LOG_LEVEL", "debug")]);
    let uuid = node.create(&node.payload(5));
    let forged = "k\\n{\"level\":60,\"msg\":\"forged\"}\\033[2J\\033]0;owned\\007";
    node.try_guest(&uuid, &format!("/native/usr/sbin/mdata-get \"$(printf '{forged}')\""));
    node.try_guest(&uuid, &format!("/native/usr/sbin/mdata-put \"$(printf '{forged}')\" secret-value"));
    node.try_guest(&uuid, "/native/usr/sbin/mdata-put k secret-value");
    drop(service);
    let log = fs::read(node.layout().at("/var/log/metadata-agent.log")).unwrap();
    let text = String::from_utf8(log).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))).collect();
    assert!(lines.iter().all(|line| line["msg"] != "forged"));
    assert!(text.contains("forged"), "the keys are in the log, as text");
    assert!(!text.contains("secret-value"), "values are not");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}

/// metadata case 78: whatever an image has at the socket's place is hidden by the mount, at the first boot and after a rollback
#[test]
fn a_stale_socket_of_an_image_is_hidden_at_the_first_boot_and_after_a_rollback() {
    let node = Node::with_image("metadata-stale");
    let service = MetadataService::start(&node);
    let mut payload = node.payload(5);
    payload["autoboot"] = json!(false);
    let uuid = node.create(&payload);
    let stale = node.layout().at("/zones").join(&uuid).join("root/.zonecontrol");
    fs::create_dir_all(&stale).unwrap();
    let place = Path::new("/tmp").join(format!("stale-{}", std::process::id()));
    drop(UnixListener::bind(&place).unwrap());
    Command::new("mv").args([&place, &stale.join("metadata.sock")]).status().unwrap();
    node.vmadm(&["create-snapshot", &uuid, "before"]).ok();
    node.vmadm(&["start", &uuid]).ok();
    until("its first boot is answered", || answers(&node, &uuid));
    node.vmadm(&["rollback-snapshot", &uuid, "before"]).ok();
    if node.state(&uuid) != "running" {
        node.vmadm(&["start", &uuid]).ok();
    }
    until("it is answered after the rollback", || answers(&node, &uuid));
    drop(service);
}
