//! The two checksums (firewaller.md section 3.2).

/// Version 1: CRC-16/XMODEM with one step for each UTF-16 unit of the text, of which only the low eight bits count. It is not the
/// checksum of the bytes as soon as there is a character outside of ASCII.
pub fn legacy(text: &str) -> u16 {
    text.encode_utf16().fold(0, |crc, unit| {
        let low = unit & 0xff;
        (0..8).fold(crc ^ (low << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    })
}

/// Version 2: CRC-16/ARC of the bytes.
pub fn arc(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |crc, byte| (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xa001 }))
}
