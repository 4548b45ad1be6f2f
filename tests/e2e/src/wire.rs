//! Frames, and links that they are sent and heard on: what a guest's root could do, without a program inside the guest.

use std::{
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Instant,
};

use nix::{
    ifaddrs::getifaddrs,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket},
};
use triton_link::NetNs;
use triton_types::Mac;

/// A link of a network namespace.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    /// The link `name` of `namespace`.
    ///
    /// # Panics
    /// When it is not there.
    pub fn open(namespace: &NetNs, name: &str) -> Self {
        let open = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("root may");
            let mut all = getifaddrs().expect("links can be listed");
            let address = all.find_map(|own| (own.interface_name == name).then(|| own.address?.as_link_addr().copied())?);
            bind(socket.as_raw_fd(), &address.expect("the link is there")).expect("the link is there");
            Self(socket)
        };
        namespace.run(open).expect("the namespace can be entered")
    }

    /// Sends a frame.
    ///
    /// # Panics
    /// When the link does not take it whole.
    pub fn send(&self, frame: &[u8]) {
        assert_eq!(send(self.0.as_raw_fd(), frame, MsgFlags::empty()).expect("the link is up"), frame.len());
    }

    /// The next frame that came or was sent; none after the deadline.
    ///
    /// # Panics
    /// When the link went.
    pub fn receive(&self, deadline: Instant) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)).unwrap_or(0) == 0 {
                continue;
            }
            if let Ok(length) = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                buffer.truncate(length);
                return Some(buffer);
            }
        }
    }

    /// Forgets what came so far.
    pub fn clear(&self) {
        let mut buffer = [0; 64];
        while recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()).is_ok() {}
    }

    /// True if `frame` comes before the deadline.
    pub fn hears(&self, frame: &[u8], deadline: Instant) -> bool {
        std::iter::from_fn(|| self.receive(deadline)).any(|got| got == frame)
    }
}

/// The link-local address that a MAC address makes (EUI-64).
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn sum(parts: &[&[u8]]) -> [u8; 2] {
    let bytes = parts.concat();
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// An IP packet with correct sums, and its ethertype. `protocol` is 1 (ping), 6 or 17; `fragment` is the field of an IPv4 header.
///
/// # Panics
/// When the addresses are of two families.
pub fn packet(from: IpAddr, to: IpAddr, protocol: u8, fragment: u16, port: u16) -> (u16, Vec<u8>) {
    let mut payload = match protocol {
        6 => [&40000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0, 0, 0, 1], &[0; 4], &[0x50, 2, 0x20, 0, 0, 0, 0, 0]].concat(),
        17 => [&40000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0, 12, 0, 0], b"helo"].concat(),
        _ => [if from.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1].to_vec(),
    };
    let length = u16::try_from(payload.len()).expect("small");
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let pseudo = [&from.octets()[..], &to.octets(), &[0, protocol], &length.to_be_bytes()].concat();
            let at = match protocol {
                6 => 16,
                17 => 6,
                _ => 2,
            };
            let check = if protocol == 1 { sum(&[&payload]) } else { sum(&[&pseudo, &payload]) };
            payload[at..at + 2].copy_from_slice(&check);
            let mut head = [
                &[0x45, 0][..],
                &(20 + length).to_be_bytes(),
                &[0, 1],
                &fragment.to_be_bytes(),
                &[64, protocol, 0, 0],
                &from.octets(),
                &to.octets(),
            ]
            .concat();
            let check = sum(&[&head]);
            head[10..12].copy_from_slice(&check);
            (0x0800, [head, payload].concat())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let protocol = if protocol == 1 { 58 } else { protocol };
            let pseudo = [&from.octets()[..], &to.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, protocol]].concat();
            let at = match protocol {
                6 => 16,
                17 => 6,
                _ => 2,
            };
            let check = sum(&[&pseudo, &payload]);
            payload[at..at + 2].copy_from_slice(&check);
            let head = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol, 64], &from.octets(), &to.octets()].concat();
            (0x86dd, [head, payload].concat())
        }
        _ => panic!("two families"),
    }
}

/// An Ethernet frame, not padded: bridges may cut packets to the length that they say.
pub fn frame(from: Mac, to: Mac, (kind, payload): (u16, Vec<u8>)) -> Vec<u8> {
    [&to.0[..], &from.0, &kind.to_be_bytes(), &payload].concat()
}
