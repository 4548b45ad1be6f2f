//! Frames with the checksums that connection tracking looks at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use triton_fwrule::Flow;

/// The address of a NIC.
pub type Mac = [u8; 6];

/// A frame of this kind.
pub fn ethernet(source: Mac, destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &kind.to_be_bytes(), payload].concat()
}

/// An ARP probe with a number in it.
pub fn arp(source: Mac, number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &source, &[0; 4], &[0; 6], &[203, 0, high, low]].concat();
    ethernet(source, [0xff; 6], 0x0806, &body)
}

/// An ARP request with a number in it, where nobody looks.
pub fn arp_request(from: (Mac, IpAddr), to: IpAddr, number: u16) -> Vec<u8> {
    let (IpAddr::V4(one), IpAddr::V4(other)) = (from.1, to) else { panic!("ARP is of IPv4") };
    let target = [&[0; 4][..], &number.to_be_bytes()].concat();
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &from.0, &one.octets(), &target, &other.octets()].concat();
    ethernet(from.0, [0xff; 6], 0x0806, &body)
}

fn sum(parts: &[&[u8]]) -> u16 {
    let mut total: u32 = 0;
    for pair in parts.concat().chunks(2) {
        total += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]));
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !u16::try_from(total).unwrap()
}

/// The flows that are tried, of both families where that can be.
pub const FLOWS: [Flow; 16] = [
    Flow::Tcp(22),
    Flow::Tcp(80),
    Flow::Tcp(443),
    Flow::Tcp(501),
    Flow::Udp(22),
    Flow::Udp(24),
    Flow::Udp(80),
    Flow::Udp(9999),
    Flow::Icmp(8, 0),
    Flow::Icmp(8, 1),
    Flow::Icmp(13, 0),
    Flow::Icmp6(128, 0),
    Flow::Icmp6(128, 1),
    Flow::Ah,
    Flow::Esp,
    Flow::Other(47),
];

/// What a TCP segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// The first one.
    Syn,
    /// Its answer.
    SynAck,
}

/// A packet of this flow; `source` is the source port, or the identifier of an echo. An answer of UDP has the two ports the other way round.
pub fn packet(from: (Mac, IpAddr), to: (Mac, IpAddr), flow: Flow, source: u16, segment: Segment) -> Vec<u8> {
    let (number, mut payload, at) = match flow {
        Flow::Tcp(port) => {
            let (flags, acknowledges) = if segment == Segment::Syn { (2, 0_u32) } else { (0x12, 1) };
            let numbers = [0_u32.to_be_bytes(), acknowledges.to_be_bytes()].concat();
            let body = [&source.to_be_bytes()[..], &port.to_be_bytes(), &numbers, &[0x50, flags, 0x20, 0, 0, 0, 0, 0]].concat();
            (6, body, 16)
        }
        Flow::Udp(port) => (17, [&source.to_be_bytes()[..], &port.to_be_bytes(), &[0, 13, 0, 0], b"hello"].concat(), 6),
        Flow::Icmp(kind, code) | Flow::Icmp6(kind, code) => {
            let body = [&[kind, code, 0, 0][..], &source.to_be_bytes(), &[0, 1], &[0; 24]].concat();
            (if from.1.is_ipv4() { 1 } else { 58 }, body, 2)
        }
        Flow::Esp => (50, [&[0, 0][..], &source.to_be_bytes(), &[0; 12]].concat(), usize::MAX),
        Flow::Ah => (51, [&[59, 1, 0, 0, 0, 0][..], &source.to_be_bytes(), &[0; 4]].concat(), usize::MAX),
        Flow::Other(number) => (number, [&source.to_be_bytes()[..], &[0; 10]].concat(), usize::MAX),
    };
    let length = u16::try_from(payload.len()).unwrap();
    match (from.1, to.1) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let pseudo = [&one.octets()[..], &other.octets(), &[0, number], &length.to_be_bytes()].concat();
            checked(&mut payload, at, if number == 1 { &[] } else { &pseudo });
            ethernet(from.0, to.0, 0x0800, &[ipv4_header(one, other, number, length).as_slice(), &payload].concat())
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let pseudo = [&one.octets()[..], &other.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, number]].concat();
            checked(&mut payload, at, &pseudo);
            ethernet(from.0, to.0, 0x86dd, &[ipv6_header(one, other, number, length).as_slice(), &payload].concat())
        }
        _ => panic!("two families"),
    }
}

