//! DHCP of IPv4 (RFC 2131).

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use super::{
    Heard, Lesson, Snoop, Transaction, lesson,
    packet::{at, udp4},
};
use crate::Protection;

const SERVER: u16 = 67;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// Kinds of messages (option 53).
mod kind {
    pub(super) const DISCOVER: u8 = 1;
    pub(super) const REQUEST: u8 = 3;
    pub(super) const DECLINE: u8 = 4;
    pub(super) const ACK: u8 = 5;
    pub(super) const RELEASE: u8 = 7;
}
/// Options.
mod option {
    pub(super) const REQUESTED: u8 = 50;
    pub(super) const LEASE: u8 = 51;
    pub(super) const KIND: u8 = 53;
    pub(super) const CLIENT: u8 = 61;
}

/// The first option of this kind.
fn find(mut options: &[u8], wanted: u8) -> Option<&[u8]> {
    loop {
        match *options.first()? {
            0 => options = options.get(1..)?,
            255 => return None,
            kind => {
                let length = usize::from(*options.get(1)?);
                let value = options.get(2..2 + length)?;
                if kind == wanted {
                    return Some(value);
                }
                options = options.get(2 + length..)?;
            }
        }
    }
}

/// The client may be given addresses under the identifier that it uses (ruling 23).
fn is_allowed(nic: &Protection, options: &[u8]) -> bool {
    let Some(id) = find(options, option::CLIENT) else { return true };
    let own = [&[1][..], &nic.mac.0].concat();
    nic.client_ids.is_empty() || id == own || nic.client_ids.contains(id)
}

pub(super) fn hear(snoop: &mut Snoop, nic: &Protection, heard: Heard, packet: &[u8], now: Instant) -> Option<Vec<Lesson>> {
    let udp = udp4(packet)?;
    let message = udp.payload;
    // Of Ethernet, for this NIC.
    let own = at(message, 1)? == [1, 6] && at::<6>(message, 28)? == nic.mac.0 && at(message, 236)? == MAGIC;
    let options = message.get(240..).filter(|_| own)?;
    let transaction = Transaction::Four(at(message, 4)?);
    let [operation] = at(message, 0)?;
    let [kind] = *find(options, option::KIND)? else { return None };
    let lessons = match (heard, operation, kind) {
        (Heard::Asked, 1, kind::DISCOVER | kind::REQUEST) if udp.destination == SERVER && is_allowed(nic, options) => {
            snoop.ask(&nic.link, transaction, now);
            Vec::new()
        }
        // Whoever gives an address back need not wait for anybody.
        (Heard::Asked, 1, kind::RELEASE) => vec![Lesson::Unlearn(IpAddr::V4(Ipv4Addr::from(at::<4>(message, 12)?)))],
        (Heard::Asked, 1, kind::DECLINE) => {
            let declined: [u8; 4] = find(options, option::REQUESTED)?.try_into().ok()?;
            vec![Lesson::Unlearn(IpAddr::V4(Ipv4Addr::from(declined)))]
        }
        (Heard::Told, 2, kind::ACK) if udp.source == SERVER && snoop.asked(&nic.link, transaction) => {
            let seconds: [u8; 4] = find(options, option::LEASE)?.try_into().ok()?;
            lesson(IpAddr::V4(Ipv4Addr::from(at::<4>(message, 16)?)), u32::from_be_bytes(seconds)).into_iter().collect()
        }
        _ => Vec::new(),
    };
    Some(lessons)
}
