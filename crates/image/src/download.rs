//! Fetching the files of an image into `/var/tmp/.imgadm-downloads` (instances.md section 8.5, step 6).
//!
//! `<uuid>.file` (`<uuid>.file1` for the second) is a complete, checked download; `<uuid>.file.partial` one under way, which a
//! later attempt continues when the source can. Both belong to whoever holds the image's import lock.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha1::{Digest, Sha1};
use triton_agent::{Backoff, chain};
use triton_files::{Layout, steps};
use triton_headnode::{HttpError, ImgApi};
use triton_types::{ImageFile, ImageUuid};

use crate::{CancelToken, Event, ImageError, Progress};

/// A file of an image could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadFailure {
    /// The source failed, after all attempts.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The source says that it will send another number of bytes than the manifest has.
    #[error("the source sends {found} bytes, the manifest says {expected}")]
    ContentLength {
        /// By the manifest.
        expected: u64,
        /// By the source.
        found: u64,
    },
    /// Another number of bytes came.
    #[error("the file has {found} bytes, the manifest says {expected}")]
    Size {
        /// By the manifest.
        expected: u64,
        /// What came, or at least this much.
        found: u64,
    },
    /// Other bytes came.
    #[error("the file's sha1 is {found}, the manifest says {expected}")]
    Checksum {
        /// By the manifest.
        expected: String,
        /// Of what came.
        found: String,
    },
    /// The file could not be written or read.
    #[error("could not use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DownloadFailure {
    /// True when another attempt may do better.
    fn is_transient(&self) -> bool {
        match self {
            Self::Http(error) => error.is_transient(),
            // Fewer bytes than announced: the connection was closed early.
            Self::Size { expected, found } => found < expected,
            Self::ContentLength { .. } | Self::Checksum { .. } | Self::File { .. } => false,
        }
    }
}

/// How persistent a download is.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// Attempts that made no progress before it is given up; at least 1.
    pub attempts: u32,
    /// Pause after the first failure; grows by 2 up to 30 s.
    pub pause: Duration,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self { attempts: 4, pause: Duration::from_secs(1) }
    }
}

/// Where file `index` of an image is downloaded to.
pub(crate) fn path(layout: &Layout, uuid: ImageUuid, index: usize) -> PathBuf {
    layout.downloads().join(match index {
        0 => format!("{uuid}.file"),
        _ => format!("{uuid}.file{index}"),
    })
}

fn partial(path: &Path) -> PathBuf {
    path.with_file_name(format!("{}.partial", path.file_name().and_then(|name| name.to_str()).unwrap_or("file")))
}

/// Removes what was downloaded of an image.
pub(crate) fn remove(layout: &Layout, uuid: ImageUuid) {
    for index in 0..2 {
        let path = path(layout, uuid, index);
        let _ = fs::remove_file(partial(&path));
        let _ = fs::remove_file(path);
    }
}

/// One download: what is wanted, from where, to where.
pub(crate) struct Task<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) source: &'a ImgApi,
    pub(crate) uuid: ImageUuid,
    pub(crate) index: usize,
    pub(crate) file: &'a ImageFile,
    pub(crate) options: &'a DownloadOptions,
    pub(crate) progress: &'a dyn Progress,
    pub(crate) cancel: &'a CancelToken,
}

