//! The sockets themselves: who gets one, who reaches it, and what a flood or a reused name does. Needs root: sockets change hands.
#![allow(clippy::unwrap_used)] // a panic is a failed test

mod common;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use common::fast;
use metadata_agent::{Fleet, Limits, Numbers, Store};
use triton_files::Layout;
use triton_instance::zonecontrol;
use triton_mdata::{Frame, Map, client::Ask};
use triton_types::{IdRange, InstanceUuid, JsonMap, ProcessRef};

/// Instances that come and go: uuid and the host id of its root.
struct Node {
    layout: Layout,
    _directory: tempfile::TempDir,
    owners: Mutex<BTreeMap<InstanceUuid, u32>>,
    listable: Mutex<bool>,
}

impl Node {
    fn new() -> Arc<Self> {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let layout = Layout::new(directory.path());
        layout.prepare().unwrap();
        Arc::new(Self { layout, _directory: directory, owners: Mutex::default(), listable: Mutex::new(true) })
    }

    fn socket(&self, uuid: InstanceUuid) -> PathBuf {
        self.layout.zonecontrol(uuid).join(zonecontrol::SOCKET)
    }
}

impl Store for Node {
    fn instances(&self) -> Result<Vec<InstanceUuid>, String> {
        if *self.listable.lock().unwrap() {
            Ok(self.owners.lock().unwrap().keys().copied().collect())
        } else {
            Err("not mounted".to_owned())
        }
    }

    fn prepare(&self, uuid: InstanceUuid) -> Result<Option<u32>, String> {
        let owner = self.owners.lock().unwrap().get(&uuid).copied();
        if let Some(base) = owner {
            // The name of its machine file is an instance's existence (ruling 1).
            fs::write(self.layout.machine(uuid), "{}").map_err(|error| error.to_string())?;
            zonecontrol::ensure(&self.layout, uuid, IdRange { base, size: 65_536 }).map_err(|error| error.to_string())?;
        }
        Ok(owner)
    }

    fn view(&self, uuid: InstanceUuid) -> Result<JsonMap, String> {
        let mut vm = common::fixture();
        vm.insert("uuid".to_owned(), uuid.to_string().into());
        Ok(vm)
    }

    fn door(&self, _: InstanceUuid) -> Option<ProcessRef> {
        None
    }

    fn change(&self, _: InstanceUuid, _: Map, _: &str, _: Option<&str>) -> Result<(), String> {
        Ok(())
    }
}

fn connect(path: &Path) -> std::io::Result<UnixStream> {
    let stream = triton_agent::unix::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Who the socket says that it serves; `None` when it says nothing.
fn whoami(stream: &mut UnixStream) -> Option<String> {
    stream.write_all(Ask::Get("sdc:uuid".to_owned()).encode(1).as_bytes()).ok()?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    Some(Frame::parse(line.trim_end())?.text())
}

fn fleet(node: &Arc<Node>, limits: Limits) -> Fleet {
    Fleet::new(&node.layout, node.clone(), limits, Numbers::default())
}

/// metadata cases 76, 79 and 80; attack cases 2, 5 and 6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_each_instance_has_its_own_socket_and_a_name_that_is_used_again_is_another_instance() {
    let node = Node::new();
    let (one, other) = (InstanceUuid::random(), InstanceUuid::random());
    node.owners.lock().unwrap().extend([(one, 1_000_000), (other, 1_065_536)]);
    let mut fleet = fleet(&node, fast());
    fleet.look_at_all().await;
    let mut old = connect(&node.socket(one)).unwrap();
    for (uuid, owner) in [(one, 1_000_000), (other, 1_065_536)] {
        let (socket, directory) = (fs::metadata(node.socket(uuid)).unwrap(), fs::metadata(node.layout.zonecontrol(uuid)).unwrap());
        assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (0, owner, 0o660));
        assert_eq!((directory.uid(), directory.gid(), directory.mode() & 0o777), (0, owner, 0o750));
        assert_eq!(whoami(&mut connect(&node.socket(uuid)).unwrap()), Some(uuid.to_string()));
    }
    // No socket has a name that any namespace but the file system's knows.
    let abstracts = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!abstracts.lines().any(|line| line.contains('@') && line.contains(&one.to_string())));

    // The list is not to be had: everything stays.
    *node.listable.lock().unwrap() = false;
    fleet.look_at_all().await;
    assert_eq!((fleet.len(), whoami(&mut old)), (2, Some(one.to_string())));
    *node.listable.lock().unwrap() = true;

    // The name goes to an instance with other ids: old connections are of nobody.
    node.owners.lock().unwrap().insert(one, 2_000_000);
    fleet.look_at(one).await;
    assert_eq!(whoami(&mut old), None, "the old connection is closed");
    assert_eq!(fs::metadata(node.socket(one)).unwrap().gid(), 2_000_000);
    node.owners.lock().unwrap().remove(&one);
    fleet.look_at(one).await;
    assert!(!node.socket(one).exists());
    assert_eq!(whoami(&mut connect(&node.socket(other)).unwrap()), Some(other.to_string()));
}

