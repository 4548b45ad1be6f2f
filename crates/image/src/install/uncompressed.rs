//! The digest of what a file holds once it is decompressed: an OCI image's configuration names it for every layer.

use std::io::{self, Read};

use sha2::{Digest, Sha256};
use triton_types::ImageFile;

use super::InstallFailure;

/// Key of a manifest's file.
pub(crate) const KEY: &str = "uncompressedDigest";

/// A reader that compares what passed with the digest in the manifest, if there is one.
pub(super) struct Checked<R> {
    inner: R,
    expected: Option<String>,
    hash: Sha256,
}

impl<R: Read> Checked<R> {
    pub(super) fn new(inner: R, file: &ImageFile) -> Self {
        let expected = file.extra.get(KEY).and_then(serde_json::Value::as_str).map(str::to_owned);
        Self { inner, expected, hash: Sha256::new() }
    }

    /// Called when all of it was read.
    pub(super) fn finish(self) -> Result<(), InstallFailure> {
        let Some(expected) = self.expected else { return Ok(()) };
        let found = format!("sha256:{}", crate::download::hex(&self.hash.finalize()));
        if expected == found { Ok(()) } else { Err(InstallFailure::Content { expected, found }) }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if self.expected.is_some() {
            self.hash.update(&buffer[..count]);
        }
        Ok(count)
    }
}
