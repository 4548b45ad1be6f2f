//! From bytes to messages.

use std::net::{IpAddr, Ipv6Addr};

use triton_types::Mac;

use crate::{Body, HEADER, LogEntry, LogId, MOST, Message, Status, SvpError, VERSION, Vnet, message::Underlay};

/// The message that `bytes` begin with, and its length. None while there are too few bytes for one.
///
/// # Errors
/// When they begin with something else; no more bytes make it a message.
pub fn decode(bytes: &[u8]) -> Result<Option<(Message, usize)>, SvpError> {
    let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let [v0, v1, o0, o1, s0, s1, s2, s3, i0, i1, i2, i3, c0, c1, c2, c3] = *header;
    let version = u16::from_be_bytes([v0, v1]);
    if version != VERSION {
        return Err(SvpError::Version(version));
    }
    let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
    if size > MOST {
        return Err(SvpError::TooLong(size));
    }
    let Some(content) = bytes.get(HEADER..HEADER + size) else { return Ok(None) };
    let mut sum = crc32fast::Hasher::new();
    sum.update(&header[..12]);
    sum.update(&[0; 4]);
    sum.update(content);
    let (said, is) = (u32::from_be_bytes([c0, c1, c2, c3]), sum.finalize());
    if said != is {
        return Err(SvpError::Checksum { said, is });
    }
    let operation = u16::from_be_bytes([o0, o1]);
    let mut reader = Reader { operation, size, rest: content };
    let body = reader.body()?;
    if !reader.rest.is_empty() {
        return Err(reader.size());
    }
    Ok(Some((Message { id: u32::from_be_bytes([i0, i1, i2, i3]), body }, HEADER + size)))
}

/// Messages of a stream. It keeps at most one message and what came with its end.
#[derive(Debug, Default)]
pub struct Decoder(Vec<u8>);

impl Decoder {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next message; none before more bytes came.
    ///
    /// # Errors
    /// As [`decode`]; nothing that comes later is of use.
    pub fn next_message(&mut self) -> Result<Option<Message>, SvpError> {
        let Some((message, length)) = decode(&self.0)? else { return Ok(None) };
        self.0.drain(..length);
        Ok(Some(message))
    }
}

struct Reader<'a> {
    operation: u16,
    size: usize,
    rest: &'a [u8],
}

impl Reader<'_> {
    fn size(&self) -> SvpError {
        SvpError::Size { operation: self.operation, size: self.size }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SvpError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.size())?;
        self.rest = rest;
        Ok(*taken)
    }

    fn short(&mut self) -> Result<u16, SvpError> {
        self.take().map(u16::from_be_bytes)
    }

    fn number(&mut self) -> Result<u32, SvpError> {
        self.take().map(u32::from_be_bytes)
    }

    fn address(&mut self) -> Result<IpAddr, SvpError> {
        Ok(Ipv6Addr::from(self.take::<16>()?).to_canonical())
    }

    fn vnet(&mut self) -> Result<Vnet, SvpError> {
        let value = self.number()?;
        Vnet::new(value).ok_or(SvpError::Range { field: "vnet id", value })
    }

    fn link(&mut self) -> Result<(Mac, Vnet), SvpError> {
        let mac = Mac(self.take()?);
        self.take::<2>()?;
        Ok((mac, self.vnet()?))
    }

    fn status(&mut self) -> Result<Status, SvpError> {
        self.number().map(Status::of)
    }

    fn body(&mut self) -> Result<Body, SvpError> {
        Ok(match self.operation {
            1 => Body::Ping,
            2 => Body::Pong,
            3 => {
                let (mac, vnet) = self.link()?;
                Body::Vl2Request { vnet, mac }
            }
            4 => {
                let (status, port) = (Status::of(self.short()?.into()), self.short()?);
                Body::Vl2Ack { status, at: Underlay { ip: self.address()?, port } }
            }
            5 => self.vl3_request()?,
            6 => {
                let (status, mac, port) = (self.status()?, Mac(self.take()?), self.short()?);
                Body::Vl3Ack { status, mac, at: Underlay { ip: self.address()?, port } }
            }
            7 => Body::BulkRequest { kind: self.number()? },
            8 => Body::BulkAck { status: self.status()?, kind: self.number()?, data: std::mem::take(&mut self.rest).to_vec() },
            9 => Body::LogRequest { most: self.number()?, ip: self.address()? },
            10 => {
                let status = self.status()?;
                let mut entries = Vec::new();
                while !self.rest.is_empty() {
                    entries.push(self.entry()?);
                }
                Body::LogAck { status, entries }
            }
            11 => self.removal()?,
            12 => Body::LogRemoveAck { status: self.status()? },
            13 => {
                let (mac, vnet) = self.link()?;
                Body::Shootdown { vnet, mac }
            }
            other => return Err(SvpError::Operation(other)),
        })
    }

    fn vl3_request(&mut self) -> Result<Body, SvpError> {
        let ip = self.address()?;
        let value = self.number()?;
        let told = match value {
            1 => true,
            2 => false,
            _ => return Err(SvpError::Value { field: "type of IP address", value }),
        };
        // Portolan does not look at the type; an address of the other one is a mistake all the same.
        if told != ip.is_ipv4() {
            return Err(SvpError::Value { field: "type of IP address", value });
        }
        Ok(Body::Vl3Request { vnet: self.vnet()?, ip })
    }

    fn entry(&mut self) -> Result<LogEntry, SvpError> {
        let value = self.number()?;
        let id: LogId = match value {
            1 | 2 => self.take()?,
            _ => return Err(SvpError::Value { field: "type of log entry", value }),
        };
        if value == 1 {
            let (mac, vnet) = self.link()?;
            return Ok(LogEntry::Vl2 { id, vnet, mac });
        }
        let ip = self.address()?;
        self.take::<2>()?;
        Ok(LogEntry::Vl3 { id, vlan: self.short()?, vnet: self.vnet()?, ip })
    }

    fn removal(&mut self) -> Result<Body, SvpError> {
        let count = self.number()? as usize;
        if Some(self.rest.len()) != count.checked_mul(16) {
            return Err(self.size());
        }
        let ids = (0..count).map(|_| self.take()).collect::<Result<_, _>>()?;
        Ok(Body::LogRemove { ids })
    }
}
