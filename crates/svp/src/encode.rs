//! From messages to bytes.

use std::net::IpAddr;

use triton_types::Mac;

use crate::{Body, HEADER, LogEntry, MOST, Message, SvpError, VERSION, Vnet, message::Underlay};

/// The bytes of a message.
///
/// # Errors
/// When its body would be longer than [`MOST`] bytes.
pub fn encode(message: &Message) -> Result<Vec<u8>, SvpError> {
    let mut bytes = vec![0; HEADER];
    let out = &mut bytes;
    match &message.body {
        Body::Ping | Body::Pong => {}
        Body::Vl2Request { vnet, mac } | Body::Shootdown { vnet, mac } => link(out, *mac, *vnet),
        Body::Vl2Ack { status, at } => {
            // The one status of two bytes; no number that is in use is longer.
            out.extend(u16::try_from(status.number()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend(at.port.to_be_bytes());
            address(out, at.ip);
        }
        Body::Vl3Request { vnet, ip } => {
            address(out, *ip);
            number(out, if ip.is_ipv4() { 1 } else { 2 });
            number(out, vnet.number());
        }
        Body::Vl3Ack { status, mac, at: Underlay { ip, port } } => {
            number(out, status.number());
            out.extend(mac.0);
            out.extend(port.to_be_bytes());
            address(out, *ip);
        }
        Body::BulkRequest { kind } => number(out, *kind),
        Body::BulkAck { status, kind, data } => {
            number(out, status.number());
            number(out, *kind);
            out.extend(data);
        }
        Body::LogRequest { most, ip } => {
            number(out, *most);
            address(out, *ip);
        }
        Body::LogAck { status, entries } => {
            number(out, status.number());
            entries.iter().for_each(|one| entry(out, one));
        }
        Body::LogRemove { ids } => {
            number(out, u32::try_from(ids.len()).unwrap_or(u32::MAX));
            ids.iter().for_each(|id| out.extend(id));
        }
        Body::LogRemoveAck { status } => number(out, status.number()),
    }
    let size = bytes.len() - HEADER;
    let length = u32::try_from(size).ok().filter(|_| size <= MOST).ok_or(SvpError::TooLong(size))?;
    bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
    bytes[2..4].copy_from_slice(&message.body.operation().to_be_bytes());
    bytes[4..8].copy_from_slice(&length.to_be_bytes());
    bytes[8..12].copy_from_slice(&message.id.to_be_bytes());
    let sum = crc32fast::hash(&bytes);
    bytes[12..16].copy_from_slice(&sum.to_be_bytes());
    Ok(bytes)
}

fn number(out: &mut Vec<u8>, number: u32) {
    out.extend(number.to_be_bytes());
}

fn address(out: &mut Vec<u8>, ip: IpAddr) {
    let ip = match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend(ip.octets());
}

fn link(out: &mut Vec<u8>, mac: Mac, vnet: Vnet) {
    out.extend(mac.0);
    out.extend([0, 0]);
    number(out, vnet.number());
}

fn entry(out: &mut Vec<u8>, entry: &LogEntry) {
    match entry {
        LogEntry::Vl2 { id, vnet, mac } => {
            number(out, 1);
            out.extend(id);
            link(out, *mac, *vnet);
        }
        LogEntry::Vl3 { id, vnet, vlan, ip } => {
            number(out, 2);
            out.extend(id);
            address(out, *ip);
            out.extend([0, 0]);
            out.extend(vlan.to_be_bytes());
            number(out, vnet.number());
        }
    }
}
