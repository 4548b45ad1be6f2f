//! Cases F1, F2, F7, F9, F11, F12 of firewaller.md section 15.4, and what holds for all bytes.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use crate::{DecodeError, Decoder, Frame, MAX_PAYLOAD, Status, arc, legacy};

const UTS: u64 = 1_735_689_600_000_000;

fn ping(id: u32) -> Frame {
    Frame { id, status: Status::Data, method: "ping".to_owned(), data: json!([{}]) }
}

fn all(bytes: &[u8]) -> Result<Vec<Frame>, DecodeError> {
    let mut decoder = Decoder::default();
    decoder.feed(bytes);
    std::iter::from_fn(|| decoder.next_frame().transpose()).collect()
}

/// A frame with a right checksum of version 1 over any payload.
fn raw(header: [u8; 3], id: u32, payload: &str) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.extend(id.to_be_bytes());
    bytes.extend(u32::from(legacy(payload)).to_be_bytes());
    bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend(payload.as_bytes());
    bytes
}

#[test]
fn firewaller_case_f1_a_ping_has_these_bytes() {
    let bytes = ping(1).encode(UTS).unwrap();
    let header: String = bytes[..15].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!((header.as_str(), bytes.len()), ("0101010000000100001d8000000035", 68));
    assert_eq!(&bytes[15..], br#"{"m":{"uts":1735689600000000,"name":"ping"},"d":[{}]}"#);
    assert_eq!(all(&bytes), Ok(vec![ping(1)]));
}

#[test]
fn firewaller_case_f2_the_answer_to_a_ping_is_an_end_with_nothing() {
    let answer = Frame { id: 1, status: Status::End, method: "ping".to_owned(), data: json!([]) };
    let bytes = answer.encode(UTS).unwrap();
    assert_eq!((bytes[0], bytes[2], bytes.len() - 15), (1, 2, 51), "51 bytes with a time of 16 digits");
    assert_eq!(all(&bytes), Ok(vec![answer]));
}

/// firewaller cases F7 and F12
#[test]
fn firewaller_case_f7_the_checksum_is_of_characters_not_of_bytes() {
    assert_eq!((legacy("123456789"), arc(b"123456789")), (0x31c3, 0xbb3d));
    for (text, version_1, bytewise, version_2) in [
        ("", 0, 0, 0),
        (r#"{"tag":"é"}"#, 0x0e50, 0x943b, 0xc46e),
        (r#"{"tag":"日本"}"#, 0x5446, 0x3913, 0xaa0d),
        (r#"{"tag":"😀"}"#, 0x8a21, 0x84d7, 0x5d8c),
    ] {
        let latin: String = text.bytes().map(char::from).collect();
        assert_eq!((legacy(text), legacy(&latin), arc(text.as_bytes())), (version_1, bytewise, version_2), "{text}");
    }
    let frame = Frame { data: json!([{"tag": "日本 é 😀"}]), ..ping(7) };
    let bytes = frame.encode(UTS).unwrap();
    assert_eq!(bytes[0], 1, "never version 2");
    assert_eq!(all(&bytes), Ok(vec![frame]));
}

#[test]
fn firewaller_case_f9_frames_may_be_cut_anywhere_and_come_together() {
    let frames: Vec<_> = (0..100).map(|id| Frame { data: json!([{"id": id, "tag": "é"}]), ..ping(id) }).collect();
    let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode(UTS).unwrap()).collect();
    assert_eq!(all(&bytes).unwrap(), frames);
    let (mut decoder, mut read) = (Decoder::default(), Vec::new());
    for byte in bytes {
        decoder.feed(&[byte]);
        read.extend(decoder.next_frame().unwrap());
    }
    assert_eq!(read, frames);
    assert!(!decoder.is_midway());
}

#[test]
fn firewaller_case_f11_what_is_no_frame_ends_the_stream() {
    let good = r#"{"m":{"name":"messages"},"d":[{}]}"#;
    let mut damaged = raw([1, 1, 1], 1, good);
    damaged[20] ^= 0x20;
    assert!(matches!(all(&damaged), Err(DecodeError::Checksum { .. })));
    for (header, id, payload, error) in [
        ([9, 1, 1], 1, good, DecodeError::Version(9)),
        ([1, 2, 1], 1, good, DecodeError::Type(2)),
        ([1, 1, 4], 1, good, DecodeError::Status(4)),
        ([1, 1, 1], 1 << 31, good, DecodeError::Id(1 << 31)),
        ([1, 1, 1], 1, r#"{"m":{"name":"messages"},"d":{}}"#, DecodeError::Payload("has data of another form")),
        ([1, 1, 1], 1, r#"{"m":{"name":"messages"},"d":[null]}"#, DecodeError::Payload("has data of another form")),
        ([1, 1, 3], 1, r#"{"m":{"name":"messages"},"d":[]}"#, DecodeError::Payload("has data of another form")),
        ([1, 1, 1], 1, r#"{"m":{"name":""},"d":[]}"#, DecodeError::Payload("names no method")),
        ([1, 1, 1], 1, "{", DecodeError::Payload("is no JSON")),
    ] {
        assert_eq!(all(&raw(header, id, payload)), Err(error));
    }
    let mut decoder = Decoder::default();
    decoder.feed(&[0xff; 64]);
    assert_eq!(decoder.next_frame(), Err(DecodeError::Version(0xff)));
    decoder.feed(&ping(1).encode(UTS).unwrap());
    assert_eq!(decoder.next_frame(), Err(DecodeError::Version(0xff)), "nothing after it is trusted");
}

#[test]
fn a_newer_service_may_answer_in_version_2() {
    let payload = r#"{"m":{"name":"messages"},"d":[{"tag":"é"}]}"#;
    let mut bytes = raw([2, 1, 2], 3, payload);
    bytes[7..11].copy_from_slice(&u32::from(arc(payload.as_bytes())).to_be_bytes());
    assert_eq!(all(&bytes).unwrap()[0].status, Status::End);
}

#[test]
fn a_frame_beyond_the_limit_is_refused_before_it_is_collected() {
    let mut header = raw([1, 1, 1], 1, "");
    header[11..15].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(all(&header), Err(DecodeError::Length(u32::MAX)));
    let large = Frame { data: json!(["x".repeat(MAX_PAYLOAD)]), ..ping(1) };
    assert!(large.encode(UTS).is_err() && Frame { id: 1 << 31, ..ping(1) }.encode(UTS).is_err());
}

fn values() -> impl Strategy<Value = Value> {
    prop_oneof![any::<i64>().prop_map(Value::from), "\\PC{0,12}".prop_map(Value::from), Just(json!({"a": [true]}))]
}

proptest! {
    #[test]
    fn what_is_written_is_read_whole_wherever_it_is_cut(
        id in 0u32..1 << 31, name in "\\PC{1,8}", data in vec(values(), 0..4), cut in any::<prop::sample::Index>(),
    ) {
        let frame = Frame { id, status: Status::Data, method: name, data: Value::Array(data) };
        let bytes = frame.encode(UTS).unwrap();
        let (first, second) = bytes.split_at(cut.index(bytes.len()));
        let mut decoder = Decoder::default();
        decoder.feed(first);
        prop_assert_eq!(decoder.next_frame(), Ok(None));
        decoder.feed(second);
        prop_assert_eq!(decoder.next_frame(), Ok(Some(frame)));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in vec(any::<u8>(), 0..200), version in 0u8..3, status in 0u8..5) {
        let _ = all(&bytes);
        let mut framed = vec![version, 1, status, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()];
        framed.extend(&bytes);
        let _ = all(&framed);
    }
}
