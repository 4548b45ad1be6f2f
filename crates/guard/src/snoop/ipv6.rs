//! Router advertisements (RFC 4862) and DHCP of IPv6 (RFC 8415).

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Instant,
};

use super::{
    Heard, Lesson, Snoop, Transaction, lesson,
    packet::{Udp, at, ipv6, udp6},
};
use crate::{Protection, link_local};

const ICMP: u8 = 58;
const ADVERTISEMENT: u8 = 134;
/// Options of router advertisements.
const PREFIX: u8 = 3;
const AUTONOMOUS: u8 = 0x40;
const SERVER: u16 = 547;
/// Kinds of messages.
mod kind {
    pub(super) const SOLICIT: u8 = 1;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const CONFIRM: u8 = 4;
    pub(super) const RENEW: u8 = 5;
    pub(super) const REBIND: u8 = 6;
    pub(super) const REPLY: u8 = 7;
    pub(super) const RELEASE: u8 = 8;
    pub(super) const DECLINE: u8 = 9;
}
/// Options of DHCP.
mod option {
    pub(super) const CLIENT: u16 = 1;
    pub(super) const ADDRESSES: u16 = 3;
    pub(super) const ADDRESS: u16 = 5;
}

pub(super) fn hear(snoop: &mut Snoop, nic: &Protection, heard: Heard, packet: &[u8], now: Instant) -> Option<Vec<Lesson>> {
    match ipv6(packet)? {
        (ICMP, source, 255, message) if heard == Heard::Told && source[..2] == [0xfe, 0x80] => advertisement(nic, message),
        _ => dhcp(snoop, nic, heard, &udp6(packet)?, now),
    }
}

/// The addresses that a NIC makes by itself from the prefixes that a router announces.
fn advertisement(nic: &Protection, message: &[u8]) -> Option<Vec<Lesson>> {
    (at(message, 0)? == [ADVERTISEMENT, 0]).then_some(())?;
    let own = link_local(nic.mac).octets();
    let mut options = message.get(16..)?;
    let mut lessons = Vec::new();
    while let Some(&[kind, length]) = options.get(..2) {
        let option = options.get(..usize::from(length) * 8).filter(|option| !option.is_empty())?;
        if kind == PREFIX && length == 4 && option[2] == 64 && option[3] & AUTONOMOUS != 0 {
            let mut address = at::<16>(option, 16)?;
            address[8..].copy_from_slice(&own[8..]);
            lessons.extend(lesson(IpAddr::V6(Ipv6Addr::from(address)), u32::from_be_bytes(at(option, 4)?)));
        }
        options = options.get(option.len()..)?;
    }
    Some(lessons)
}

/// The options of a list, up to what is cut.
fn options(mut list: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, length) = (u16::from_be_bytes(at(list, 0)?), usize::from(u16::from_be_bytes(at(list, 2)?)));
        let value = list.get(4..4 + length)?;
        list = list.get(4 + length..)?;
        Some((kind, value))
    })
}

/// The client may be given addresses under the identifier that it uses: one that holds its MAC address, or one that is listed.
fn is_allowed(nic: &Protection, list: &[u8]) -> bool {
    let Some((_, id)) = options(list).find(|(kind, _)| *kind == option::CLIENT) else { return true };
    // Made of a link-layer address, with a time before it (1) or without (3).
    let own = matches!(id, [0, 1 | 3, ..]) && id.ends_with(&nic.mac.0);
    nic.client_ids.is_empty() || own || nic.client_ids.contains(id)
}

/// Addresses in a message, with the seconds for which they are valid.
fn addresses(list: &[u8]) -> impl Iterator<Item = (IpAddr, u32)> {
    let associations = options(list).filter(|(kind, _)| *kind == option::ADDRESSES).filter_map(|(_, value)| value.get(12..));
    let of = associations.flat_map(options).filter(|(kind, _)| *kind == option::ADDRESS);
    of.filter_map(|(_, value)| Some((IpAddr::V6(Ipv6Addr::from(at::<16>(value, 0)?)), u32::from_be_bytes(at(value, 20)?))))
}

fn dhcp(snoop: &mut Snoop, nic: &Protection, heard: Heard, udp: &Udp<'_>, now: Instant) -> Option<Vec<Lesson>> {
    let [kind] = at(udp.payload, 0)?;
    let transaction = Transaction::Six(at(udp.payload, 1)?);
    let list = udp.payload.get(4..)?;
    let lessons = match (heard, kind) {
        (Heard::Asked, kind::SOLICIT | kind::REQUEST | kind::CONFIRM | kind::RENEW | kind::REBIND) => {
            if udp.destination == SERVER && is_allowed(nic, list) {
                snoop.ask(&nic.link, transaction, now);
            }
            Vec::new()
        }
        (Heard::Asked, kind::RELEASE | kind::DECLINE) => addresses(list).map(|(address, _)| Lesson::Unlearn(address)).collect(),
        (Heard::Told, kind::REPLY) if udp.source == SERVER && snoop.asked(&nic.link, transaction) => {
            addresses(list).filter_map(|(address, seconds)| lesson(address, seconds)).collect()
        }
        _ => Vec::new(),
    };
    Some(lessons)
}
