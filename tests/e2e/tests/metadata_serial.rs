//! The metadata service over the guest's second serial line, for clients that know no socket.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{fs, os::unix::fs::MetadataExt};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use triton_e2e::{MetadataService, Node, assert_no_trace, mdata, until};

/// What a guest does to speak over its line: the sockets are out of its tools' sight.
const HIDE: &str = "/bin/busybox umount /.zonecontrol /native/.zonecontrol";

fn state(node: &Node, uuid: &str) -> Value {
    serde_json::from_slice(&fs::read(node.layout().run_state(uuid.parse().unwrap())).unwrap()).unwrap()
}

/// The service serves this many lines.
fn await_lines(service: &MetadataService<'_>, count: i64) {
    service.await_ready();
    until("the lines are served", || service.status()["serial_lines"] == count);
}

/// metadata cases 67 and 68 with our own tools, 77; ruling 32
#[test]
fn a_guest_without_sockets_asks_over_its_serial_line_before_and_after_a_restart_of_the_service() {
    let node = Node::with_image("serial");
    let before = node.traces();
    let mut service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    await_lines(&service, 1);
    let owner = node.guest(&uuid, "stat -c '%u %g %a' /dev/ttyS1");
    assert_eq!(owner, "0 0 600\n");
    node.guest(&uuid, HIDE);
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").ok().stdout, format!("{uuid}\n"));
    for (command, code) in
        [("get nope", 1), ("get sdc:tags", 2), ("put k v", 0), ("get k", 0), ("delete k", 0), ("get k", 1), ("put sdc:x y", 2)]
    {
        let said = mdata(&node, &uuid, command);
        assert_eq!(said.code, Some(code), "{command}: {}", said.stderr);
    }
    let multi = node.try_guest(&uuid, "printf 'multi\\nline\\n' | /native/usr/sbin/mdata-put ml && /native/usr/sbin/mdata-get ml").ok();
    assert_eq!(multi.stdout, "multi\nline\n");
    // Larger than every buffer on the way, both ways.
    let large = "seq 1 60000 > /tmp/l; /native/usr/sbin/mdata-put l < /tmp/l && /native/usr/sbin/mdata-get l > /tmp/m && cmp /tmp/l /tmp/m";
    node.guest(&uuid, &large.replace("seq", "/bin/busybox seq").replace("cmp", "/bin/busybox cmp"));
    assert_eq!(mdata(&node, &uuid, "list").ok().stdout, "ml\nl\n");

    service.restart();
    await_lines(&service, 1);
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").ok().stdout, format!("{uuid}\n"), "the same line, a new service");
    node.vmadm(&["reboot", &uuid, "-F"]).ok();
    await_lines(&service, 1);
    node.guest(&uuid, HIDE);
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").ok().stdout, format!("{uuid}\n"), "a new line, the same service");
    node.vmadm(&["stop", &uuid, "-F"]).ok();
    await_lines(&service, 0);
    assert!(!node.layout().runtime(uuid.parse().unwrap()).join("line.sock").exists());
    node.vmadm(&["delete", &uuid]).ok();
    drop(service);
    assert_no_trace(&node, &before);
}

/// Requests that are under way when the service is killed are asked again by the client; none is answered wrongly.
#[test]
fn the_service_is_killed_again_and_again_under_traffic_on_both_transports() {
    let node = Node::with_image("serial-traffic");
    let mut service = MetadataService::start(&node);
    let (line, socket) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    await_lines(&service, 2);
    node.guest(&line, HIDE);
    let ask = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do \
        /native/usr/sbin/mdata-put k$i value$i || exit 9; [ $(/native/usr/sbin/mdata-get k$i) = value$i ] || exit 8; done; echo all";
    std::thread::scope(|scope| {
        let asked: Vec<_> = [&line, &socket].map(|uuid| scope.spawn(|| node.try_guest(uuid, ask))).into_iter().collect();
        for round in 0..3 {
            until("the round's writes began", || {
                [&line, &socket].iter().any(|uuid| node.get(uuid)["customer_metadata"][format!("k{}", round * 3 + 1)].is_string())
                    || asked.iter().all(|thread| thread.is_finished())
            });
            service.restart();
        }
        for thread in asked {
            let said = thread.join().unwrap();
            assert_eq!((said.code, said.stdout.as_str()), (Some(0), "all\n"), "{}", said.stderr);
        }
    });
    for uuid in [&line, &socket] {
        assert_eq!(node.get(uuid)["customer_metadata"].as_object().unwrap().len(), 12);
        node.vmadm(&["delete", uuid]).ok();
    }
}

