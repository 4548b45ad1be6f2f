//! The hash that booter puts beside `networking.json` (platform.md section 3.3).

use sha1::{Digest, Sha1};

use crate::{Problem, problem::shown};

/// Compares `bytes` with the text of its hash file: the lower-case SHA-1. Neither a missing nor a wrong hash keeps the file
/// from being used.
pub fn check_hash(bytes: &[u8], hash: Option<&str>) -> Option<Problem> {
    let wanted = match hash.map(str::trim) {
        None | Some("") => return Some(Problem::HashMissing),
        Some(wanted) => wanted,
    };
    let found: String = Sha1::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    (!wanted.eq_ignore_ascii_case(&found)).then(|| Problem::HashMismatch { found, wanted: shown(wanted) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_right_wrong_or_missing() {
        assert_eq!(check_hash(b"abc", Some("a9993e364706816aba3e25717850c26c9cd0d89d")), None);
        assert_eq!(check_hash(b"abc", Some("A9993E364706816ABA3E25717850C26C9CD0D89D\n")), None);
        assert_eq!(check_hash(b"abc", None), Some(Problem::HashMissing));
        assert_eq!(check_hash(b"abc", Some(" \n")), Some(Problem::HashMissing));
        let wrong = check_hash(b"abd", Some("a9993e364706816aba3e25717850c26c9cd0d89d")).unwrap();
        assert!(matches!(wrong, Problem::HashMismatch { .. }) && wrong.to_string().contains("a9993e36"), "{wrong}");
    }
}
