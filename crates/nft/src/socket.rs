//! The socket: sending, and the parts of what comes back.

use std::{io, os::fd::AsFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};
use nix::sys::socket::{setsockopt, sockopt};

use crate::{attributes, error::NftError};

/// Both buffers: an answer for each message of the largest change fits.
const BUFFERS: usize = 32 << 20;
/// Larger than any datagram of the kernel.
const LARGEST: usize = 64 << 10;
const HEADER: usize = 16;
/// `struct nfgenmsg`.
pub(crate) const GENERIC: usize = 4;
pub(crate) const ERROR: u16 = 2;
pub(crate) const DONE: u16 = 3;
/// A list was changed while it was read.
pub(crate) const INTERRUPTED: u16 = 0x10;

/// One message that came.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// Opens a socket in the calling thread's network namespace, member of these groups (a bit mask).
pub(crate) fn open(groups: u32) -> Result<Socket, NftError> {
    open_with(groups, BUFFERS)
}

/// As [`open`], with this much room for what comes.
pub(crate) fn open_with(groups: u32, room: usize) -> Result<Socket, NftError> {
    let open = || -> io::Result<Socket> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        setsockopt(&socket.as_fd(), sockopt::SndBufForce, &BUFFERS)?;
        setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &room)?;
        Ok(socket)
    };
    open().map_err(NftError::socket("open a netlink socket for nf_tables"))
}

/// The messages of a datagram, in order.
pub(crate) fn parts(mut datagram: &[u8]) -> impl Iterator<Item = Result<Part<'_>, NftError>> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        let Some(message) = datagram.get(..length).filter(|_| length >= HEADER) else {
            datagram = &[];
            return Some(Err(NftError::Answer("a message is cut short")));
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let short = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        let sequence = u32::from_ne_bytes([message[8], message[9], message[10], message[11]]);
        Some(Ok(Part { kind: short(4), flags: short(6), sequence, payload: &message[HEADER..] }))
    })
}

/// The next datagram, or `None` when there is none and `wait` is false.
pub(crate) fn receive(socket: &Socket, wait: bool) -> Result<Option<Vec<u8>>, NftError> {
    let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
    loop {
        let mut buffer = Vec::with_capacity(LARGEST);
        return match socket.recv_from(&mut buffer, flags) {
            Ok((length, _)) if length > buffer.len() => Err(NftError::Answer("a datagram is larger than the buffer")),
            Ok(_) => Ok(Some(buffer)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !wait => Ok(None),
            Err(source) => Err(NftError::Socket { action: "read nf_tables' answer", source }),
        };
    }
}

/// What an error message says: 0 for an acknowledgement, else the code and the kernel's explanation.
pub(crate) fn failure(part: &Part<'_>) -> (i32, Option<String>) {
    /// `NLMSGERR_ATTR_MSG`.
    const TEXT: u16 = 1;
    /// The header of the request follows the code; `set_cap_ack` cuts the rest.
    const BEHIND: usize = 4 + HEADER;
    let code = part.payload.first_chunk().map_or(0, |bytes| -i32::from_ne_bytes(*bytes));
    let attributes = part.payload.get(BEHIND..).unwrap_or_default();
    let text = attributes::find(attributes, TEXT).ok().flatten().map(|text| attributes::text(text).to_owned());
    (code, text)
}
