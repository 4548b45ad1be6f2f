//! A reader with a budget: an archive cannot expand without end.

use std::io::{self, Read};

/// The budget was used up.
#[derive(Debug, thiserror::Error)]
#[error("the archive is larger than allowed")]
pub(super) struct Exhausted;

pub(super) struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Lets `bytes` of content pass; the archive around it may add some more.
    pub(super) fn new(inner: R, bytes: u64) -> Self {
        Self { inner, left: bytes.saturating_add(bytes / 8).saturating_add(64 << 20) }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other(Exhausted))?;
        Ok(count)
    }
}
