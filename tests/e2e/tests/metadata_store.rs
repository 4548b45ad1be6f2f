//! A guest's serial line when its monitor and the metadata service are killed at once: the service manager has a duplicate
//! (ruling 32). The manager is this test, by systemd's protocol.
#![allow(clippy::unwrap_used)] // a panic is a failed test

use std::{
    collections::BTreeMap,
    fs,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixStream},
    },
    process::Command,
    sync::{Arc, Mutex},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        signal::{Signal, kill},
        socket::{MsgFlags, recv},
    },
    unistd::Pid,
};
use serde_json::Value;
use triton_e2e::{MetadataService, Node, mdata, until};

/// What a guest does to speak over its line: the sockets are out of its tools' sight.
const HIDE: &str = "/bin/busybox umount /.zonecontrol /native/.zonecontrol";

/// The part of a service manager that keeps descriptors.
struct Manager {
    socket: String,
    kept: Arc<Mutex<BTreeMap<String, OwnedFd>>>,
}

impl Manager {
    fn start() -> Self {
        let path = std::env::temp_dir().join(format!("manager-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        let kept = Arc::new(Mutex::new(BTreeMap::new()));
        let store = kept.clone();
        std::thread::spawn(move || {
            let mut text = [0; 4096];
            while let Ok(length) = recv(socket.as_raw_fd(), &mut text, MsgFlags::MSG_PEEK) {
                let said = String::from_utf8_lossy(&text[..length]).into_owned();
                let name = said.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored").to_owned();
                let taken = UnixStream::from(OwnedFd::from(socket.try_clone().unwrap()));
                let (_, descriptor) = triton_process::receive_descriptor(&taken).unwrap();
                let mut kept = store.lock().unwrap();
                match descriptor {
                    Some(descriptor) if said.lines().any(|line| line == "FDSTORE=1") => {
                        assert!(said.lines().any(|line| line == "FDPOLL=0"), "a line that hangs up would be thrown away: {said}");
                        assert!(kept.insert(name, descriptor).is_none(), "one line of a guest is kept, the last: {said}");
                    }
                    _ if said.lines().any(|line| line == "FDSTOREREMOVE=1") => drop(kept.remove(&name)),
                    _ => {}
                }
            }
        });
        Self { socket: path.to_string_lossy().into_owned(), kept }
    }

    fn names(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }

    /// Starts the service with everything that is kept, as after any end of it.
    fn restart<'a>(&self, node: &'a Node) -> MetadataService<'a> {
        let kept = self.kept.lock().unwrap();
        let numbers: Vec<i32> = kept.values().map(AsRawFd::as_raw_fd).collect();
        for descriptor in kept.values() {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
        }
        let moves: String = numbers.iter().enumerate().map(|(index, number)| format!("exec {}<&{number}; ", index + 3)).collect();
        let names = kept.keys().cloned().collect::<Vec<_>>().join(":");
        let script = format!("{moves} LISTEN_FDS={} LISTEN_FDNAMES={names} LISTEN_PID=$$ exec \"$0\" \"$@\"", numbers.len());
        let inner = node.command("metadata-agent", &[]);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(inner.get_program()).args(inner.get_args()).env("NOTIFY_SOCKET", &self.socket);
        let service = MetadataService::of(node, command);
        // Nobody else that this test starts is to have them.
        for descriptor in kept.values() {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        service
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.socket);
    }
}

fn state(node: &Node, uuid: &str) -> Value {
    serde_json::from_slice(&fs::read(node.layout().run_state(uuid.parse().unwrap())).unwrap()).unwrap()
}

fn await_lines(service: &MetadataService<'_>, count: i64) {
    service.await_ready();
    until("the lines are served", || service.status()["serial_lines"] == count);
}

#[test]
fn a_line_survives_its_monitor_and_the_service_killed_at_once() {
    let node = Node::with_image("serial-store");
    let manager = Manager::start();
    let mut service = MetadataService::with(&node, &[("NOTIFY_SOCKET", &manager.socket)]);
    let (uuid, other) = (node.create(&node.payload(5)), node.create(&node.payload(6)));
    await_lines(&service, 2);
    until("both lines are kept", || manager.names().len() == 2);
    node.guest(&uuid, HIDE);
    // A client that has the line open all the time: a new device would not help it.
    node.guest(&uuid, "/bin/busybox setsid sh -c 'exec 9<> /dev/ttyS1; sleep 600' > /dev/null 2>&1 &");
    let supervisor = state(&node, &uuid)["supervisor"]["pid"].as_i64().unwrap();
    service.kill();
    kill(Pid::from_raw(supervisor as i32), Signal::SIGKILL).unwrap();
    until("the monitor has ended", || !fs::exists(format!("/proc/{supervisor}")).unwrap());
    drop(service);

    let mut service = manager.restart(&node);
    until("another monitor has the guest", || {
        node.vmadm(&["update", &uuid, "alias=adopted"]).ok();
        state(&node, &uuid)["adopted"] == true
    });
    await_lines(&service, 2);
    let said = mdata(&node, &uuid, "get sdc:uuid");
    assert_eq!((said.code, said.stdout), (Some(0), format!("{uuid}\n")), "{}", said.stderr);
    // A new boot has a new line, which is kept in the place of the old one; a guest that ended has none.
    node.vmadm(&["reboot", &uuid, "-F"]).ok();
    await_lines(&service, 2);
    node.vmadm(&["stop", &other, "-F"]).ok();
    until("only the running guest's line is kept", || manager.names() == [uuid.clone()]);
    service.kill();
    drop(service);
    // Its guest was deleted meanwhile: what was kept of it is given back.
    node.vmadm(&["delete", &uuid]).ok();
    service = manager.restart(&node);
    until("nothing is kept", || manager.names().is_empty());
    node.vmadm(&["delete", &other]).ok();
    drop(service);
}