/// metadata case 77; attack cases 8 and 9: whatever is in the socket's place
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_socket_that_is_stale_or_was_removed_comes_back_in_the_same_directory() {
    let node = Node::new();
    let uuid = InstanceUuid::random();
    node.owners.lock().unwrap().insert(uuid, 1_000_000);
    node.prepare(uuid).unwrap();
    let directory = node.layout.zonecontrol(uuid);
    // What a service leaves that was killed.
    drop(UnixListener::bind(std::env::temp_dir().join(format!("stale-{uuid}"))).unwrap());
    fs::rename(std::env::temp_dir().join(format!("stale-{uuid}")), node.socket(uuid)).unwrap();
    let inode = fs::metadata(&directory).unwrap().ino();
    let mut fleet = fleet(&node, fast());
    fleet.look_at_all().await;
    assert_eq!(whoami(&mut connect(&node.socket(uuid)).unwrap()), Some(uuid.to_string()));
    fs::remove_file(node.socket(uuid)).unwrap();
    fleet.look_at_all().await;
    assert_eq!(whoami(&mut connect(&node.socket(uuid)).unwrap()), Some(uuid.to_string()));
    assert_eq!(fs::metadata(&directory).unwrap().ino(), inode);
    // A file that is no socket is not ours to remove: it is said, and the others are served.
    drop(fleet);
    let other = InstanceUuid::random();
    node.owners.lock().unwrap().insert(other, 1_065_536);
    let _ = fs::remove_file(node.socket(uuid));
    fs::write(node.socket(uuid), "mine").unwrap();
    let mut fleet = self::fleet(&node, fast());
    fleet.look_at_all().await;
    assert!(!fs::symlink_metadata(node.socket(uuid)).unwrap().file_type().is_socket());
    assert_eq!(fs::read_to_string(node.socket(uuid)).unwrap(), "mine");
    assert_eq!(whoami(&mut connect(&node.socket(other)).unwrap()), Some(other.to_string()));
}

/// metadata attack case 14 and case 82: ten thousand connections
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_a_flood_of_connections_costs_its_own_guest_alone() {
    let node = Node::new();
    let (hostile, neighbour) = (InstanceUuid::random(), InstanceUuid::random());
    node.owners.lock().unwrap().extend([(hostile, 1_000_000), (neighbour, 1_065_536)]);
    let limits = Limits { connections: 32, ..Limits::default() };
    let mut fleet = fleet(&node, limits);
    fleet.look_at_all().await;
    let sockets = (node.socket(hostile), node.socket(neighbour));
    let done = tokio::task::spawn_blocking(move || {
        let (hostile, neighbour) = sockets;
        let mut held = Vec::new();
        let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
        let mut slowest = Duration::ZERO;
        let begin = Instant::now();
        for number in 0..10_000 {
            // The queue of those that wait to be accepted has a bound: then the flood itself waits, here as EAGAIN.
            if let Ok(stream) = try_connect(&hostile) {
                held.push(stream);
            }
            if held.len() > 200 {
                held.drain(..100);
            }
            if number % 1000 == 0 {
                let asked = Instant::now();
                assert!(whoami(&mut connect(&neighbour).unwrap()).is_some());
                slowest = slowest.max(asked.elapsed());
                assert!(descriptors() < 800, "{}", descriptors());
            }
            if begin.elapsed() > Duration::from_secs(30) {
                break;
            }
        }
        drop(held);
        slowest
    });
    let slowest = done.await.unwrap();
    assert!(slowest < Duration::from_secs(1), "a neighbour waited {slowest:?}");
    // When it is over, the guest itself is served again.
    let socket = node.socket(hostile);
    let begin = Instant::now();
    let again = tokio::task::spawn_blocking(move || {
        while begin.elapsed() < Duration::from_secs(20) {
            if let Some(uuid) = connect(&socket).ok().and_then(|mut stream| whoami(&mut stream)) {
                return uuid;
            }
        }
        String::new()
    });
    assert_eq!(again.await.unwrap(), hostile.to_string());
}

/// Connects without waiting for a place in the queue.
fn try_connect(path: &Path) -> std::io::Result<UnixStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd;
    let directory = fs::File::open(path.parent().unwrap())?;
    let short = format!("/proc/self/fd/{}/{}", directory.as_raw_fd(), path.file_name().unwrap().to_str().unwrap());
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(short.as_str())?)?;
    Ok(fd.into())
}

/// Section 8.2: more connections than there may be are accepted and closed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kernel_one_connection_too_many_is_closed_and_a_place_that_is_free_is_taken() {
    let node = Node::new();
    let uuid = InstanceUuid::random();
    node.owners.lock().unwrap().insert(uuid, 1_000_000);
    let mut fleet = fleet(&node, Limits { connections: 3, ..fast() });
    fleet.look_at_all().await;
    let path = node.socket(uuid);
    tokio::task::spawn_blocking(move || {
        let mut streams: Vec<UnixStream> = (0..3).map(|_| connect(&path).unwrap()).collect();
        assert!(streams.iter_mut().all(|stream| whoami(stream).is_some()));
        let mut fourth = connect(&path).unwrap();
        match fourth.read(&mut [0; 1]) {
            Ok(count) => assert_eq!(count, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        streams.pop();
        let begin = Instant::now();
        while whoami(&mut connect(&path).unwrap()).is_none() {
            assert!(begin.elapsed() < Duration::from_secs(20), "the place is not given back");
        }
    })
    .await
    .unwrap();
}
