//! Namespaces.

use std::{
    fs,
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::*;

/// A directory with at most one pin, both gone at the end.
struct Pin(PathBuf);

impl Pin {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("triton-netns-{}-{name}", std::process::id())).join("run/net"))
    }
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let _ = NetNs::unpin(&self.0);
        let _ = fs::remove_dir_all(self.0.parent().unwrap().parent().unwrap());
    }
}

/// A process that waits for its standard input to end.
struct Waiter(Child);

impl Waiter {
    fn new() -> Self {
        Self(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }
    fn end(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.end();
    }
}

fn mounts_at(path: &Path) -> usize {
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(path.to_str().unwrap())).count()
}

#[test]
fn a_pinned_namespace_is_made_once_has_its_loopback_up_and_goes_without_a_trace() {
    let pin = Pin::new("once");
    assert_eq!(NetNs::open(pin.path()).unwrap_err().kind(), ErrorKind::NotFound);
    let first = NetNs::create_and_pin(pin.path()).unwrap();
    let second = NetNs::create_and_pin(pin.path()).unwrap();
    assert!(first.is(&second).unwrap() && first.is(&NetNs::open(pin.path()).unwrap()).unwrap());
    assert!(!first.is(&NetNs::current().unwrap()).unwrap(), "the caller stays where it was");
    assert_eq!(mounts_at(pin.path()), 1);
    assert!(ip(&first, "link show lo").contains(r#""UP""#));
    NetNs::unpin(pin.path()).unwrap();
    NetNs::unpin(pin.path()).unwrap();
    assert_eq!((mounts_at(pin.path()), pin.path().exists()), (0, false));
    assert!(NetNs::open(pin.path()).is_err());
}

#[test]
fn callers_at_the_same_time_get_one_namespace() {
    let pin = Pin::new("race");
    let made: Vec<NetNs> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| NetNs::create_and_pin(pin.path()).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(made.iter().all(|netns| netns.is(&made[0]).unwrap()));
    assert_eq!(mounts_at(pin.path()), 1);
}

#[test]
fn a_file_that_is_left_without_its_mount_is_pinned_again() {
    let pin = Pin::new("stale");
    fs::create_dir_all(pin.path().parent().unwrap()).unwrap();
    fs::write(pin.path(), "").unwrap();
    assert_eq!(NetNs::open(pin.path()).unwrap_err().kind(), ErrorKind::NotFound);
    NetNs::create_and_pin(pin.path()).unwrap();
    assert_eq!(mounts_at(pin.path()), 1);
}

#[test]
fn a_thread_that_enters_comes_back() {
    let (outside, inside) = (NetNs::current().unwrap(), NetNs::create().unwrap());
    let entered = inside.enter().unwrap();
    assert!(NetNs::current().unwrap().is(&inside).unwrap());
    let other = std::thread::scope(|scope| scope.spawn(|| inside.run(|| NetNs::current().unwrap()).unwrap()).join().unwrap());
    assert!(other.is(&inside).unwrap());
    drop(entered);
    assert!(NetNs::current().unwrap().is(&outside).unwrap());
}

#[tokio::test]
async fn links_stay_in_the_namespace_that_they_were_opened_in() {
    let (here, there) = (host_with_bridge().await, Links::of(NetNs::create().unwrap()));
    let entered = here.netns().enter().unwrap();
    let opened = Links::open().unwrap();
    drop(entered);
    assert_eq!(get(&opened, "br0").await.name, "br0");
    assert!(there.get("br0").await.unwrap().is_none());
    assert!(Links::open_in(here.netns().as_fd()).unwrap().get("br0").await.unwrap().is_some());
}

#[test]
#[allow(unsafe_code)]
fn the_namespace_of_a_process_is_found_by_pid_and_by_descriptor_until_it_ends() {
    let netns = NetNs::create().unwrap();
    let mut child = netns.run(Waiter::new).unwrap();
    let pid = i32::try_from(child.0.id()).unwrap();
    // SAFETY: the call takes two integers; what it returns is a descriptor that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(i32::try_from(libc::syscall(libc::SYS_pidfd_open, pid, 0)).unwrap()) };
    let pidfd: BorrowedFd<'_> = pidfd.as_fd();
    assert!(NetNs::of_pid(pid).unwrap().is(&netns).unwrap());
    assert!(NetNs::of_pidfd(pidfd).unwrap().is(&netns).unwrap());
    child.end();
    let error = NetNs::of_pid(pid).unwrap_err();
    assert!(error.to_string().contains(&pid.to_string()) && error.kind() == ErrorKind::NotFound, "{error}");
    assert_eq!(NetNs::of_pidfd(pidfd).unwrap_err().kind(), ErrorKind::NotFound);
}
