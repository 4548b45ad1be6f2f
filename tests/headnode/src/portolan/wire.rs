//! SVP's bytes, read and written without the agents' code.

use std::net::{IpAddr, Ipv6Addr};

use super::Asked;

/// What a client wants.
pub(super) enum What {
    Ping,
    Mac { vnet: u32, mac: [u8; 6] },
    Ip { vnet: u32, ip: IpAddr },
    Log { most: usize, ip: IpAddr },
    Followed(Vec<[u8; 16]>),
}

/// A request.
pub(super) struct Request {
    pub(super) id: u32,
    pub(super) what: What,
}

impl Request {
    pub(super) fn asked(&self) -> Asked {
        match &self.what {
            What::Ping => Asked::Ping,
            What::Mac { vnet, mac } => Asked::Mac(*vnet, *mac),
            What::Ip { vnet, ip } => Asked::Ip(*vnet, *ip),
            What::Log { ip, .. } => Asked::Log(*ip),
            What::Followed(ids) => Asked::Followed(ids.len()),
        }
    }
}

/// CRC-32 as portolan computes it: reflected, all ones before and inverted after, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            let low = sum & 1;
            sum >>= 1;
            if low == 1 {
                sum ^= 0xedb8_8320;
            }
        }
    }
    !sum
}

/// A message.
pub(super) fn frame(operation: u16, id: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = [&1u16.to_be_bytes()[..], &operation.to_be_bytes(), &length.to_be_bytes(), &id.to_be_bytes(), &[0; 4], body].concat();
    let sum = checksum(&bytes);
    bytes[12..16].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = 0;
    for place in at..at + 4 {
        value = value << 8 | u32::from(bytes.get(place).copied().unwrap_or(0));
    }
    value
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    for (to, from) in array.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    array
}

/// An address of 16 bytes.
pub(super) fn ip_at(bytes: &[u8], at: usize) -> IpAddr {
    Ipv6Addr::from(array::<16>(bytes, at)).to_canonical()
}

/// Takes the first request out of `bytes`, if it is whole.
pub(super) fn take(bytes: &mut Vec<u8>) -> Result<Option<Request>, String> {
    if bytes.len() < 16 {
        return Ok(None);
    }
    let (version, operation) = (u32_at(bytes, 0) >> 16, u32_at(bytes, 0) & 0xffff);
    if version != 1 {
        return Err(format!("version {version}"));
    }
    let size = u32_at(bytes, 4) as usize;
    if size > 1 << 20 {
        return Err(format!("operation {operation} with {size} bytes"));
    }
    if bytes.len() < 16 + size {
        return Ok(None);
    }
    let mut message: Vec<u8> = bytes.drain(..16 + size).collect();
    let (id, said) = (u32_at(&message, 8), u32_at(&message, 12));
    message[12..16].fill(0);
    let is = checksum(&message);
    if said != is {
        return Err(format!("operation {operation} says the checksum {said:08x}, its bytes have {is:08x}"));
    }
    let body = &message[16..];
    let wanted = match operation {
        1 => Some(0),
        3 => Some(12),
        5 => Some(24),
        9 => Some(20),
        11 if size >= 4 => (u32_at(body, 0) as usize).checked_mul(16).map(|ids| 4 + ids),
        7 => return Err("portolan has no bulk requests".to_owned()),
        13 => return Err("a shootdown is for another node, not for portolan".to_owned()),
        other => return Err(format!("operation {other} is no request")),
    };
    if wanted != Some(size) {
        return Err(format!("operation {operation} with a body of {size} bytes"));
    }
    let padding = |at: usize| if body[at..at + 2] == [0, 0] { Ok(()) } else { Err(format!("operation {operation}: padding is not zero")) };
    let what = match operation {
        1 => What::Ping,
        3 => {
            padding(6)?;
            What::Mac { vnet: u32_at(body, 8), mac: array(body, 0) }
        }
        5 => {
            let (ip, kind) = (ip_at(body, 0), u32_at(body, 16));
            if kind != if ip.is_ipv4() { 1 } else { 2 } {
                return Err(format!("{ip} is said to be of kind {kind}"));
            }
            What::Ip { vnet: u32_at(body, 20), ip }
        }
        9 => What::Log { most: u32_at(body, 0) as usize, ip: ip_at(body, 4) },
        _ => What::Followed(body[4..].chunks_exact(16).map(|id| array(id, 0)).collect()),
    };
    match &what {
        What::Mac { vnet, .. } | What::Ip { vnet, .. } if *vnet > 0x00ff_ffff => Err(format!("network {vnet} has more than 24 bits")),
        _ => Ok(Some(Request { id, what })),
    }
}
