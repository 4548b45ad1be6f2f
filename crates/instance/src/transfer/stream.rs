//! The form in which an instance travels between nodes.
//!
//! A line that says what it is ([`FILES`] or [`DATASETS`]), then frames: four bytes of length, most significant first, and as many bytes. The first frame
//! is the machine's description as JSON, the others are a tar archive, or streams of ZFS. A frame of length 0 ends it, followed by the SHA-256
//! of all content of frames. A stream that was cut is so never taken for a whole one.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

/// The first line of a stream of files.
pub(super) const FILES: &[u8] = b"triton-linux-instance 1\n";
/// The first line of a stream of ZFS's streams.
pub(super) const DATASETS: &[u8] = b"triton-linux-datasets 1\n";
/// Bytes of one frame.
const FRAME: usize = 256 << 10;
/// Largest description.
const MAX_HEAD: usize = 16 << 20;

fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

/// Writes a stream. What is written to it is the archive; [`FrameWriter::finish`] ends it.
pub(super) struct FrameWriter<W: Write> {
    out: W,
    buffer: Vec<u8>,
    hash: Sha256,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn begin(mut out: W, kind: &[u8], head: &[u8]) -> io::Result<Self> {
        out.write_all(kind)?;
        let mut writer = Self { out, buffer: Vec::with_capacity(FRAME), hash: Sha256::new() };
        writer.frame(head)?;
        Ok(writer)
    }

    fn frame(&mut self, content: &[u8]) -> io::Result<()> {
        let length = u32::try_from(content.len()).map_err(|_| damaged("a frame is too long"))?;
        self.out.write_all(&length.to_be_bytes())?;
        self.out.write_all(content)?;
        self.hash.update(content);
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let content = std::mem::take(&mut self.buffer);
        self.frame(&content)?;
        self.buffer = content;
        self.buffer.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.drain()?;
        self.out.write_all(&0_u32.to_be_bytes())?;
        self.out.write_all(&self.hash.finalize())?;
        self.out.flush()
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() >= FRAME {
            self.drain()?;
        }
        let count = bytes.len().min(FRAME - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..count]);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream: the archive, up to the end, where the sum must be right.
pub(super) struct FrameReader<R: Read> {
    inner: R,
    left: usize,
    hash: Sha256,
    ended: bool,
}

impl<R: Read> FrameReader<R> {
    /// Reads the beginning; returns the description too.
    pub(super) fn begin(mut inner: R, kind: &[u8]) -> io::Result<(Self, Vec<u8>)> {
        let mut magic = [0; FILES.len()];
        inner.read_exact(&mut magic).map_err(cut)?;
        if magic != *kind {
            return Err(damaged("this is no stream of `vmadm send` of this version: its first line is another"));
        }
        let mut reader = Self { inner, left: 0, hash: Sha256::new(), ended: false };
        let length = reader.length()?;
        if length == 0 || length > MAX_HEAD {
            return Err(damaged(format!("the description of the instance has {length} bytes")));
        }
        let mut head = Vec::new();
        reader.inner.by_ref().take(length as u64).read_to_end(&mut head)?;
        if head.len() != length {
            return Err(cut(io::ErrorKind::UnexpectedEof.into()));
        }
        reader.hash.update(&head);
        Ok((reader, head))
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut bytes = [0; 4];
        self.inner.read_exact(&mut bytes).map_err(cut)?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| damaged("a frame is too long"))
    }

    /// Reads what is left and checks that the stream is whole.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }

    fn end(&mut self) -> io::Result<()> {
        let mut sum = [0; 32];
        self.inner.read_exact(&mut sum).map_err(cut)?;
        if sum[..] != self.hash.finalize_reset()[..] {
            return Err(damaged("the stream is damaged: its checksum is wrong"));
        }
        self.ended = true;
        Ok(())
    }
}

fn cut(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => io::Error::new(io::ErrorKind::UnexpectedEof, "the stream ends early"),
        _ => error,
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = self.length()?;
            if self.left > FRAME {
                return Err(damaged(format!("a frame has {} bytes", self.left)));
            }
            if self.left == 0 {
                self.end()?;
                return Ok(0);
            }
        }
        let most = self.left.min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(cut(io::ErrorKind::UnexpectedEof.into()));
        }
        self.hash.update(&buffer[..count]);
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(head: &[u8], content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = FrameWriter::begin(&mut out, FILES, head).unwrap();
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
        out
    }

    fn read(bytes: &[u8]) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (mut reader, head) = FrameReader::begin(bytes, FILES)?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        reader.finish()?;
        Ok((head, content))
    }

    #[test]
    fn what_was_written_is_read_and_nothing_that_was_cut_or_changed() {
        let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        let bytes = written(b"{}", &content);
        assert!(read(&bytes).unwrap() == (b"{}".to_vec(), content));
        for length in [0, 5, FILES.len(), FILES.len() + 3, FILES.len() + 7, 300_000, bytes.len() - 33, bytes.len() - 1] {
            let error = read(&bytes[..length]).unwrap_err();
            assert_eq!(error.to_string(), "the stream ends early", "{length}");
        }
        for at in [0, FILES.len() + 4, 1000, 400_000, bytes.len() - 1] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(read(&changed).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..2000), whole in any::<bool>()) {
            let bytes = if whole { [FILES, &[0, 0, 0, 1, b'x'], &bytes].concat() } else { bytes };
            prop_assert!(read(&bytes).is_err());
        }
    }
}
