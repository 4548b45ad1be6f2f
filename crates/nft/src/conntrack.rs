//! Tracked connections: forgetting those of given addresses, so that they are judged anew.

use std::{io, net::IpAddr};

use netlink_sys::{Socket, SocketAddr};

use crate::{
    NftError,
    attributes::{self, Writer},
    socket,
};

const SUBSYSTEM: u16 = 1 << 8;
const NEW: u16 = 0;
const GET: u16 = 1;
const DELETE: u16 = 2;
const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const ACKNOWLEDGE: u16 = 0x4;
/// `CTA_TUPLE_ORIG`, `CTA_ID`, `CTA_ZONE`.
const TUPLE: u16 = 1;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// One tracked connection, as far as it is needed to forget it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    family: u8,
    tuple: Vec<u8>,
    id: Vec<u8>,
    zone: Vec<u8>,
    addresses: [Option<IpAddr>; 2],
}

impl Entry {
    fn zone(&self) -> u16 {
        self.zone.first_chunk().map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }
}

/// The connections of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Connections {
    socket: Socket,
}

impl Connections {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or on a kernel without it.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: socket::open(0)? })
    }

    /// Forgets all connections that have an address at either end of which `which`, given their zone, says so; tells how many. Packets of a
    /// forgotten connection are as those of a new one.
    ///
    /// # Errors
    /// When the kernel does not answer as it should. A connection that ended meanwhile is none.
    pub fn forget(&mut self, which: impl Fn(u16, IpAddr) -> bool) -> Result<usize, NftError> {
        let mut forgotten = 0;
        let matching = |entry: &Entry| entry.addresses.iter().flatten().any(|address| which(entry.zone(), *address));
        for entry in self.list()?.iter().filter(|entry| matching(entry)) {
            match self.delete(entry) {
                Ok(()) => forgotten += 1,
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(forgotten)
    }

    fn list(&mut self) -> Result<Vec<Entry>, NftError> {
        let mut found = Vec::new();
        self.ask(&message(GET, DUMP, 0, |_| {}), "list tracked connections", |family, payload| {
            let Some(tuple) = attributes::find(payload, TUPLE)? else { return Ok(()) };
            let copy = |kind| attributes::find(payload, kind).map(|value| value.unwrap_or_default().to_vec());
            found.push(Entry { family, tuple: tuple.to_vec(), id: copy(ID)?, zone: copy(ZONE)?, addresses: ends(tuple)? });
            Ok(())
        })?;
        Ok(found)
    }

    fn delete(&mut self, entry: &Entry) -> Result<(), NftError> {
        let question = message(DELETE, ACKNOWLEDGE, entry.family, |w| {
            w.nested(TUPLE, |w| w.0.extend_from_slice(&entry.tuple));
            for (kind, value) in [(ID, &entry.id), (ZONE, &entry.zone)] {
                if !value.is_empty() {
                    w.bytes(kind, value);
                }
            }
        });
        self.ask(&question, "forget a tracked connection", |_, _| Ok(()))
    }

    fn ask(&mut self, question: &[u8], what: &str, mut each: impl FnMut(u8, &[u8]) -> Result<(), NftError>) -> Result<(), NftError> {
        while socket::receive(&self.socket, false)?.is_some() {}
        self.socket.send_to(question, &SocketAddr::new(0, 0), 0).map_err(NftError::socket("ask for tracked connections"))?;
        loop {
            let Some(datagram) = socket::receive(&self.socket, true)? else { continue };
            for part in socket::parts(&datagram) {
                let part = part?;
                match part.kind {
                    socket::DONE => return Ok(()),
                    socket::ERROR => {
                        return match socket::failure(&part) {
                            (0, _) => Ok(()),
                            (code, hint) => {
                                Err(NftError::Refused { what: what.to_owned(), hint, source: io::Error::from_raw_os_error(code) })
                            }
                        };
                    }
                    kind if kind == SUBSYSTEM | NEW => {
                        let family = part.payload.first().copied().unwrap_or_default();
                        each(family, part.payload.get(socket::GENERIC..).unwrap_or_default())?;
                    }
                    _ => {}
                }
            }
        }
    }
}

fn message(kind: u16, flags: u16, family: u8, content: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer(vec![0; 16]);
    out.0.extend_from_slice(&[family, 0, 0, 0]);
    content(&mut out);
    let length = u32::try_from(out.0.len()).unwrap_or(u32::MAX);
    out.0[..4].copy_from_slice(&length.to_ne_bytes());
    out.0[4..6].copy_from_slice(&(SUBSYSTEM | kind).to_ne_bytes());
    out.0[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
    out.0
}

/// The addresses of a tuple (`CTA_TUPLE_IP`): source and destination.
fn ends(tuple: &[u8]) -> Result<[Option<IpAddr>; 2], NftError> {
    let Some(pair) = attributes::find(tuple, 1)? else { return Ok([None, None]) };
    let mut ends = [None, None];
    for attribute in attributes::read(pair) {
        let (kind, value) = attribute?;
        let v4 = || value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
        let v6 = || value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
        match kind {
            1 => ends[0] = v4(),
            2 => ends[1] = v4(),
            3 => ends[0] = v6(),
            4 => ends[1] = v6(),
            _ => {}
        }
    }
    Ok(ends)
}
