//! One request and its answer on a netlink route socket.
//!
//! The answer's parts are read one datagram at a time into one buffer: there is no queue but the socket's own. A part
//! that cannot be read fails the request, so a list is whole or an error, never shorter than the truth.

use std::io;

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkSerializable, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use crate::{error::Cause, netns::NetNs};

/// Larger than any datagram of the kernel (it fills at most 32 KiB).
pub(crate) const BUFFER: usize = 64 * 1024;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
/// `NLMSGERR_ATTR_MSG`: the kernel's explanation.
const ATTRIBUTE_MESSAGE: u16 = 1;
/// How often a list is begun anew because things changed while it was read.
const DUMP_TRIES: usize = 20;

/// One message of a datagram.
pub(crate) struct Part<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram, in order.
pub(crate) fn parts(mut datagram: &[u8]) -> impl Iterator<Item = Result<Part<'_>, Cause>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let length = datagram.get(..4).map_or(0, |b| read_u32(b) as usize);
        let Some(message) = datagram.get(..length).filter(|_| length >= HEADER) else {
            datagram = &[];
            return Some(Err(Cause::Answer("a message is cut short".to_owned())));
        };
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
        let u16_at = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
        Some(Ok(Part { kind: u16_at(4), flags: u16_at(6), sequence: read_u32(&message[8..12]), payload: &message[HEADER..] }))
    })
}

/// The number in the first four bytes; 0 when there are fewer.
pub(crate) fn read_u32(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// A socket in namespace `netns`, subscribed to `groups` (a bit mask). It stays there whatever its user's thread does.
pub(crate) fn socket(netns: &NetNs, groups: u32) -> Result<Socket, Cause> {
    netns
        .run(move || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(0, groups))?;
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            socket.set_netlink_get_strict_chk(true)?;
            Ok::<_, io::Error>(socket)
        })?
        .map_err(Cause::Io)
}

/// Waits for the next datagram from the kernel; those of other processes are thrown away.
pub(crate) async fn receive(socket: &AsyncFd<Socket>, buffer: &mut Vec<u8>) -> io::Result<()> {
    loop {
        buffer.clear();
        let mut guard = socket.readable().await?;
        match guard.try_io(|socket| socket.get_ref().recv_from(buffer, libc::MSG_TRUNC)) {
            Ok(Ok((length, _))) if length > buffer.len() => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a datagram is larger than the buffer"));
            }
            Ok(Ok((_, sender))) if sender.port_number() == 0 => return Ok(()),
            Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(Err(error)) => return Err(error),
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// A socket for requests. After an exchange that was given up, or failed other than by the kernel's refusal, it must be
/// dropped: parts of the old answer may still be on their way.
pub(crate) struct Channel {
    socket: AsyncFd<Socket>,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    pub(crate) fn open(netns: &NetNs) -> Result<Self, Cause> {
        let socket = crate::reactor::register(socket(netns, 0)?)?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// Sends `message` and reads the whole answer; `parse` reads one object of it, or skips it.
    pub(crate) async fn exchange<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        flags: u16,
        parse: impl Fn(u16, &[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Cause> {
        let mut request = encode(message, flags);
        for _ in 0..DUMP_TRIES {
            self.sequence = self.sequence.wrapping_add(1);
            request[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
            self.send(&request).await?;
            if let Some(objects) = self.answer(&parse).await? {
                return Ok(objects);
            }
            tokio::task::yield_now().await;
        }
        Err(Cause::Answer("it changed each time while it was read".to_owned()))
    }

    async fn send(&self, request: &[u8]) -> io::Result<()> {
        loop {
            let mut guard = self.socket.writable().await?;
            match guard.try_io(|socket| socket.get_ref().send_to(request, &SocketAddr::new(0, 0), 0)) {
                Ok(Ok(sent)) if sent == request.len() => return Ok(()),
                Ok(Ok(_)) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the request was sent in part")),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// The objects of one answer; `None` if they changed while the kernel listed them.
    async fn answer<T>(&mut self, parse: &impl Fn(u16, &[u8]) -> Result<Option<T>, DecodeError>) -> Result<Option<Vec<T>>, Cause> {
        let mut objects = Vec::new();
        let mut interrupted = false;
        loop {
            receive(&self.socket, &mut self.buffer).await?;
            for part in parts(&self.buffer) {
                let part = part?;
                if part.sequence != self.sequence {
                    continue;
                }
                interrupted |= part.flags & NLM_F_DUMP_INTR != 0;
                match part.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Cause::Answer("parts of it were lost".to_owned())),
                    NLMSG_ERROR | NLMSG_DONE => {
                        let code = read_u32(part.payload).cast_signed();
                        return match code {
                            _ if code < 0 => Err(Cause::Kernel { errno: -code, detail: detail(&part) }),
                            _ if interrupted => Ok(None),
                            _ => Ok(Some(objects)),
                        };
                    }
                    kind => objects.extend(parse(kind, part.payload)?),
                }
            }
        }
    }
}

/// What the kernel says beside the error number. The header of the request precedes it in an error, not at a list's end.
fn detail(part: &Part<'_>) -> Option<String> {
    let skip = if part.kind == NLMSG_ERROR { 4 + HEADER } else { 4 };
    let attributes = part.payload.get(skip..)?;
    let message = NlasIterator::new(attributes).flatten().find(|attribute| attribute.kind() == ATTRIBUTE_MESSAGE)?;
    let text = String::from_utf8_lossy(message.value());
    Some(text.trim_end_matches('\0').trim_end_matches('.').to_owned())
}

fn encode(message: &RouteNetlinkMessage, flags: u16) -> Vec<u8> {
    let length = HEADER + message.buffer_len();
    let mut request = vec![0; length];
    let wait = if flags & NLM_F_DUMP == NLM_F_DUMP { 0 } else { NLM_F_ACK };
    request[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    request[4..6].copy_from_slice(&message.message_type().to_ne_bytes());
    request[6..8].copy_from_slice(&(flags | NLM_F_REQUEST | wait).to_ne_bytes());
    message.serialize(&mut request[HEADER..]);
    request
}
