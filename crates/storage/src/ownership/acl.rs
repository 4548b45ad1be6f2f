//! The ids inside POSIX ACLs as the kernel shows them (`system.posix_acl_access`, `system.posix_acl_default`).

/// Version of the format, the first four bytes.
const VERSION: [u8; 4] = [2, 0, 0, 0];
/// Bytes of one entry: tag (2), permissions (2), id (4), little-endian.
const ENTRY: usize = 8;
const TAG_USER: u16 = 0x02;
const TAG_GROUP: u16 = 0x08;

/// What became of an ACL.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Acl<E> {
    /// All ids are as they should be already.
    Unchanged,
    /// The new value.
    Changed(Vec<u8>),
    /// An id cannot be mapped.
    Refused(E),
}

/// Maps every named user's and group's id in `value`; `None` when it is no ACL.
pub(super) fn map<E>(value: &[u8], mut id: impl FnMut(u32) -> Result<u32, E>) -> Option<Acl<E>> {
    let entries = value.strip_prefix(&VERSION)?;
    if entries.len() % ENTRY != 0 {
        return None;
    }
    let mut new = VERSION.to_vec();
    for entry in entries.chunks_exact(ENTRY) {
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let old = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let mapped = match tag {
            TAG_USER | TAG_GROUP => match id(old) {
                Ok(mapped) => mapped,
                Err(error) => return Some(Acl::Refused(error)),
            },
            _ => old,
        };
        new.extend_from_slice(&entry[..4]);
        new.extend_from_slice(&mapped.to_le_bytes());
    }
    Some(if new == value { Acl::Unchanged } else { Acl::Changed(new) })
}
