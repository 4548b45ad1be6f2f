//! Frames, byte by byte.

use std::net::{Ipv4Addr, Ipv6Addr};

use triton_types::Mac;

pub const ALL: Mac = Mac([0xff; 6]);

pub fn ethernet(source: Mac, destination: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&destination.0[..], &source.0, &kind.to_be_bytes(), payload].concat()
}

/// With one 802.1Q tag.
pub fn tagged(source: Mac, tag: u16, vlan: u16, inner: &[u8]) -> Vec<u8> {
    // The inner frame's type follows the tag.
    ethernet(source, ALL, tag, &[&vlan.to_be_bytes()[..], &inner[12..]].concat())
}

pub fn arp(source: Mac, sender: Mac, address: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let body = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &sender.0, &address, &[0; 6], &target].concat();
    ethernet(source, ALL, 0x0806, &body)
}

pub fn ipv4_with(source: Mac, from: &str, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let from: Ipv4Addr = from.parse().unwrap();
    let length = u16::try_from(20 + payload.len()).unwrap();
    let header =
        [&[0x45, 0][..], &length.to_be_bytes(), &[0, 1], &fragment.to_be_bytes(), &[64, protocol, 0, 0], &from.octets(), &[10, 0, 0, 99]]
            .concat();
    ethernet(source, ALL, 0x0800, &[&header[..], payload].concat())
}

pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

pub fn ipv4(source: Mac, from: &str) -> Vec<u8> {
    ipv4_with(source, from, 17, 0, &udp(1000, 1001, b"hello"))
}

pub fn tcp4(source: Mac, from: &str, port: u16) -> Vec<u8> {
    let header = [&1000u16.to_be_bytes()[..], &port.to_be_bytes(), &[0; 8], &[0x50, 2, 0, 0, 0, 0, 0, 0]].concat();
    ipv4_with(source, from, 6, 0, &header)
}

/// A DHCP message of a client with this hardware address.
pub fn dhcp(source: Mac, from: &str, ports: (u16, u16), client: Mac, fragment: u16) -> Vec<u8> {
    let message = [&[1, 1, 6, 0][..], &[0; 24], &client.0, &[0; 10], &[0; 192], &[99, 130, 83, 99, 255]].concat();
    ipv4_with(source, from, 17, fragment, &udp(ports.0, ports.1, &message))
}

pub fn ipv6(source: Mac, from: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let from: Ipv6Addr = from.parse().unwrap();
    let to: Ipv6Addr = "ff02::1".parse().unwrap();
    let length = u16::try_from(payload.len()).unwrap();
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[next, 255], &from.octets(), &to.octets()].concat();
    ethernet(source, ALL, 0x86dd, &[&header[..], payload].concat())
}

/// A neighbour solicitation (135) or advertisement (136), with these options.
pub fn neighbour(source: Mac, from: &str, kind: u8, target: &str, options: &[u8]) -> Vec<u8> {
    ipv6(source, from, 58, &neighbour_message(kind, target, options))
}

pub fn neighbour_message(kind: u8, target: &str, options: &[u8]) -> Vec<u8> {
    let target: Ipv6Addr = target.parse().unwrap();
    [&[kind, 0, 0, 0, 0x20, 0, 0, 0][..], &target.octets(), options].concat()
}

/// A link-layer address option: 1 of the sender, 2 of the target.
pub fn option(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

/// A fragment header before `payload`.
pub fn fragment(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let field = offset << 3 | u16::from(more);
    [&[next, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9], payload].concat()
}
