//! Several streams in one: each is a description as JSON, then chunks with their lengths, up to an empty one.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};

/// Largest description.
const MAX_HEAD: usize = 64 << 10;
/// Largest chunk.
const MAX_CHUNK: usize = 1 << 20;

fn damaged(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn write_length(out: &mut dyn Write, length: usize) -> io::Result<()> {
    out.write_all(&u32::try_from(length).map_err(|_| damaged("a part is too long"))?.to_be_bytes())
}

fn read_length(from: &mut dyn Read, most: usize) -> io::Result<usize> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    let length = u32::from_be_bytes(bytes) as usize;
    if length > most { Err(damaged(format!("a part says {length} bytes"))) } else { Ok(length) }
}

/// Writes the streams. Without [`PartsWriter::finish`] whoever reads finds no end.
pub(super) struct PartsWriter<'a>(pub(super) &'a mut dyn Write);

/// The content of one stream.
struct Chunks<'a>(&'a mut dyn Write);

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(MAX_CHUNK);
        if count > 0 {
            write_length(self.0, count)?;
            self.0.write_all(&bytes[..count])?;
        }
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PartsWriter<'_> {
    /// One stream: what `content` writes.
    pub(super) fn part<T: Serialize, E: From<io::Error>>(
        &mut self,
        head: &T,
        content: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let head = serde_json::to_vec(head).map_err(io::Error::from)?;
        write_length(self.0, head.len())?;
        self.0.write_all(&head)?;
        content(&mut Chunks(self.0))?;
        Ok(write_length(self.0, 0)?)
    }

    /// The end of all.
    pub(super) fn finish(self) -> io::Result<()> {
        write_length(self.0, 0)
    }
}

/// Reads the content of one stream, up to its end.
pub(super) struct PartReader<'a> {
    inner: &'a mut dyn Read,
    left: usize,
    ended: bool,
}

impl<'a> PartReader<'a> {
    /// The next stream and what it is; none at the end of all.
    pub(super) fn next<T: DeserializeOwned>(inner: &'a mut dyn Read) -> io::Result<Option<(T, Self)>> {
        let length = read_length(inner, MAX_HEAD)?;
        if length == 0 {
            return Ok(None);
        }
        let mut head = vec![0; length];
        inner.read_exact(&mut head)?;
        let head = serde_json::from_slice(&head).map_err(|error| damaged(format!("a part's description cannot be read: {error}")))?;
        Ok(Some((head, Self { inner, left: 0, ended: false })))
    }

    /// Reads what is left of it: its taker may have needed less.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        if self.left == 0 {
            self.left = read_length(self.inner, MAX_CHUNK)?;
            if self.left == 0 {
                self.ended = true;
                return Ok(0);
            }
        }
        let most = self.left.min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let (mut from, mut all) = (bytes, Vec::new());
        while let Some((head, mut part)) = PartReader::next(&mut from)? {
            let mut content = Vec::new();
            part.read_to_end(&mut content)?;
            part.finish()?;
            all.push((head, content));
        }
        Ok(all)
    }

    #[test]
    fn parts_are_read_as_they_were_written_and_not_when_they_were_cut() {
        let parts = [(1, vec![7; 3 << 20]), (2, Vec::new()), (3, b"x".to_vec())];
        let mut bytes = Vec::new();
        let mut writer = PartsWriter(&mut bytes);
        for (head, content) in &parts {
            writer.part(head, |out| out.write_all(content)).unwrap();
        }
        writer.finish().unwrap();
        assert!(read(&bytes).unwrap() == parts);
        for length in [0, 3, 5, 100, 3 << 20, bytes.len() - 1] {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        // Who takes less than all of a part still finds the next one.
        let mut from = bytes.as_slice();
        let (_, part) = PartReader::next::<u32>(&mut from).unwrap().unwrap();
        part.finish().unwrap();
        assert_eq!(PartReader::next::<u32>(&mut from).unwrap().unwrap().0, 2);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
        }
    }
}
