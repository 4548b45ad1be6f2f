//! Copies of packets that rules with [`crate::Rule::log`] send to a group.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netlink_sys::Socket;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{setsockopt, sockopt},
};

use crate::{
    NftError,
    attributes::{self, Writer},
    socket,
};

/// `NFNL_SUBSYS_ULOG`.
const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIGURE: u16 = SUBSYSTEM | 1;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
/// `NFULA_CFG_*`.
mod config {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const THRESHOLD: u16 = 5;
    pub(super) const BIND: u8 = 1;
    pub(super) const COPY_PACKET: u8 = 2;
}
/// `NFULA_*`.
mod packet {
    pub(super) const INPUT: u16 = 4;
    pub(super) const OUTPUT: u16 = 5;
    pub(super) const INPUT_PORT: u16 = 6;
    pub(super) const OUTPUT_PORT: u16 = 7;
    pub(super) const PAYLOAD: u16 = 9;
}
/// Copies that wait to be read, in bytes; more are lost.
const BUFFER: usize = 4 << 20;
/// Copies that one call of [`Logs::wait`] gives.
const AT_ONCE: usize = 256;

/// A copy of a packet, from its network header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Index of the interface that it came in by: the port, not its bridge. Absent where it is not known yet or any more.
    pub input: Option<u32>,
    /// Index of the interface that it goes out by: the port, not its bridge.
    pub output: Option<u32>,
    /// Its first bytes, from the network header.
    pub payload: Vec<u8>,
}

/// The copies of one group, in the network namespace in which it was opened. A group has one reader.
#[derive(Debug)]
pub struct Logs {
    socket: Socket,
    lost: u64,
}

impl Logs {
    /// Begins to receive the copies of `group`, each cut to `bytes`.
    ///
    /// # Errors
    /// When somebody else reads the group (`EBUSY`), without `CAP_NET_ADMIN`, or on a kernel without `nfnetlink_log`.
    pub fn open(group: u16, bytes: u32) -> Result<Self, NftError> {
        let socket = socket::open(0)?;
        setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER)
            .map_err(|error| NftError::Socket { action: "limit the copies that wait", source: error.into() })?;
        let mut logs = Self { socket, lost: 0 };
        let mut mode = bytes.to_be_bytes().to_vec();
        mode.extend_from_slice(&[config::COPY_PACKET, 0]);
        logs.configure(group, |w| w.bytes(config::COMMAND, &[config::BIND]))?;
        // One packet in a datagram, at once: the kernel would wait a second for more.
        logs.configure(group, |w| {
            w.bytes(config::MODE, &mode);
            w.number(config::THRESHOLD, 1);
        })?;
        Ok(logs)
    }

    fn configure(&mut self, group: u16, content: impl FnOnce(&mut Writer)) -> Result<(), NftError> {
        let mut out = Writer(vec![0; 16]);
        // The family is any; the group is where other messages have a resource.
        out.0.extend_from_slice(&[0, 0]);
        out.0.extend_from_slice(&group.to_be_bytes());
        content(&mut out);
        let length = u32::try_from(out.0.len()).unwrap_or(u32::MAX);
        out.0[..4].copy_from_slice(&length.to_ne_bytes());
        out.0[4..6].copy_from_slice(&CONFIGURE.to_ne_bytes());
        out.0[6..8].copy_from_slice(&(REQUEST | ACKNOWLEDGE).to_ne_bytes());
        let sent = self.socket.send_to(&out.0, &netlink_sys::SocketAddr::new(0, 0), 0);
        sent.map_err(NftError::socket("ask for copies of packets"))?;
        loop {
            let Some(datagram) = socket::receive(&self.socket, true)? else { continue };
            for part in socket::parts(&datagram) {
                let part = part?;
                if part.kind != socket::ERROR {
                    continue;
                }
                return match socket::failure(&part) {
                    (0, _) => Ok(()),
                    (code, hint) => Err(NftError::Refused {
                        what: "receive copies of packets".to_owned(),
                        hint,
                        source: std::io::Error::from_raw_os_error(code),
                    }),
                };
            }
        }
    }

    /// Waits at most `patience` for copies; an empty list means that the time is over. What is more than a few hundred waits for the next
    /// call.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Copy>, NftError> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(NftError::Socket { action: "wait for copies of packets", source: error.into() }),
        }
        let mut copies = Vec::new();
        while copies.len() < AT_ONCE {
            let datagram = match socket::receive(&self.socket, false) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(NftError::Socket { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    self.lost += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for part in socket::parts(&datagram) {
                let part = part?;
                if part.kind == PACKET {
                    copies.push(copy(part.payload.get(socket::GENERIC..).unwrap_or_default())?);
                }
            }
        }
        Ok(copies)
    }

    /// How often copies were lost because too many waited.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

fn copy(attributes: &[u8]) -> Result<Copy, NftError> {
    let number = |kind| attributes::find(attributes, kind).map(|value| value.map(attributes::number));
    Ok(Copy {
        input: number(packet::INPUT_PORT)?.or(number(packet::INPUT)?),
        output: number(packet::OUTPUT_PORT)?.or(number(packet::OUTPUT)?),
        payload: attributes::find(attributes, packet::PAYLOAD)?.unwrap_or_default().to_vec(),
    })
}

impl AsFd for Logs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
