//! Reads tar archives entry by entry: ustar, GNU (long names, old sparse files) and PAX.
//!
//! Header fields are decoded by the crate `tar`; its own iteration splits PAX records at line ends, so that binary extended
//! attributes break it, and holds records of any size in memory.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Most bytes of one long name or of the PAX records of one entry.
const MAX_RECORDS: u64 = 2 << 20;
const BLOCK: u64 = 512;

/// What PAX records say of the next entry.
#[derive(Default)]
pub(super) struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, i64)>,
    /// Name and value.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// A sparse file in PAX form.
    pub(super) sparse: bool,
}

/// One entry; its content is read from the [`Reader`].
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) header: Header,
    pub(super) records: Records,
    /// For a sparse file: where its pieces belong (offset, length), and its whole length.
    pub(super) sparse: Option<(Vec<(u64, u64)>, u64)>,
}

pub(super) struct Reader<R> {
    inner: R,
    /// Bytes of the current entry's content that were not read yet.
    left: u64,
    /// Bytes behind the content up to the next header.
    padding: u64,
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// The next entry, past what was left of the current one; `None` at the end of the archive.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let (mut name, mut link, mut records) = (None, None, Records::default());
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::GNULongName => name = Some(until_zero(self.bounded(size)?)),
                EntryType::GNULongLink => link = Some(until_zero(self.bounded(size)?)),
                EntryType::XHeader => records = parse(&self.bounded(size)?)?,
                EntryType::XGlobalHeader => drop(self.bounded(size)?),
                kind => {
                    // Links and devices have no content, whatever their size says.
                    let content = matches!(kind, EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse);
                    let sparse = if kind == EntryType::GNUSparse { Some(self.sparse(&header)?) } else { None };
                    self.begin(if content { records.size.unwrap_or(size) } else { 0 });
                    let name = records.path.take().or(name).unwrap_or_else(|| header.path_bytes().into_owned());
                    let plain = || header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
                    let link = records.link.take().or(link).unwrap_or_else(plain);
                    return Ok(Some(Entry { name, link, header, records, sparse }));
                }
            }
        }
    }

    /// The underlying reader, somewhere behind the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK - size % BLOCK) % BLOCK;
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left.checked_add(self.padding).ok_or_else(|| damaged("a size is out of range"))?;
        let skipped = io::copy(&mut self.inner.by_ref().take(rest), &mut io::sink())?;
        (self.left, self.padding) = (0, 0);
        if skipped == rest { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The next header; `None` at a block of zeros, or where the archive ends without one.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let mut have = 0;
        while have < 512 {
            match self.inner.read(&mut header.as_mut_bytes()[have..])? {
                0 if have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => have += count,
            }
        }
        let bytes = header.as_bytes();
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        if header.cksum()? != sum {
            return Err(damaged("the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    /// The whole content of an extension record.
    fn bounded(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > MAX_RECORDS {
            return Err(io::Error::other(super::bounded::Exhausted));
        }
        self.begin(size);
        let mut bytes = Vec::new();
        self.by_ref().take(size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The map of an old GNU sparse file, whose continuation blocks stand before the content.
    fn sparse(&mut self, header: &Header) -> io::Result<(Vec<(u64, u64)>, u64)> {
        let gnu = header.as_gnu().ok_or_else(|| damaged("a sparse file without a GNU header"))?;
        let mut map = Vec::new();
        let add = |map: &mut Vec<(u64, u64)>, pieces: &[tar::GnuSparseHeader]| -> io::Result<()> {
            for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
                map.push((piece.offset()?, piece.length()?));
            }
            Ok(())
        };
        add(&mut map, &gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            if map.len() > 1 << 20 {
                return Err(io::Error::other(super::bounded::Exhausted));
            }
            let mut block = tar::GnuExtSparseHeader::new();
            self.inner.read_exact(block.as_mut_bytes())?;
            add(&mut map, &block.sparse)?;
            more = block.is_extended();
        }
        Ok((map, gnu.real_size()?))
    }
}

/// The content of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let count = self.inner.by_ref().take(self.left).read(buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

/// Parses `LENGTH KEY=VALUE\n` records; values may hold any bytes.
fn parse(mut bytes: &[u8]) -> io::Result<Records> {
    let broken = || damaged("a PAX record is malformed");
    let mut records = Records::default();
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|&byte| byte == b' ').ok_or_else(broken)?;
        let length: usize = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)?;
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(broken());
        }
        let record = &bytes[space + 1..length - 1];
        bytes = &bytes[length..];
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let number = || std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(broken);
        match key {
            b"path" => records.path = Some(value.to_owned()),
            b"linkpath" => records.link = Some(value.to_owned()),
            b"size" => records.size = Some(number()?),
            b"uid" => records.uid = Some(number()?),
            b"gid" => records.gid = Some(number()?),
            b"mtime" => records.mtime = std::str::from_utf8(value).ok().and_then(seconds),
            key => match key.strip_prefix(b"SCHILY.xattr.") {
                Some(name) => records.attributes.push((name.to_owned(), value.to_owned())),
                None => records.sparse |= key.starts_with(b"GNU.sparse."),
            },
        }
    }
    Ok(records)
}

/// Seconds and nanoseconds of `1712345678.25`.
fn seconds(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanos = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // Before 1970 the fraction counts backwards; no image needs it.
    let whole: i64 = whole.parse().ok()?;
    Some((whole, if whole < 0 { 0 } else { nanos }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_records_may_hold_any_bytes() {
        let record = |text: &[u8]| [format!("{} ", text.len() + 4).as_bytes(), text, b"\n"].concat();
        let parts = [record(b"SCHILY.xattr.user.a=x\n=\0y\xff"), record(b"path=long/nam\xe9"), record(b"mtime=-5.500")];
        let records = parse(&parts.concat()).unwrap();
        assert_eq!(records.attributes, [(b"user.a".to_vec(), b"x\n=\0y\xff".to_vec())]);
        assert_eq!(records.path.unwrap(), b"long/nam\xe9");
        assert_eq!(records.mtime, Some((-5, 0)));
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [&b"9999 a=b\n"[..], b"x a=b\n", b"6 ab\n", b"0 a=b\n", b"7 a=bc", b"12 size=-1\n\n", b"18446744073709551616 a=b\n"] {
            assert!(parse(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
