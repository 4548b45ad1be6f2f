//! A table of partitions as UEFI has it (UEFI specification 2.10, section 5), for two partitions.

use sha2::{Digest, Sha256};

/// The first sector that the table leaves free.
pub const FIRST: u64 = 34;

/// A GUID, as its bytes are on the disk.
pub type Guid = [u8; 16];

/// "Hah!IdontNeedEFI": where GRUB for BIOS is.
const BIOS_BOOT: Guid = *b"Hah!IdontNeedEFI";
/// c12a7328-f81f-11d2-ba4b-00a0c93ec93b: what UEFI boots from.
const EFI_SYSTEM: Guid = [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// The disk's partitions: GRUB for BIOS, from the first free sector to `begin`, and the medium.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// The disk's identity.
    pub disk: Guid,
    /// The first partition's.
    pub bios: Guid,
    /// The second's.
    pub medium: Guid,
    /// Where the second begins, bytes.
    pub begin: u64,
    /// How long it is, bytes.
    pub size: u64,
}

/// A GUID made of a hash: the same for the same.
pub fn guid(key: &str, which: &str) -> Guid {
    let hash = Sha256::digest(format!("{key} {which}"));
    let mut guid = [0; 16];
    guid.copy_from_slice(&hash[..16]);
    // Version 8 (the maker's own), variant 1; the first three fields are little-endian.
    guid[7] = guid[7] & 0x0f | 0x80;
    guid[8] = guid[8] & 0x3f | 0x80;
    guid
}

/// As people write it.
pub fn text(guid: &Guid) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15].map(|at: usize| guid[at]);
    let digits = crate::hex(&order);
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

fn sum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

impl Table {
    /// What is to be written where: sector and bytes. The first sector has the partition that keeps other tools away.
    pub fn parts(&self, sectors: u64) -> Vec<(u64, Vec<u8>)> {
        let entries = self.entries();
        let last = sectors - 1;
        vec![
            (0, protective(last)),
            (1, self.header(1, last, 2, &entries)),
            (2, entries.clone()),
            (last - 32, entries.clone()),
            (last, self.header(last, 1, last - 32, &entries)),
        ]
    }

    fn entries(&self) -> Vec<u8> {
        let mut bytes = vec![0; 128 * 128];
        let begin = self.begin / 512;
        let list = [
            (BIOS_BOOT, self.bios, FIRST, begin - 1, "BIOS boot"),
            (EFI_SYSTEM, self.medium, begin, begin + self.size / 512 - 1, "JOYENT_DEBIAN_LIVE"),
        ];
        for (entry, (kind, own, first, last, name)) in bytes.chunks_exact_mut(128).zip(list) {
            entry[..16].copy_from_slice(&kind);
            entry[16..32].copy_from_slice(&own);
            entry[32..40].copy_from_slice(&first.to_le_bytes());
            entry[40..48].copy_from_slice(&last.to_le_bytes());
            for (place, unit) in entry[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
                place.copy_from_slice(&unit.to_le_bytes());
            }
        }
        bytes
    }

    fn header(&self, own: u64, other: u64, entries_at: u64, entries: &[u8]) -> Vec<u8> {
        let last = own.max(other);
        let mut header = b"EFI PART\0\0\x01\0".to_vec();
        header.extend(92u32.to_le_bytes());
        header.extend([0; 8]);
        for number in [own, other, FIRST, last - 33] {
            header.extend(number.to_le_bytes());
        }
        header.extend(self.disk);
        header.extend(entries_at.to_le_bytes());
        for number in [128, 128, sum(entries)] {
            header.extend(u32::to_le_bytes(number));
        }
        let sum = sum(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header.resize(512, 0);
        header
    }
}

/// One partition of kind 0xee over the whole disk.
fn protective(last: u64) -> Vec<u8> {
    let mut sector = vec![0; 512];
    sector[446..458].copy_from_slice(&[0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x00]);
    sector[458..462].copy_from_slice(&u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes());
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Seek, SeekFrom, Write},
        process::Command,
    };

    use super::*;

    /// A second opinion: util-linux reads the table, and finds both copies sound.
    #[test]
    fn other_tools_find_the_partitions_and_no_fault() {
        let table = Table { disk: guid("k", "disk"), bios: guid("k", "bios"), medium: guid("k", "medium"), begin: 1 << 20, size: 4 << 20 };
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("disk");
        let mut file = File::create(&path).unwrap();
        file.set_len(6 << 20).unwrap();
        for (at, bytes) in table.parts((6 << 20) / 512) {
            file.seek(SeekFrom::Start(at * 512)).unwrap();
            file.write_all(&bytes).unwrap();
        }
        let look = || {
            let mut command = Command::new("partx");
            command.args(["--pairs", "--output", "START,SECTORS,TYPE,UUID,NAME"]).arg(&path);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let said = look();
        let id = |which| text(&guid("k", which));
        let expected = [
            format!(
                "START=\"34\" SECTORS=\"2014\" TYPE=\"21686148-6449-6e6f-744e-656564454649\" UUID=\"{}\" NAME=\"BIOS boot\"",
                id("bios")
            ),
            format!(
                "START=\"2048\" SECTORS=\"8192\" TYPE=\"c12a7328-f81f-11d2-ba4b-00a0c93ec93b\" UUID=\"{}\" NAME=\"JOYENT_DEBIAN_LIVE\"",
                id("medium")
            ),
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
        // Without the first copy the second one is found.
        file.seek(SeekFrom::Start(512)).unwrap();
        file.write_all(&[0; 33 * 512]).unwrap();
        assert_eq!(look(), said);
    }

    #[test]
    fn an_identity_is_the_same_for_the_same_and_a_valid_one() {
        assert_eq!(guid("a", "disk"), guid("a", "disk"));
        assert_ne!(guid("a", "disk"), guid("a", "medium"));
        let text = text(&guid("a", "disk"));
        assert_eq!((text.len(), &text[14..15]), (36, "8"), "{text}");
    }
}