/// Ruling 37: the line goes from the service, which has it, to the monitor that adopts the guest.
#[test]
fn the_line_outlives_the_guests_monitor() {
    let node = Node::with_image("serial-adopt");
    let mut service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    await_lines(&service, 1);
    node.guest(&uuid, HIDE);
    let supervisor = state(&node, &uuid)["supervisor"]["pid"].as_i64().unwrap();
    kill(Pid::from_raw(supervisor as i32), Signal::SIGKILL).unwrap();
    until("another monitor has the guest", || {
        node.vmadm(&["get", &uuid]).ok();
        node.vmadm(&["update", &uuid, "alias=adopted"]).ok();
        state(&node, &uuid)["adopted"] == true
    });
    until("it is answered", || mdata(&node, &uuid, "get sdc:alias").stdout == "adopted\n");
    // The adopter holds it now: a new service gets it from there.
    until("the adopter has the line", || {
        let adopter = state(&node, &uuid)["supervisor"]["pid"].to_string();
        let held = fs::read_dir(format!("/proc/{adopter}/fd")).unwrap().flatten();
        held.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.ends_with("ptmx"))
    });
    service.restart();
    await_lines(&service, 1);
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").ok().stdout, format!("{uuid}\n"));
    node.vmadm(&["delete", &uuid]).ok();
}

/// metadata attack case 19; ruling 32
#[test]
fn a_guest_that_abuses_its_line_hurts_neither_the_service_nor_its_own_next_client() {
    let node = Node::with_image("serial-attack");
    let service = MetadataService::start(&node);
    let (uuid, neighbour) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    await_lines(&service, 2);
    node.guest(&uuid, HIDE);
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", service.pid())).unwrap();
        let fields: Vec<u64> = stat.rsplit_once(')').unwrap().1.split(' ').filter_map(|field| field.parse().ok()).collect();
        fields[10] + fields[11]
    };
    let good = |uuid: &str, what: &str| {
        let said = mdata(&node, uuid, "get sdc:uuid");
        assert_eq!((said.code, said.stdout), (Some(0), format!("{uuid}\n")), "{what}: {}", said.stderr);
        assert_eq!(mdata(&node, &neighbour, "get sdc:uuid").ok().stdout, format!("{neighbour}\n"), "{what}");
    };
    for (what, script) in [
        ("echo loop", "/bin/busybox stty -F /dev/ttyS1 sane -echoctl; echo > /dev/ttyS1"),
        (
            "canonical mode with signals",
            "/bin/busybox stty -F /dev/ttyS1 sane; printf 'GET sdc:uuid\\n\\003\\004\\032\\021\\023' > /dev/ttyS1",
        ),
        ("nobody reads", "for i in 1 2 3 4 5; do printf 'GET sdc:nics\\nGET sdc:uuid\\n' > /dev/ttyS1; done"),
        ("a line without end", "/bin/busybox head -c 6000000 /dev/zero | /bin/busybox tr '\\0' x > /dev/ttyS1"),
        ("half a frame", "printf 'V2 25 9b100599 7f3a' > /dev/ttyS1"),
        ("hang-up by the end of a session", "/bin/busybox setsid -c sh -c 'echo' < /dev/ttyS1 > /dev/ttyS1 2>&1; true"),
        ("noise", "/bin/busybox head -c 300000 /dev/urandom > /dev/ttyS1"),
        ("another owner and mode", "chmod 666 /dev/ttyS1; chown 33 /dev/ttyS1"),
        ("a line discipline", "/bin/busybox stty -F /dev/ttyS1 line 2 2>/dev/null; true"),
    ] {
        node.guest(&uuid, script);
        good(&uuid, what);
    }
    // The loop is not fed: with echo on, an idle line costs nothing.
    node.guest(&uuid, "/bin/busybox stty -F /dev/ttyS1 sane -echoctl; echo > /dev/ttyS1");
    good(&uuid, "echo loop again");
    let before = ticks();
    let begin = std::time::Instant::now();
    until("a second has gone", || begin.elapsed().as_secs() >= 1);
    assert!(ticks() - before < 20, "the service is busy with an idle line: {} ticks of 10 ms", ticks() - before);
    for uuid in [&uuid, &neighbour] {
        node.vmadm(&["delete", uuid]).ok();
    }
}

/// The line belongs to the guest's root alone, also on the host.
#[test]
fn the_lines_device_belongs_to_the_guests_root() {
    let node = Node::with_image("serial-owner");
    let service = MetadataService::start(&node);
    let uuid = node.create(&node.payload(5));
    await_lines(&service, 1);
    let config = fs::read_to_string(node.layout().runtime(uuid.parse().unwrap()).join("lxc.conf")).unwrap();
    let device = config
        .lines()
        .find_map(|line| line.strip_prefix("lxc.mount.entry = ")?.strip_suffix(" dev/ttyS1 none bind,create=file,optional 0 0"));
    let found = fs::metadata(device.unwrap()).unwrap();
    let machine: Value = serde_json::from_slice(&fs::read(node.layout().machine(uuid.parse().unwrap())).unwrap()).unwrap();
    let base = &machine["storage"]["ids"]["base"];
    assert_eq!((json!(found.uid()), json!(found.gid()), found.mode() & 0o777), (base.clone(), base.clone(), 0o600));
    node.guest(&uuid, HIDE);
    assert_eq!(mdata(&node, &uuid, "get sdc:uuid").ok().stdout, format!("{uuid}\n"));
    node.vmadm(&["delete", &uuid]).ok();
}
