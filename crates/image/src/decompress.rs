//! Files as they are stored: `gzip`, `bzip2`, `xz`, `zstd` or plain; and what is inside: tar, squashfs or a ZFS stream.

use std::{
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
};

use crate::{CancelToken, Progress};

/// Most memory that decoding xz may take: its largest preset needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// Reads a file, tells how far, and stops when asked to.
pub(crate) struct Watched<'a, R> {
    inner: R,
    done: u64,
    total: u64,
    progress: &'a dyn Progress,
    cancel: CancelToken,
}

impl<'a, R: Read> Watched<'a, R> {
    pub(crate) fn new(inner: R, total: u64, progress: &'a dyn Progress, cancel: &CancelToken) -> Self {
        Self { inner, done: 0, total, progress, cancel: cancel.clone() }
    }
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            // Not `Interrupted`: `Read`'s helpers would try again.
            return Err(io::Error::other(Cancelled));
        }
        let count = self.inner.read(buffer)?;
        self.done += count as u64;
        self.progress.bytes(self.done, self.total);
        Ok(count)
    }
}

/// The reader was cancelled.
#[derive(Debug, thiserror::Error)]
#[error("cancelled")]
pub(crate) struct Cancelled;

/// What a file (decompressed) holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Tar,
    Squashfs,
    ZfsStream,
    /// A tar archive without entries: zeros, or nothing.
    Empty,
    Unknown,
}

/// Recognises content by its first bytes; 512 are enough.
pub(crate) fn recognise(head: &[u8]) -> Content {
    /// `DMU_BACKUP_MAGIC` in the begin record, 8 bytes in, in either byte order.
    const ZFS: u64 = 0x2_F5BA_CBAC;
    if head.starts_with(b"hsqs") {
        return Content::Squashfs;
    }
    if let Some(magic) = head.get(8..16).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok())
        && (u64::from_le_bytes(magic) == ZFS || u64::from_be_bytes(magic) == ZFS)
    {
        return Content::ZfsStream;
    }
    if head.iter().all(|byte| *byte == 0) && matches!(head.len(), 0 | 512) {
        return Content::Empty;
    }
    if head.len() >= 512 {
        let header = tar::Header::from_byte_slice(&head[..512]);
        let sum: u32 = head[..148].iter().chain(&head[156..512]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        if header.cksum().is_ok_and(|stored| stored == sum) {
            return Content::Tar;
        }
    }
    Content::Unknown
}

/// Reads the first bytes without losing them.
pub(crate) fn peek<'a>(mut reader: impl Read + 'a) -> io::Result<(Vec<u8>, Box<dyn Read + 'a>)> {
    let mut head = Vec::new();
    reader.by_ref().take(512).read_to_end(&mut head)?;
    Ok((head.clone(), Box::new(Cursor::new(head).chain(reader))))
}

/// Decompresses `reader` as `compression` says. Data without that compression's magic passes unchanged: upstream decompresses
/// with `-f`, so that wrongly labelled plain data works (instances.md section 8.5).
pub(crate) fn decompress<'a>(reader: impl Read + 'a, compression: Option<&str>) -> io::Result<Box<dyn Read + 'a>> {
    let (head, reader) = peek(reader)?;
    let is = |magic: &[u8]| head.starts_with(magic);
    Ok(match compression {
        Some("gzip") if is(&[0x1f, 0x8b]) => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(64 << 10, reader))),
        Some("bzip2") if is(b"BZh") => Box::new(bzip2::read::MultiBzDecoder::new(BufReader::with_capacity(64 << 10, reader))),
        Some("xz") if is(&[0xfd, b'7', b'z', b'X', b'Z', 0]) => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
        }
        Some("zstd") if is(&[0x28, 0xb5, 0x2f, 0xfd]) => Box::new(zstd::stream::read::Decoder::new(reader)?),
        _ => reader,
    })
}

/// What the file holds once decompressed.
pub(crate) fn content_of(file: &mut File, compression: Option<&str>) -> io::Result<Content> {
    file.rewind()?;
    let (head, _) = peek(decompress(&mut *file, compression)?)?;
    file.rewind()?;
    Ok(recognise(&head))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn through(bytes: &[u8], compression: Option<&str>) -> Vec<u8> {
        let mut out = Vec::new();
        decompress(bytes, compression).unwrap().read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn each_compression_is_undone_and_wrongly_labelled_plain_data_passes() {
        let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&data).unwrap();
        let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        bzip2.write_all(&data).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 0);
        xz.write_all(&data).unwrap();
        let all = [
            ("gzip", gzip.finish().unwrap()),
            ("bzip2", bzip2.finish().unwrap()),
            ("xz", xz.finish().unwrap()),
            ("zstd", zstd::encode_all(&data[..], 1).unwrap()),
        ];
        for (name, packed) in all {
            assert!(through(&packed, Some(name)) == data, "{name}");
            // Two streams behind each other are one file, as for the command line tools.
            assert!(through(&[packed.clone(), packed.clone()].concat(), Some(name)).len() == 2 * data.len(), "{name} twice");
            assert!(through(&data, Some(name)) == data, "plain data labelled {name}");
            assert!(through(&packed, Some("none")) == packed, "{name} labelled none");
            let mut broken = Vec::new();
            let cut = &packed[..packed.len() / 2];
            assert!(decompress(cut, Some(name)).unwrap().read_to_end(&mut broken).is_err(), "{name} cut off");
        }
        assert_eq!(through(b"", Some("gzip")), b"");
    }

    #[test]
    fn content_is_recognised_by_its_magic() {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        header.set_cksum();
        tar.append_data(&mut header, "a", &b"x"[..]).unwrap();
        assert_eq!(recognise(&tar.into_inner().unwrap()), Content::Tar);
        assert_eq!(recognise(b"hsqs...."), Content::Squashfs);
        let mut stream = vec![0; 312];
        stream[8..16].copy_from_slice(&0x2_F5BA_CBAC_u64.to_le_bytes());
        assert_eq!(recognise(&stream), Content::ZfsStream);
        stream[8..16].copy_from_slice(&0x2_F5BA_CBAC_u64.to_be_bytes());
        assert_eq!(recognise(&stream), Content::ZfsStream);
        assert_eq!(recognise(&[0; 512]), Content::Empty);
        assert_eq!(recognise(b""), Content::Empty);
        assert_eq!(recognise(b"text"), Content::Unknown);
    }
}