/// A UDP datagram of 2,000 bytes in two fragments, with this identification, and its payload.
pub fn fragments(from: (Mac, IpAddr), to: (Mac, IpAddr), port: u16, source: u16, id: u16) -> ([Vec<u8>; 2], Vec<u8>) {
    const FIRST: usize = 1400;
    let body: Vec<u8> = [&source.to_be_bytes()[..], &port.to_be_bytes(), &2008_u16.to_be_bytes(), &[0, 0]].concat();
    let mut payload = [body, (0..2000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect()].concat();
    let length = u16::try_from(payload.len()).unwrap();
    let cut = |payload: &[u8]| [payload[..FIRST].to_vec(), payload[FIRST..].to_vec()];
    match (from.1, to.1) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            let pseudo = [&one.octets()[..], &other.octets(), &[0, 17], &length.to_be_bytes()].concat();
            checked(&mut payload, 6, &pseudo);
            let part = |at: usize, body: &[u8]| {
                let more = if at == 0 { 0x2000 } else { 0 };
                let offset = (more | u16::try_from(at / 8).unwrap()).to_be_bytes();
                let total = (20 + u16::try_from(body.len()).unwrap()).to_be_bytes();
                let fixed = [&[0x45, 0][..], &total, &id.to_be_bytes(), &offset, &[64, 17, 0, 0], &one.octets(), &other.octets()];
                let mut header = fixed.concat();
                let checksum = sum(&[&header]).to_be_bytes();
                header[10..12].copy_from_slice(&checksum);
                ethernet(from.0, to.0, 0x0800, &[header.as_slice(), body].concat())
            };
            let [first, second] = cut(&payload);
            ([part(0, &first), part(FIRST, &second)], payload)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => {
            let pseudo = [&one.octets()[..], &other.octets(), &u32::from(length).to_be_bytes(), &[0, 0, 0, 17]].concat();
            checked(&mut payload, 6, &pseudo);
            let part = |at: usize, body: &[u8]| {
                let offset = (u16::try_from(at).unwrap() | u16::from(at == 0)).to_be_bytes();
                let extension = [&[17, 0][..], &offset, &u32::from(id).to_be_bytes()].concat();
                let header = ipv6_header(one, other, 44, u16::try_from(8 + body.len()).unwrap());
                ethernet(from.0, to.0, 0x86dd, &[header.as_slice(), &extension, body].concat())
            };
            let [first, second] = cut(&payload);
            ([part(0, &first), part(FIRST, &second)], payload)
        }
        _ => panic!("two families"),
    }
}

/// The payload of the fragments with this identification, put together; empty when none is there. Who puts IPv6 fragments together
/// on the way and cuts them again gives them another identification: all of them count.
pub fn reassembled(frames: &[Vec<u8>], id: u16) -> Vec<u8> {
    let mut parts: Vec<(u16, Vec<u8>)> = Vec::new();
    for frame in frames {
        let (kind, packet) = (&frame[12..14], &frame[14..]);
        let number = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        if kind == [8, 0] && number(4) == id && packet[9] == 17 {
            parts.push(((number(6) & 0x1fff) * 8, packet[20..usize::from(number(2))].to_vec()));
        } else if kind == [0x86, 0xdd] && packet[6] == 44 {
            parts.push((number(42) & !7, packet[48..40 + usize::from(number(4))].to_vec()));
        }
    }
    parts.sort();
    parts.into_iter().flat_map(|(_, part)| part).collect()
}

fn checked(payload: &mut [u8], at: usize, pseudo: &[u8]) {
    if at < payload.len() {
        let checksum = sum(&[pseudo, payload]).to_be_bytes();
        payload[at..at + 2].copy_from_slice(&checksum);
    }
}

fn ipv4_header(from: Ipv4Addr, to: Ipv4Addr, number: u8, length: u16) -> Vec<u8> {
    let total = (20 + length).to_be_bytes();
    let mut header = [&[0x45, 0][..], &total, &[0, 1, 0, 0, 64, number, 0, 0], &from.octets(), &to.octets()].concat();
    let checksum = sum(&[&header]).to_be_bytes();
    header[10..12].copy_from_slice(&checksum);
    header
}

fn ipv6_header(from: Ipv6Addr, to: Ipv6Addr, number: u8, length: u16) -> Vec<u8> {
    [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[number, 64], &from.octets(), &to.octets()].concat()
}
