//! The file of a new image: compressed, counted and hashed on its way to a private name.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use sha1::{Digest, Sha1};

use super::with_suffix;
use crate::{CancelToken, ImageError, Progress, decompress::Cancelled};

/// How the file of an image is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

impl Compression {
    /// The word of the manifest.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
        }
    }

    pub(super) const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Bzip2 => ".bz2",
            Self::Xz => ".xz",
        }
    }
}

impl FromStr for Compression {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "gz" | "gzip" => Ok(Self::Gzip),
            "bz2" | "bzip2" => Ok(Self::Bzip2),
            "xz" => Ok(Self::Xz),
            other => Err(format!("unknown compression {other:?}: it is one of none, gzip, bzip2 and xz")),
        }
    }
}

/// What was written.
pub(super) struct Done {
    pub(super) size: u64,
    pub(super) sha1: String,
}

/// Counts and hashes.
struct Sink {
    file: BufWriter<File>,
    sha1: Sha1,
    size: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.sha1.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

enum Packer {
    None(Sink),
    Gzip(flate2::write::GzEncoder<Sink>),
    Bzip2(bzip2::write::BzEncoder<Sink>),
    Xz(liblzma::write::XzEncoder<Sink>),
}

/// A file that appears at its place when [`ImageFileWriter::finish`] says so, and else is gone when this is dropped.
pub(super) struct ImageFileWriter<'a> {
    packer: Option<Packer>,
    path: PathBuf,
    partial: PathBuf,
    done: u64,
    expected: u64,
    cancel: &'a CancelToken,
    progress: &'a dyn Progress,
}

impl<'a> ImageFileWriter<'a> {
    /// Begins the file `path`; `expected` bytes are to be compressed.
    pub(super) fn begin(
        path: &Path,
        compression: Compression,
        expected: u64,
        cancel: &'a CancelToken,
        progress: &'a dyn Progress,
    ) -> Result<Self, ImageError> {
        if path.exists() {
            return Err(ImageError::write(path, io::Error::new(io::ErrorKind::AlreadyExists, "it exists already")));
        }
        let partial = with_suffix(path, ".partial");
        // What a killed run left is overwritten; a link is not followed.
        let _ = fs::remove_file(&partial);
        let file = File::options().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(|error| ImageError::write(&partial, error))?;
        let sink = Sink { file: BufWriter::with_capacity(256 << 10, file), sha1: Sha1::new(), size: 0 };
        let packer = match compression {
            Compression::None => Packer::None(sink),
            Compression::Gzip => Packer::Gzip(flate2::write::GzEncoder::new(sink, flate2::Compression::default())),
            Compression::Bzip2 => Packer::Bzip2(bzip2::write::BzEncoder::new(sink, bzip2::Compression::best())),
            Compression::Xz => Packer::Xz(liblzma::write::XzEncoder::new(sink, 6)),
        };
        Ok(Self { packer: Some(packer), path: path.to_owned(), partial, done: 0, expected, cancel, progress })
    }

    /// An error of this file.
    pub(super) fn failed(&self, error: io::Error) -> ImageError {
        ImageError::write(&self.path, error)
    }

    /// Makes the file durable, and visible under its name.
    pub(super) fn finish(mut self) -> Result<Done, ImageError> {
        let path = self.path.clone();
        let mut close = || -> io::Result<Done> {
            let mut sink = match self.packer.take() {
                None => return Err(io::ErrorKind::NotConnected.into()),
                Some(Packer::None(sink)) => sink,
                Some(Packer::Gzip(packer)) => packer.finish()?,
                Some(Packer::Bzip2(packer)) => packer.finish()?,
                Some(Packer::Xz(packer)) => packer.finish()?,
            };
            sink.flush()?;
            sink.file.get_ref().sync_all()?;
            fs::rename(&self.partial, &self.path)?;
            let sha1 = sink.sha1.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Done { size: sink.size, sha1 })
        };
        close().map_err(|error| ImageError::write(&path, error))
    }
}

impl Write for ImageFileWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(Cancelled));
        }
        let count = match &mut self.packer {
            None => return Err(io::ErrorKind::NotConnected.into()),
            Some(Packer::None(sink)) => sink.write(bytes)?,
            Some(Packer::Gzip(packer)) => packer.write(bytes)?,
            Some(Packer::Bzip2(packer)) => packer.write(bytes)?,
            Some(Packer::Xz(packer)) => packer.write(bytes)?,
        };
        self.done += count as u64;
        self.progress.bytes(self.done, self.expected.max(self.done));
        Ok(count)
    }

    /// Compressors keep what they have: flushing them would cost size.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ImageFileWriter<'_> {
    fn drop(&mut self) {
        // Not there any more after the rename.
        let _ = fs::remove_file(&self.partial);
    }
}
