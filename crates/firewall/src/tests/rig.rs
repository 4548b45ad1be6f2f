//! A bridge with links: the host's ends are its ports, raw sockets are at the other ends.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};
use triton_files::Layout;

use super::frames::{self, Mac};
use crate::Filter;

/// Runs a command that must succeed.
pub fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `test` in a new network namespace, which ends with it.
pub fn kernel(test: impl FnOnce(&mut Rig) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Rig::new());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// The bridge and the filter.
pub struct Rig {
    pub filter: Filter,
    pub layout: Layout,
    _root: tempfile::TempDir,
    probes: u16,
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

/// The far end of a link.
pub struct End {
    pub mac: Mac,
    socket: OwnedFd,
}

impl Rig {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/triton")).unwrap();
        run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        run("ip link add br0 type bridge mcast_snooping 0");
        run("ip link set br0 up");
        let layout = Layout::new(root.path());
        Self { filter: Filter::open(&layout).unwrap(), layout, _root: root, probes: 0 }
    }

    /// A link whose far end has this address; the bridge knows where it is.
    pub fn link(&mut self, name: &str, mac: Mac) -> End {
        let peer = format!("p{name}");
        run(&format!("ip link add {name} type veth peer name {peer}"));
        for name in [name, &peer] {
            run(&format!("ip link set {name} up"));
        }
        run(&format!("ip link set {name} master br0"));
        let text: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        run(&format!("bridge fdb replace {} dev {name} master static", text.join(":")));
        let raw = SockType::Raw;
        let socket = socket(AddressFamily::Packet, raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll).unwrap();
        let mut addresses = getifaddrs().unwrap();
        let address = addresses.find_map(|own| (own.interface_name == peer).then(|| own.address?.as_link_addr().copied())?).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        End { mac, socket }
    }

    /// Which of `frames`, sent by one, arrive at the other.
    pub fn arriving(&mut self, from: &End, to: &End, frames: &[Vec<u8>]) -> Vec<bool> {
        let came = self.collected(from, to, frames);
        frames.iter().map(|frame| came.contains(frame)).collect()
    }

    /// What arrives at one end when the other sends `frames`. ARP, which is never filtered, follows them: when that has come, none of
    /// them will come any more.
    pub fn collected(&mut self, from: &End, to: &End, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.probes = self.probes.wrapping_add(1);
        let marker = frames::arp(from.mac, self.probes);
        for frame in frames {
            from.send(frame);
        }
        from.send(&marker);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut came = Vec::new();
        loop {
            let got = to.receive(deadline).expect("the marker did not come: is everything dropped?");
            if got == marker {
                return came;
            }
            came.push(got);
        }
    }

    /// [`Rig::arriving`] for one frame.
    pub fn arrives(&mut self, from: &End, to: &End, frame: &[u8]) -> bool {
        self.arriving(from, to, &[frame.to_vec()])[0]
    }
}

impl End {
    fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap(), frame.len());
    }

    fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 4096];
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
