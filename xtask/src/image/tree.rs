//! A root file system in memory: paths, modes, contents. Links inside it are followed as the guest would.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A folder.
    Folder,
    /// A file.
    File(Vec<u8>),
    /// A symbolic link.
    Link(String),
}

/// One entry, owned by root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: Content,
}

/// Paths without a leading slash, sorted, each after its folder.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Every entry, in the order of the paths.
    pub fn entries(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter()
    }

    /// The content of a file, through links to folders.
    pub fn file(&self, path: &str) -> Option<&[u8]> {
        match &self.entries.get(&self.resolve(path))?.content {
            Content::File(bytes) => Some(bytes),
            Content::Folder | Content::Link(_) => None,
        }
    }

    /// A folder and those above it; a folder that exists gets the mode.
    pub fn folder(&mut self, path: &str, mode: u32) {
        let path = self.resolve(path);
        self.parents(&path);
        self.entries.insert(path, Entry { mode, content: Content::Folder });
    }

    /// A file, in place of what was there.
    pub fn write(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) {
        self.put(path, Entry { mode, content: Content::File(bytes.into()) });
    }

    /// A symbolic link, unless something is at the path.
    pub fn link(&mut self, path: &str, target: &str) {
        if !self.entries.contains_key(&self.resolve(path)) {
            self.put(path, Entry { mode: 0o777, content: Content::Link(target.to_owned()) });
        }
    }

    /// A symbolic link in place of an empty folder that a package brought.
    pub fn link_for_folder(&mut self, path: &str, target: &str) {
        self.put(path, Entry { mode: 0o777, content: Content::Link(target.to_owned()) });
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = self.resolve(path);
        self.parents(&path);
        self.entries.insert(path, entry);
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            self.entries.entry(path[..at].to_owned()).or_insert(Entry { mode: 0o755, content: Content::Folder });
        }
    }

    /// `path` with the links in its folders followed (Debian 13 has `bin` as a link to `usr/bin`); the last part stays.
    fn resolve(&self, path: &str) -> String {
        let mut done = String::new();
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        for (at, part) in parts.iter().enumerate() {
            let here = if done.is_empty() { (*part).to_owned() } else { format!("{done}/{part}") };
            done = match self.entries.get(&here).map(|entry| &entry.content) {
                Some(Content::Link(target)) if at + 1 < parts.len() => join(&done, target),
                _ => here,
            };
        }
        done
    }

    /// Adds the entries of a package's archive. Special files and hard links are refused: the packages here have none.
    pub fn unpack(&mut self, archive: impl std::io::Read) -> Result<u64> {
        let mut newest = 0;
        let mut archive = tar::Archive::new(archive);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.to_string_lossy().trim_start_matches("./").trim_end_matches('/').to_owned();
            if path.is_empty() {
                continue;
            }
            if path.split('/').any(|part| part == "..") {
                bail!("a package holds the path {path:?}");
            }
            let mode = entry.header().mode()? & 0o7777;
            newest = newest.max(entry.header().mtime()?);
            match entry.header().entry_type() {
                tar::EntryType::Directory => {
                    if !matches!(self.entries.get(&path).map(|e| &e.content), Some(Content::Link(_))) {
                        self.folder(&path, mode);
                    }
                }
                tar::EntryType::Regular => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut entry, &mut bytes)?;
                    self.write(&path, mode, bytes);
                }
                tar::EntryType::Symlink => {
                    let target = entry.link_name()?.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    self.put(&path, Entry { mode: 0o777, content: Content::Link(target) });
                }
                other => bail!("a package holds {path:?}, of type {other:?}"),
            }
        }
        Ok(newest)
    }
}

/// A link's target as a path from the root.
fn join(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> =
        if target.starts_with('/') { Vec::new() } else { folder.split('/').filter(|part| !part.is_empty()).collect() };
    for part in target.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_through_links_end_where_the_guest_sees_them() {
        let mut tree = Tree::default();
        tree.link("bin", "usr/bin");
        tree.write("bin/busybox", 0o755, "program");
        assert_eq!(tree.file("usr/bin/busybox"), Some(&b"program"[..]));
        tree.link("sbin", "/usr/sbin");
        tree.link("sbin/init", "/bin/busybox");
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["bin", "sbin", "usr", "usr/bin", "usr/bin/busybox", "usr/sbin", "usr/sbin/init"]);
    }

    #[test]
    fn a_link_does_not_replace_what_a_package_brought() {
        let mut tree = Tree::default();
        tree.write("usr/bin/real", 0o755, "real");
        tree.link("usr/bin/real", "/bin/busybox");
        assert_eq!(tree.file("usr/bin/real"), Some(&b"real"[..]));
    }
}