impl Task<'_> {
    fn failure(&self, source: DownloadFailure) -> ImageError {
        ImageError::Download { uuid: self.uuid, file: self.index, source: Box::new(source) }
    }

    /// Fetches the file, unless a complete one is there. Returns its path.
    pub(crate) async fn run(&self) -> Result<PathBuf, ImageError> {
        let path = path(self.layout, self.uuid, self.index);
        match check(&path, self.file, &mut |_| !self.cancel.is_cancelled()) {
            Ok(None) => {
                self.progress.event(&Event::UsingDownload(self.uuid));
                return Ok(path);
            }
            Ok(Some(DownloadFailure::Checksum { .. })) => self.progress.event(&Event::UnexpectedChecksum(self.uuid)),
            Ok(Some(_)) => self.progress.event(&Event::UnexpectedSize(self.uuid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) if self.cancel.is_cancelled() => return Err(ImageError::Cancelled(self.uuid)),
            Err(source) => return Err(self.failure(DownloadFailure::File { path, source })),
        }
        let partial = partial(&path);
        let mut backoff = Backoff::new(self.options.pause, 2.0, Duration::from_secs(30), 0.2);
        let mut reached = 0;
        loop {
            let failure = match self.attempt(&partial).await {
                Ok(()) => break,
                Err(failure) => failure,
            };
            if self.cancel.is_cancelled() {
                return Err(ImageError::Cancelled(self.uuid));
            }
            if !failure.is_transient() {
                // What is there is not the beginning of the right file, or cannot be written.
                let _ = fs::remove_file(&partial);
                return Err(self.failure(failure));
            }
            let now = fs::metadata(&partial).map_or(0, |metadata| metadata.len());
            if now > reached {
                (reached, backoff) = (now, Backoff::new(self.options.pause, 2.0, Duration::from_secs(30), 0.2));
            }
            if backoff.attempts() + 1 >= self.options.attempts.max(1) {
                return Err(self.failure(failure));
            }
            self.progress.event(&Event::Retrying { image: self.uuid, reason: chain(&failure).to_string() });
            tokio::time::sleep(backoff.next_delay()).await;
        }
        fs::rename(&partial, &path).map_err(|source| self.failure(DownloadFailure::File { path: path.clone(), source }))?;
        steps::reached("image.import.downloaded");
        Ok(path)
    }

    /// One request. What came stays in `partial` unless it is certainly wrong.
    async fn attempt(&self, partial: &Path) -> Result<(), DownloadFailure> {
        let trouble = |source| DownloadFailure::File { path: partial.to_owned(), source };
        let expected = self.file.size;
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(partial).map_err(trouble)?;
        let (mut hash, mut have) = (Sha1::new(), 0);
        let kept = file.metadata().map_err(trouble)?.len();
        if kept > 0 && kept <= expected {
            have = feed(&mut file, &mut hash, &mut |_| !self.cancel.is_cancelled()).map_err(trouble)?;
        }
        if have == expected && expected > 0 && hex(&hash.clone().finalize()) == self.file.sha1 {
            // Complete, and its importer was killed before the rename.
            return Ok(());
        }
        if kept > expected || have >= expected {
            file.set_len(0).and_then(|()| file.rewind()).map_err(trouble)?;
            (hash, have) = (Sha1::new(), 0);
        }
        let resumed = have > 0;
        let mut download = self.source.download(self.uuid, self.index, have).await?;
        if download.offset == 0 && have > 0 {
            // The source cannot continue.
            file.set_len(0).and_then(|()| file.rewind()).map_err(trouble)?;
            (hash, have) = (Sha1::new(), 0);
        }
        if let Some(length) = download.length
            && have + length != expected
        {
            return Err(DownloadFailure::ContentLength { expected, found: have + length });
        }
        self.progress.event(&Event::Downloading { image: self.uuid, file: self.index, offset: have, size: expected });
        steps::reached("image.import.downloading");
        while let Some(chunk) = download.chunk().await? {
            if self.cancel.is_cancelled() {
                return Err(trouble(io::Error::other(crate::decompress::Cancelled)));
            }
            have += chunk.len() as u64;
            if have > expected {
                return Err(DownloadFailure::Size { expected, found: have });
            }
            file.write_all(&chunk).map_err(trouble)?;
            hash.update(&chunk);
            self.progress.bytes(have, expected);
        }
        if have != expected {
            return Err(DownloadFailure::Size { expected, found: have });
        }
        let found = hex(&hash.finalize());
        if found == self.file.sha1 {
            return Ok(());
        }
        // The kept beginning may be of another file: then the whole file may still be right.
        file.set_len(0).map_err(trouble)?;
        match resumed && download.offset > 0 {
            true => Err(DownloadFailure::Size { expected, found: 0 }),
            false => Err(DownloadFailure::Checksum { expected: self.file.sha1.clone(), found }),
        }
    }
}

/// Compares a file with the manifest: `None` when it is the right one.
///
/// # Errors
/// When it cannot be read, or `go_on` says to stop.
pub(crate) fn check(path: &Path, file: &ImageFile, go_on: &mut dyn FnMut(u64) -> bool) -> io::Result<Option<DownloadFailure>> {
    let mut reader = File::open(path)?;
    let found = reader.metadata()?.len();
    if found != file.size {
        return Ok(Some(DownloadFailure::Size { expected: file.size, found }));
    }
    let mut hash = Sha1::new();
    feed(&mut reader, &mut hash, go_on)?;
    let found = hex(&hash.finalize());
    Ok((found != file.sha1).then(|| DownloadFailure::Checksum { expected: file.sha1.clone(), found }))
}

/// Hashes the rest of `file`; returns its length. `go_on` gets the number of bytes so far.
fn feed(file: &mut File, hash: &mut Sha1, go_on: &mut dyn FnMut(u64) -> bool) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        hash.update(&buffer[..count]);
        total += count as u64;
        if !go_on(total) {
            return Err(io::Error::other(crate::decompress::Cancelled));
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
