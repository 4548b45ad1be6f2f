//! Base64: canonical on the way out, lenient on the way in, as Node's `Buffer` is (metadata.md section 2.4).

use base64::{Engine, engine::general_purpose::STANDARD};

/// Canonical, padded.
pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Whatever of `text` is base64, in either alphabet; the rest is skipped, padding is not needed.
pub(crate) fn decode(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0_u32, 0);
    for &byte in text {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => continue,
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

/// [`decode`] as text.
pub(crate) fn decode_text(text: &str) -> String {
    String::from_utf8_lossy(&decode(text.as_bytes())).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_not_base64_is_skipped() {
        for text in ["c2RjOmFsaWFz", "c2Rj OmFs\taWFz", "c2RjOmFsaWFz====", "=c2RjOm!FsaWFz"] {
            assert_eq!(decode_text(text), "sdc:alias", "{text}");
        }
        assert_eq!(decode(b"-_-_"), decode(b"+/+/"));
        assert_eq!(decode(b"YQ"), b"a");
        assert_eq!((decode(b"!!!!"), decode(b"Y"), decode(b"=")), (vec![], vec![], vec![]));
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(decode(encode(&bytes).as_bytes()), bytes);
        }
    }
}
