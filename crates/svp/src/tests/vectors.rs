//! Messages byte by byte, as net-agent.md section 17 has them. The checksums were computed by another program (zlib's).

use crate::*;
use triton_types::Mac;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn vnet(number: u32) -> Vnet {
    Vnet::new(number).unwrap()
}

fn at(ip: &str) -> Underlay {
    Underlay { ip: ip.parse().unwrap(), port: 4789 }
}

const MAC: Mac = Mac([0x90, 0xb8, 0xd0, 1, 2, 3]);
const ID: LogId = [0xde, 0x30, 0x5d, 0x54, 0x75, 0xb4, 0x43, 0x1b, 0xad, 0xb2, 0xeb, 0x6b, 0x9e, 0x54, 0x60, 0x14];

fn all() -> Vec<(Body, &'static str)> {
    let ip = |text: &str| text.parse().unwrap();
    vec![
        (Body::Ping, "0001 0001 00000000 00000007 3af69528"),
        (Body::Pong, "0001 0002 00000000 00000007 873cf9e6"),
        (Body::Vl2Request { vnet: vnet(0x1234), mac: MAC }, "0001 0003 0000000c 00000007 27f8b42b 90b8d0010203 0000 00001234"),
        (
            Body::Vl2Ack { status: Status::Ok, at: at("10.99.99.7") },
            "0001 0004 00000014 00000007 e68b1a4f 0000 12b5 00000000000000000000ffff 0a636307",
        ),
        (
            Body::Vl3Request { vnet: vnet(0x1234), ip: ip("192.168.128.3") },
            "0001 0005 00000018 00000007 ac5a8396 00000000000000000000ffff c0a88003 00000001 00001234",
        ),
        (
            Body::Vl3Request { vnet: vnet(0xff_ffff), ip: ip("fd00::5") },
            "0001 0005 00000018 00000007 ee91850d fd000000000000000000000000000005 00000002 00ffffff",
        ),
        (
            Body::Vl3Ack { status: Status::NotFound, mac: MAC, at: at("10.99.99.7") },
            "0001 0006 0000001c 00000007 7e464fcf 00000002 90b8d0010203 12b5 00000000000000000000ffff 0a636307",
        ),
        (Body::BulkRequest { kind: 2 }, "0001 0007 00000004 00000007 b27301ed 00000002"),
        (Body::BulkAck { status: Status::BadBulk, kind: 2, data: vec![0xab] }, "0001 0008 00000009 00000007 a4c4a571 00000004 00000002 ab"),
        (
            Body::LogRequest { most: 0x4000, ip: ip("10.99.99.7") },
            "0001 0009 00000014 00000007 817c83b1 00004000 00000000000000000000ffff 0a636307",
        ),
        (
            Body::LogAck {
                status: Status::Ok,
                entries: vec![
                    LogEntry::Vl2 { id: ID, vnet: vnet(5), mac: MAC },
                    LogEntry::Vl3 { id: ID, vnet: vnet(6), vlan: 20, ip: ip("192.168.128.3") },
                ],
            },
            "0001 000a 00000050 00000007 10c8c8fb 00000000
             00000001 de305d5475b4431badb2eb6b9e546014 90b8d0010203 0000 00000005
             00000002 de305d5475b4431badb2eb6b9e546014 00000000000000000000ffffc0a88003 0000 0014 00000006",
        ),
        (Body::LogRemove { ids: vec![ID] }, "0001 000b 00000014 00000007 7ea4ec27 00000001 de305d5475b4431badb2eb6b9e546014"),
        (Body::LogRemoveAck { status: Status::Fatal }, "0001 000c 00000004 00000007 9ef0444d 00000001"),
        (Body::Shootdown { vnet: vnet(9), mac: MAC }, "0001 000d 0000000c 00000007 40b477f8 90b8d0010203 0000 00000009"),
    ]
}

#[test]
fn every_message_has_these_bytes() {
    for (body, hex) in all() {
        let wanted = bytes(hex);
        let message = Message { id: 7, body };
        assert_eq!(encode(&message).unwrap(), wanted, "{message:?}");
        assert_eq!(decode(&wanted).unwrap(), Some((message, wanted.len())));
    }
}

#[test]
fn a_message_that_is_cut_short_is_waited_for() {
    for (_, hex) in all() {
        let whole = bytes(hex);
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), Ok(None));
        }
    }
}

/// A body with a header that is right about it.
fn framed(version: u16, operation: u16, body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    all.extend(version.to_be_bytes());
    all.extend(operation.to_be_bytes());
    all.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    all.extend([0; 8]);
    all.extend(body);
    let sum = crc32fast::hash(&all);
    all[12..16].copy_from_slice(&sum.to_be_bytes());
    all
}

#[test]
fn what_is_no_message_says_why() {
    let sizes = [(1, 1), (3, 11), (3, 13), (4, 19), (5, 15), (6, 27), (7, 3), (8, 7), (9, 19), (10, 3), (11, 3), (12, 5), (13, 4)];
    for (operation, size) in sizes {
        assert_eq!(decode(&framed(1, operation, &vec![0; size])), Err(SvpError::Size { operation, size }));
    }
    assert_eq!(decode(&framed(2, 1, &[])), Err(SvpError::Version(2)));
    assert_eq!(decode(&framed(1, 14, &[])), Err(SvpError::Operation(14)));
    assert_eq!(decode(&framed(1, 0, &[])), Err(SvpError::Operation(0)));
    let mut wrong = framed(1, 1, &[]);
    wrong[11] ^= 1;
    assert!(matches!(decode(&wrong), Err(SvpError::Checksum { .. })));
    let mut long = framed(1, 1, &[]);
    long[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(decode(&long), Err(SvpError::TooLong(u32::MAX as usize)), "before anything of it is waited for");
}

#[test]
fn numbers_that_decide_on_the_rest_are_looked_at() {
    let mut vl3 = [0; 24];
    vl3[19] = 3;
    assert_eq!(decode(&framed(1, 5, &vl3)), Err(SvpError::Value { field: "type of IP address", value: 3 }));
    vl3[19] = 1;
    assert_eq!(decode(&framed(1, 5, &vl3)), Err(SvpError::Value { field: "type of IP address", value: 1 }), ":: is no IPv4 address");
    let mut vl2 = [0; 12];
    vl2[8] = 1;
    assert_eq!(decode(&framed(1, 3, &vl2)), Err(SvpError::Range { field: "vnet id", value: 1 << 24 }));
    let mut log = [0; 36];
    log[7] = 3;
    assert_eq!(decode(&framed(1, 10, &log)), Err(SvpError::Value { field: "type of log entry", value: 3 }));
    let mut removal = [0; 20];
    removal[3] = 2;
    assert_eq!(decode(&framed(1, 11, &removal)), Err(SvpError::Size { operation: 11, size: 20 }), "one identity, not two");
    assert_eq!(Vnet::new(1 << 24), None);
}

#[test]
fn a_message_that_is_too_long_is_not_made() {
    let ids = vec![ID; MOST / 16];
    assert_eq!(encode(&Message { id: 1, body: Body::LogRemove { ids } }), Err(SvpError::TooLong(MOST + 4)));
}
