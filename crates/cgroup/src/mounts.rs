//! Which hierarchies are mounted, and where.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use crate::hierarchy::{Hierarchy, Version};

/// How control groups are mounted on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupLayout {
    /// One unified hierarchy with all controllers: every compute node.
    V2,
    /// v1 hierarchies with the controllers, and maybe a unified one beside them.
    Hybrid,
}

/// The hierarchies in a mount table of the form of `/proc/self/mountinfo`, unified first; each once, at its first mount point.
pub(crate) fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<(String, Hierarchy)> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ');
        let (Some(device), Some(mount)) = (left.nth(2), left.nth(1)) else { continue };
        let mut right = right.split(' ');
        let (Some(kind), Some(options)) = (right.next(), right.nth(1)) else { continue };
        let version = match kind {
            "cgroup2" => Version::Unified,
            "cgroup" => Version::Legacy,
            _ => continue,
        };
        if found.iter().any(|(known, _)| known == device) {
            continue;
        }
        let names = |name: &&str| !matches!(*name, "rw" | "ro" | "xattr" | "clone_children" | "noprefix") && !name.contains("=");
        let controllers = options.split(',').filter(names).map(str::to_owned).collect();
        found.push((device.to_owned(), Hierarchy { version, mount: unescape(mount), controllers }));
    }
    found.sort_by_key(|(_, hierarchy)| hierarchy.version != Version::Unified);
    found.into_iter().map(|(_, hierarchy)| hierarchy).collect()
}

/// Undoes the kernel's `\040` for characters that would break the table.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok()).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) if first == b'\\' => {
                out.push(code);
                rest = &tail[3..];
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}
