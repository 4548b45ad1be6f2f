//! The kernel's own files (`/proc`, `/sys`), below a root of their own so that a test can show another machine.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Where `/proc` and `/sys` are. Always `/` outside tests, whatever root a program was given: the kernel has only one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    root: PathBuf,
}

/// Files of the kernel are small; `cpuinfo` of a machine with 1,024 threads has about 1.5 MiB.
const LIMIT: u64 = 8 << 20;

impl Source {
    /// The running kernel.
    pub fn kernel() -> Self {
        Self::at("/")
    }

    /// A tree that looks like `/`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The text of a file, without white space at its ends; `None` if it cannot be read or is empty.
    pub fn read(&self, path: &str) -> Option<String> {
        let mut bytes = Vec::new();
        fs::File::open(self.path(path)).ok()?.take(LIMIT).read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes).trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// A file that holds one number.
    pub fn read_number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.read(path)?.parse().ok()
    }

    /// Names in a directory, sorted; empty if there is none.
    pub fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// True if there is such a file, directory or link to one.
    pub fn exists(&self, path: &str) -> bool {
        Path::exists(&self.path(path))
    }
}

impl Default for Source {
    fn default() -> Self {
        Self::kernel()
    }
}
