//! The first record of a send stream: tells a single stream from a package before anything is changed.

/// Bytes of the first record (`dmu_replay_record`).
pub(crate) const HEADER: usize = 312;

/// `DMU_BACKUP_MAGIC`.
const MAGIC: u64 = 0x2_F5BA_CBAC;

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// One snapshot.
    Single,
    /// A package made by `zfs send` with `-R`, `-I` or `-p`: any number of streams with properties.
    Package,
}

/// The begin record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// What follows.
    pub kind: StreamKind,
    /// Guid of the snapshot in a single stream.
    pub to_guid: u64,
    /// Guid of the snapshot that an incremental stream starts from; 0 for a full stream.
    pub from_guid: u64,
    /// Name of the snapshot where it was sent. Untrusted.
    pub to_name: String,
}

impl StreamHeader {
    /// Reads the first 312 bytes of a stream; `None` when they are no begin record. Both byte orders are known.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
        let raw: [u8; 8] = word(8)?;
        let number: fn([u8; 8]) -> u64 = if u64::from_le_bytes(raw) == MAGIC {
            u64::from_le_bytes
        } else if u64::from_be_bytes(raw) == MAGIC {
            u64::from_be_bytes
        } else {
            return None;
        };
        // The record's type, a 32-bit number, is DRR_BEGIN = 0 in either byte order.
        if bytes.get(..4)? != [0; 4] {
            return None;
        }
        let kind = match number(word(16)?) & 3 {
            1 => StreamKind::Single,
            2 => StreamKind::Package,
            _ => return None,
        };
        let name = bytes.get(56..HEADER)?;
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        Some(Self {
            kind,
            to_guid: number(word(40)?),
            from_guid: number(word(48)?),
            to_name: String::from_utf8_lossy(&name[..end]).into_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u64, number: fn(u64) -> [u8; 8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[8..16].copy_from_slice(&number(MAGIC));
        bytes[16..24].copy_from_slice(&number(kind | 4 << 2));
        bytes[40..48].copy_from_slice(&number(77));
        bytes[56..64].copy_from_slice(b"zones/a@");
        bytes[64..69].copy_from_slice(b"final");
        bytes
    }

    #[test]
    fn single_streams_and_packages_are_told_apart_in_both_byte_orders() {
        for number in [u64::to_le_bytes, u64::to_be_bytes] {
            let header = StreamHeader::parse(&record(1, number)).unwrap();
            assert_eq!((header.kind, header.to_guid, header.from_guid), (StreamKind::Single, 77, 0));
            assert_eq!(header.to_name, "zones/a@final");
            assert_eq!(StreamHeader::parse(&record(2, number)).unwrap().kind, StreamKind::Package);
        }
    }

    #[test]
    fn other_bytes_are_no_stream() {
        let good = record(1, u64::to_le_bytes);
        assert!(StreamHeader::parse(&good[..HEADER - 1]).is_none());
        assert!(StreamHeader::parse(&record(3, u64::to_le_bytes)).is_none());
        let mut other = good.clone();
        other[0] = 5;
        assert!(StreamHeader::parse(&other).is_none());
        assert!(StreamHeader::parse(b"ustar").is_none());
        assert!(StreamHeader::parse(&[]).is_none());
    }
}
