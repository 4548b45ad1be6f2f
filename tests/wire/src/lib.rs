//! A bridge with links: the host's ends are its ports, raw sockets are at the other ends; frames, instances and rules to try. For tests
//! of what a node's tables let pass.
//!
//! Whatever cannot be made fails the test: there is nothing that it could do about it.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "for tests")]

pub mod frames;
pub mod world;

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Command,
    time::Instant,
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};

/// The bridge's name.
const BRIDGE: &str = "br0";
/// Larger than any frame of these tests.
const LARGEST: usize = 4096;

/// Runs a command that must succeed; returns what it says.
pub fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `test` in a new network namespace, which ends with it.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Makes a bridge on which nothing is sent that no test sends.
pub fn make_bridge() {
    run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    run(&format!("ip link add {BRIDGE} type bridge mcast_snooping 0"));
    run(&format!("ip link set {BRIDGE} up"));
}

/// Forgets all connections: flows without ports are known by their addresses alone, and would answer each other.
pub fn forget_flows() {
    let netlink = SockProtocol::NetlinkNetFilter;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, netlink).unwrap();
    // A request with an answer: delete (2) in the subsystem of connections (1), without saying which.
    let request = [&20_u32.to_ne_bytes()[..], &0x0102_u16.to_ne_bytes(), &5_u16.to_ne_bytes(), &[0; 12]].concat();
    send(socket.as_raw_fd(), &request, MsgFlags::empty()).unwrap();
    let mut answer = [0; 64];
    assert!(recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).unwrap() >= 20);
    assert_eq!(answer[16..20], [0; 4], "connections cannot be forgotten");
}

/// The far end of a link whose host's end is a port of the bridge.
#[derive(Debug)]
pub struct FarEnd {
    socket: OwnedFd,
}

impl FarEnd {
    /// Makes a link by the name of its host's end.
    pub fn of_new_port(link: &str) -> Self {
        let peer = format!("p{link}");
        run(&format!("ip link add {link} type veth peer name {peer}"));
        for name in [link, &peer] {
            run(&format!("ip link set {name} up"));
        }
        run(&format!("ip link set {link} master {BRIDGE}"));
        Self::of_link(&peer)
    }

    /// The end with this name that somebody else made, in this network namespace.
    pub fn of_link(name: &str) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).unwrap();
        let mut addresses = getifaddrs().unwrap();
        let address = addresses.find_map(|own| (own.interface_name == name).then(|| own.address?.as_link_addr().copied())?).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        Self { socket }
    }

    /// Sends a frame.
    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap(), frame.len());
    }

    /// The next frame that came; `None` after the deadline.
    pub fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; LARGEST];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap() == 0 {
                return None;
            }
            if let Ok(length) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
    }
}
