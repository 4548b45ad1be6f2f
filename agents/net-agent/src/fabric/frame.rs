//! Frames that a network's bridge knew no port for: what they ask, and the answers (ARP, and neighbour discovery of IPv6).
//!
//! Pure, and total: guests send what they like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use triton_types::Mac;

const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 2] = [0x81, 0x00];
/// Ethernet, IPv4, lengths of both addresses, request.
const ARP_REQUEST: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Every node on a link listens to it.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// A guest that wants to know whose an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    /// Its MAC address.
    pub mac: Mac,
    /// Its own IP address, of the same family; none while it looks whether somebody has the one that it wants.
    pub ip: Option<IpAddr>,
    /// Its VLAN; 0: untagged.
    pub vlan: u16,
}

/// What a frame asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Where is this address, which the frame is for?
    Where {
        /// The address.
        mac: Mac,
        /// The frame's VLAN; 0: untagged.
        vlan: u16,
    },
    /// Whose is this address?
    Whose {
        /// The address.
        ip: IpAddr,
        /// Who asks.
        asker: Asker,
    },
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What the frame asks, if anything that can be answered.
pub(crate) fn question(frame: &[u8]) -> Option<Question> {
    let (to, from) = (Mac(array(frame, 0)?), Mac(array(frame, 6)?));
    let (mut kind, mut rest, mut vlan) = (array::<2>(frame, 12)?, frame.get(14..)?, 0);
    if kind == VLAN {
        vlan = u16::from_be_bytes(array(frame, 14)?) & 0x0fff;
        (kind, rest) = (array(frame, 16)?, frame.get(18..)?);
    }
    if is_group(from) || from.0 == [0; 6] {
        return None;
    }
    if !is_group(to) {
        return Some(Question::Where { mac: to, vlan });
    }
    let (ip, own) = match kind {
        ARP => arp_request(rest)?,
        IPV6 => solicitation(rest)?,
        _ => return None,
    };
    Some(Question::Whose { ip, asker: Asker { mac: from, ip: own, vlan } })
}

/// Whether an address is that of several: multicast or broadcast.
pub(crate) fn is_group(mac: Mac) -> bool {
    mac.0[0] & 1 == 1
}

fn arp_request(packet: &[u8]) -> Option<(IpAddr, Option<IpAddr>)> {
    if array::<8>(packet, 0)? != ARP_REQUEST {
        return None;
    }
    let (sender, target) = (Ipv4Addr::from(array::<4>(packet, 14)?), Ipv4Addr::from(array::<4>(packet, 24)?));
    let nobody_s = target.is_unspecified() || target.is_broadcast() || target.is_multicast() || target.is_loopback();
    // Who asks for itself only tells others.
    if nobody_s || sender == target {
        return None;
    }
    Some((target.into(), (!sender.is_unspecified()).then_some(sender.into())))
}

fn solicitation(packet: &[u8]) -> Option<(IpAddr, Option<IpAddr>)> {
    let header = array::<40>(packet, 0)?;
    let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let message = packet.get(40..40 + length)?;
    // Only from this link (RFC 4861): routers lower the hop limit.
    if header[0] >> 4 != 6 || header[6] != ICMPV6 || header[7] != 255 || array::<2>(message, 0)? != [SOLICITATION, 0] {
        return None;
    }
    let source = Ipv6Addr::from(array::<16>(packet, 8)?);
    let target = Ipv6Addr::from(array::<16>(message, 8)?);
    if target.is_multicast() || target.is_unspecified() || target.is_loopback() || source.is_multicast() || source == target {
        return None;
    }
    Some((target.into(), (!source.is_unspecified()).then_some(source.into())))
}

/// The MAC address that a link-local address was made of, if it was (EUI-64): the only ones that guests may use (net-agent case 66).
/// NAPI does not know them.
pub(crate) fn embedded_mac(ip: IpAddr) -> Option<Mac> {
    let IpAddr::V6(ip) = ip else { return None };
    match ip.octets() {
        [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, 0xff, 0xfe, d, e, f] => Some(Mac([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

/// The frame that tells `asker` that `ip` is at `mac`.
pub(crate) fn answer(asker: &Asker, ip: IpAddr, mac: Mac) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => {
            let own = match asker.ip {
                Some(IpAddr::V4(own)) => own,
                _ => Ipv4Addr::UNSPECIFIED,
            };
            let mut frame = ethernet(asker.mac, mac, asker.vlan, ARP);
            frame.extend([0, 1, 8, 0, 6, 4, 0, 2]);
            frame.extend(mac.0);
            frame.extend(ip.octets());
            frame.extend(asker.mac.0);
            frame.extend(own.octets());
            frame
        }
        IpAddr::V6(ip) => advertisement(asker, ip, mac),
    }
}

fn ethernet(to: Mac, from: Mac, vlan: u16, kind: [u8; 2]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(to.0);
    frame.extend(from.0);
    if vlan != 0 {
        frame.extend(VLAN);
        frame.extend(vlan.to_be_bytes());
    }
    frame.extend(kind);
    frame
}

fn advertisement(asker: &Asker, ip: Ipv6Addr, mac: Mac) -> Vec<u8> {
    // Solicited and overriding; to all when the asker has no address yet, which nobody solicits for (RFC 4861 section 7.2.4).
    let (to_mac, to, flags) = match asker.ip {
        Some(IpAddr::V6(own)) => (asker.mac, own, 0x60),
        _ => (Mac([0x33, 0x33, 0, 0, 0, 1]), ALL_NODES, 0x20),
    };
    let mut message = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
    message.extend(ip.octets());
    // Target link-layer address, one unit of eight bytes.
    message.extend([2, 1]);
    message.extend(mac.0);
    let sum = checksum(ip, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = ethernet(to_mac, mac, asker.vlan, IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(u16::try_from(message.len()).unwrap_or_default().to_be_bytes());
    frame.extend([ICMPV6, 255]);
    frame.extend(ip.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// ICMPv6's checksum, over the addresses too (RFC 4443 section 2.3).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum = u32::from(ICMPV6) + u32::try_from(message.len()).unwrap_or_default();
    for bytes in [&from.octets()[..], &to.octets(), message] {
        for pair in bytes.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
