//! File capabilities (`security.capability`): version 2 holds everywhere, version 3 in user namespaces owned by one id.

const VERSION_2: u32 = 0x0200_0000;
const VERSION_3: u32 = 0x0300_0000;
const VERSION_MASK: u32 = 0xff00_0000;
/// Bytes of a version 2 value: magic and flags, then two pairs of permitted and inheritable.
const LENGTH_2: usize = 20;

fn magic(value: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(value.get(..4)?.try_into().ok()?))
}

/// The id of the user namespace's root that a version 3 value belongs to.
fn root_id(value: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(value.get(LENGTH_2..LENGTH_2 + 4)?.try_into().ok()?))
}

/// The value as it must be where the guest's root is the host's `base`. A value that belongs to another namespace inside
/// the image (`base` + its id) is moved likewise. Values of other forms stay.
pub(super) fn shifted(value: &[u8], base: u32, size: u32) -> Vec<u8> {
    with_root(
        value,
        match (magic(value).map(|m| m & VERSION_MASK), root_id(value)) {
            (Some(VERSION_2), _) if value.len() == LENGTH_2 => base,
            (Some(VERSION_3), Some(id)) if id < size => base + id,
            _ => return value.to_vec(),
        },
    )
}

/// The inverse of [`shifted`].
pub(super) fn unshifted(value: &[u8], base: u32, size: u32) -> Vec<u8> {
    match (magic(value).map(|m| m & VERSION_MASK), root_id(value)) {
        (Some(VERSION_3), Some(id)) if id == base => {
            let flags = magic(value).unwrap_or(0) & !VERSION_MASK;
            let mut new = (VERSION_2 | flags).to_le_bytes().to_vec();
            new.extend_from_slice(&value[4..LENGTH_2]);
            new
        }
        (Some(VERSION_3), Some(id)) if id > base && id - base < size => with_root(value, id - base),
        _ => value.to_vec(),
    }
}

/// The value as version 3 with `root`.
fn with_root(value: &[u8], root: u32) -> Vec<u8> {
    let flags = magic(value).unwrap_or(0) & !VERSION_MASK;
    let mut new = (VERSION_3 | flags).to_le_bytes().to_vec();
    new.extend_from_slice(&value[4..LENGTH_2]);
    new.extend_from_slice(&root.to_le_bytes());
    new
}
