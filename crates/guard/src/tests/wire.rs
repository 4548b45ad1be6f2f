//! A bridge with guests: each has a link whose host end is a port, and a raw socket at the other end.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};
use std::os::fd::AsFd;
use triton_files::Layout;
use triton_types::{Mac, Nic};

use crate::{Guard, Protection};

/// Runs a command that must succeed.
pub fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs `test` in a new network namespace, which ends with it.
pub fn kernel(test: impl FnOnce(&mut Net) + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test(&mut Net::new());
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// The bridge and the guard.
pub struct Net {
    pub guard: Guard,
    root: tempfile::TempDir,
    probes: u16,
}

/// One end of a link.
pub struct Guest {
    pub nic: Nic,
    pub link: String,
    socket: OwnedFd,
}

pub const A: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0xa]);
pub const B: Mac = Mac([0x02, 0x08, 0x20, 0, 0, 0xb]);

fn raw_socket(interface: &str) -> OwnedFd {
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, SockProtocol::EthAll).unwrap();
    let mut addresses = getifaddrs().unwrap();
    let address = addresses.find_map(|own| (own.interface_name == interface).then(|| own.address?.as_link_addr().copied())?).unwrap();
    bind(socket.as_raw_fd(), &address).unwrap();
    socket
}

impl Net {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/triton")).unwrap();
        run("ip link add br0 type bridge mcast_snooping 0");
        run("sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
        run("ip link set br0 up");
        // Where bridges hand their packets to the IP layer, it judges them first; compute nodes switch that off (ruling 20).
        for kind in ["iptables", "ip6tables", "arptables"] {
            let _ = Command::new("sysctl").args(["-q", "-w", &format!("net.bridge.bridge-nf-call-{kind}=0")]).output().unwrap();
        }
        Self { guard: Guard::open(&Layout::new(root.path())).unwrap(), root, probes: 0 }
    }

    /// A port without a guard: an uplink, or a guest that nobody protected, by its name.
    pub fn port(&mut self, link: &str, mac: Mac) -> Guest {
        let peer = format!("p{link}");
        run(&format!("ip link add {link} type veth peer name {peer}"));
        for name in [link, &peer] {
            run(&format!("ip link set {name} up"));
        }
        run(&format!("ip link set {link} master br0"));
        Guest { nic: Nic::new("net0", mac, "external".parse().unwrap()), link: link.to_owned(), socket: raw_socket(&peer) }
    }

    /// A guarded guest at 10.0.0.5 and fd00::5.
    pub fn guest(&mut self, link: &str, mac: Mac, change: impl FnOnce(&mut Nic)) -> Guest {
        let mut guest = self.port(link, mac);
        guest.nic.ips = vec!["10.0.0.5/24".parse().unwrap(), "fd00::5/64".parse().unwrap()];
        change(&mut guest.nic);
        self.protect(&guest);
        guest
    }

    /// A guard as another program has it.
    pub fn another_guard(&self) -> Guard {
        Guard::open(&Layout::new(self.root.path())).unwrap()
    }

    /// Applies the guest's properties as they are now.
    pub fn protect(&mut self, guest: &Guest) {
        self.guard.protect(&[Protection::of(&guest.nic, &guest.link)], || Ok(Vec::new())).unwrap();
    }

    /// True if `frame`, sent by one, arrives at the other. A frame that is always allowed follows it: when that has come, the first will
    /// not come any more.
    pub fn passes(&mut self, from: &Guest, to: &Guest, frame: &[u8]) -> bool {
        self.probes += 1;
        let marker = self.marker(from);
        from.send(frame);
        from.send(&marker);
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut passed = false;
        loop {
            let got = to.receive(deadline).unwrap_or_else(|| panic!("the marker did not come: is everything dropped?"));
            if got == marker {
                return passed;
            }
            passed |= got == frame;
        }
    }

    /// An ARP probe of the guest, which every protection allows, with a number in it.
    fn marker(&self, from: &Guest) -> Vec<u8> {
        let [high, low] = self.probes.to_be_bytes();
        super::frames::arp(from.nic.mac, from.nic.mac, [0; 4], [203, 0, high, low])
    }
}

impl Guest {
    pub fn send(&self, frame: &[u8]) {
        let mut padded = frame.to_vec();
        padded.resize(padded.len().max(60), 0);
        assert_eq!(send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).unwrap(), frame.len());
    }

    /// The next frame that came; `None` after the deadline.
    pub fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
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
