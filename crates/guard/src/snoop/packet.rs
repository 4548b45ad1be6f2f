//! Headers of packets. Whatever is cut, a fragment, or not what it says it is, is nothing.

const UDP: u8 = 17;

/// Bytes at a place.
pub(super) fn at<const N: usize>(bytes: &[u8], place: usize) -> Option<[u8; N]> {
    bytes.get(place..place + N)?.try_into().ok()
}

/// A UDP packet: its ports and what it carries.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Udp<'a> {
    pub source: u16,
    pub destination: u16,
    pub payload: &'a [u8],
}

fn udp(segment: &[u8]) -> Option<Udp<'_>> {
    let length = usize::from(u16::from_be_bytes(at(segment, 4)?));
    Some(Udp {
        source: u16::from_be_bytes(at(segment, 0)?),
        destination: u16::from_be_bytes(at(segment, 2)?),
        payload: segment.get(8..length.min(segment.len()))?,
    })
}

/// The UDP packet in a whole IPv4 packet.
pub(super) fn udp4(packet: &[u8]) -> Option<Udp<'_>> {
    let [first] = at(packet, 0)?;
    let fragment = u16::from_be_bytes(at(packet, 6)?) & 0x3fff;
    (first >> 4 == 4 && at::<1>(packet, 9)? == [UDP] && fragment == 0).then_some(())?;
    udp(packet.get(usize::from(first & 0xf).max(5) * 4..)?)
}

/// Next header, source address, hop limit and what an IPv6 packet carries, if nothing stands in between.
pub(super) fn ipv6(packet: &[u8]) -> Option<(u8, [u8; 16], u8, &[u8])> {
    let ([first], [next], [hops]) = (at(packet, 0)?, at(packet, 6)?, at(packet, 7)?);
    let length = usize::from(u16::from_be_bytes(at(packet, 4)?));
    let payload = packet.get(40..packet.len().min(40 + length))?;
    (first >> 4 == 6).then_some((next, at(packet, 8)?, hops, payload))
}

/// The UDP packet in an IPv6 packet without further headers.
pub(super) fn udp6(packet: &[u8]) -> Option<Udp<'_>> {
    let (next, _, _, payload) = ipv6(packet)?;
    if next == UDP { udp(payload) } else { None }
}
