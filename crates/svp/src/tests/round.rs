//! What goes in comes out, and garbage harms nobody.

use std::net::IpAddr;

use proptest::prelude::*;
use triton_types::Mac;

use crate::*;

fn vnet() -> impl Strategy<Value = Vnet> {
    (0..=Vnet::LAST).prop_map(|number| Vnet::new(number).unwrap())
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn ip() -> impl Strategy<Value = IpAddr> {
    any::<IpAddr>().prop_map(|ip| ip.to_canonical())
}

fn at() -> impl Strategy<Value = Underlay> {
    (ip(), any::<u16>()).prop_map(|(ip, port)| Underlay { ip, port })
}

fn status() -> impl Strategy<Value = Status> {
    (0..=u32::from(u16::MAX)).prop_map(Status::of)
}

fn entry() -> impl Strategy<Value = LogEntry> {
    prop_oneof![
        (any::<LogId>(), vnet(), mac()).prop_map(|(id, vnet, mac)| LogEntry::Vl2 { id, vnet, mac }),
        (any::<LogId>(), vnet(), any::<u16>(), ip()).prop_map(|(id, vnet, vlan, ip)| LogEntry::Vl3 { id, vnet, vlan, ip }),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    prop_oneof![
        Just(Body::Ping),
        Just(Body::Pong),
        (vnet(), mac()).prop_map(|(vnet, mac)| Body::Vl2Request { vnet, mac }),
        (status(), at()).prop_map(|(status, at)| Body::Vl2Ack { status, at }),
        (vnet(), ip()).prop_map(|(vnet, ip)| Body::Vl3Request { vnet, ip }),
        (status(), mac(), at()).prop_map(|(status, mac, at)| Body::Vl3Ack { status, mac, at }),
        any::<u32>().prop_map(|kind| Body::BulkRequest { kind }),
        (status(), any::<u32>(), any::<Vec<u8>>()).prop_map(|(status, kind, data)| Body::BulkAck { status, kind, data }),
        (any::<u32>(), ip()).prop_map(|(most, ip)| Body::LogRequest { most, ip }),
        (status(), prop::collection::vec(entry(), 0..20)).prop_map(|(status, entries)| Body::LogAck { status, entries }),
        prop::collection::vec(any::<LogId>(), 0..20).prop_map(|ids| Body::LogRemove { ids }),
        status().prop_map(|status| Body::LogRemoveAck { status }),
        (vnet(), mac()).prop_map(|(vnet, mac)| Body::Shootdown { vnet, mac }),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    (any::<u32>(), body()).prop_map(|(id, body)| Message { id, body })
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(message in message()) {
        let bytes = encode(&message).unwrap();
        prop_assert_eq!(decode(&bytes).unwrap(), Some((message, bytes.len())));
    }

    /// However the stream is cut.
    #[test]
    fn a_stream_is_cut_into_its_messages(messages in prop::collection::vec(message(), 1..8), cut in 1usize..50) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode(message).unwrap()).collect();
        let (mut decoder, mut found) = (Decoder::default(), Vec::new());
        for part in bytes.chunks(cut) {
            decoder.push(part);
            while let Some(message) = decoder.next_message().unwrap() {
                found.push(message);
            }
        }
        prop_assert_eq!(found, messages);
    }

    /// A checksum finds every single byte that was changed.
    #[test]
    fn a_changed_byte_is_never_another_message(message in message(), place in any::<prop::sample::Index>(), by in 1u8..) {
        let mut bytes = encode(&message).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= by;
        if let Ok(Some((other, _))) = decode(&bytes) {
            prop_assert!(false, "{other:?}");
        }
    }

    #[test]
    fn garbage_is_an_error_or_waited_for(bytes in any::<Vec<u8>>()) {
        let _ = decode(&bytes);
    }

    /// Any body under a header that is right about it: a message that can be written again, or an error.
    #[test]
    fn any_body_is_a_message_or_an_error(operation in 0u16..16, body in prop::collection::vec(prop_oneof![Just(0u8), Just(1), any::<u8>()], 0..120)) {
        let mut bytes = vec![0, 1];
        bytes.extend(operation.to_be_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend([0; 8]);
        bytes.extend(&body);
        let sum = crc32fast::hash(&bytes);
        bytes[12..16].copy_from_slice(&sum.to_be_bytes());
        if let Ok(Some((message, length))) = decode(&bytes) {
            prop_assert_eq!(length, bytes.len());
            let again = encode(&message).unwrap();
            prop_assert_eq!(decode(&again).unwrap().unwrap().0, message);
        }
    }
}
