//! Names in archives: which of them are below the guest's root, and which are an attack.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::UnpackFailure;

/// Strips the directory of the archive that becomes the guest's root.
pub(super) struct Mapping {
    prefix: &'static str,
}

impl Mapping {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix }
    }

    /// The path below the guest's root (empty for the root itself); `None` for what is not part of it.
    pub(super) fn map(&self, name: &[u8]) -> Result<Option<PathBuf>, UnpackFailure> {
        if name.contains(&0) {
            return Err(UnpackFailure::Name("contains a zero byte"));
        }
        if name.starts_with(b"/") {
            return Err(UnpackFailure::Name("is absolute"));
        }
        let mut path = PathBuf::new();
        let mut parts = name.split(|&byte| byte == b'/').filter(|part| !part.is_empty() && *part != b".").peekable();
        if parts.clone().any(|part| part == b"..") {
            return Err(UnpackFailure::Name("contains \"..\""));
        }
        if !self.prefix.is_empty() && parts.next() != Some(self.prefix.as_bytes()) {
            return Ok(None);
        }
        for part in parts {
            if part.len() > 255 {
                return Err(UnpackFailure::Name("has a component of more than 255 bytes"));
            }
            path.push(Path::new(OsStr::from_bytes(part)));
        }
        if path.as_os_str().len() > 4000 {
            return Err(UnpackFailure::Name("is longer than 4000 bytes"));
        }
        Ok(Some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_prefix_are_part_of_the_root() {
        let map = |prefix, name: &str| Mapping::new(prefix).map(name.as_bytes()).unwrap();
        for (name, path) in [
            ("rootfs/etc/hosts", Some("etc/hosts")),
            ("./rootfs/./a//b/", Some("a/b")),
            ("rootfs", Some("")),
            ("rootfsx/a", None),
            ("a", None),
        ] {
            assert_eq!(map("rootfs", name), path.map(PathBuf::from), "{name}");
        }
        assert_eq!(map("", "./etc"), Some(PathBuf::from("etc")));
        assert_eq!(map("", "..."), Some(PathBuf::from("...")));
    }

    #[test]
    fn names_that_would_escape_are_refused_even_outside_of_the_prefix() {
        for name in ["/etc/passwd", "rootfs/../../etc/passwd", "..", "other/..", "rootfs/a\0b", &format!("rootfs/{}", "x".repeat(256))] {
            assert!(Mapping::new("rootfs").map(name.as_bytes()).is_err(), "{name:?}");
        }
    }
}
