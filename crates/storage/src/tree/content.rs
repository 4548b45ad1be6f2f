//! Content of one file: shared where the file system can, copied inside the kernel else, holes kept as holes.

use std::os::fd::OwnedFd;

use nix::{
    errno::Errno,
    fcntl::copy_file_range,
    sys::{
        stat::FileStat,
        uio::{pread, pwrite},
    },
    unistd::{Whence, ftruncate, lseek},
};

use super::{attributes::is_unsupported, ffi};

/// Most bytes per call, so that a kill takes effect soon.
const CHUNK: usize = 64 << 20;

/// Which ways still work; one that failed as unsupported is not tried for every file of the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub reflink: bool,
    pub kernel: bool,
}

impl Default for Ways {
    fn default() -> Self {
        Self { reflink: true, kernel: true }
    }
}

/// Copies the content of `from`, described by `stat`, to the empty file `to`.
pub(crate) fn copy_content(from: &OwnedFd, stat: &FileStat, to: &OwnedFd, ways: &mut Ways) -> Result<(), Errno> {
    if stat.st_size == 0 {
        return Ok(());
    }
    if ways.reflink {
        match ffi::reflink(from, to) {
            Ok(()) => return Ok(()),
            Err(errno) if is_unsupported(errno) => ways.reflink = false,
            Err(errno) => return Err(errno),
        }
    }
    // The length first: what is not written below stays a hole.
    ftruncate(to, stat.st_size)?;
    let mut at = 0;
    while at < stat.st_size {
        let begin = match lseek(from, at, Whence::SeekData) {
            Ok(begin) => begin,
            Err(Errno::ENXIO) => break,
            Err(Errno::EINVAL) => at,
            Err(errno) => return Err(errno),
        };
        let end = match lseek(from, begin, Whence::SeekHole) {
            Ok(end) => end.min(stat.st_size),
            Err(Errno::EINVAL) => stat.st_size,
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno),
        };
        if end <= begin {
            break;
        }
        copy_range(from, to, begin, end, ways)?;
        at = end;
    }
    Ok(())
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, mut at: i64, end: i64, ways: &mut Ways) -> Result<(), Errno> {
    while at < end {
        let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
        let copied = if ways.kernel {
            let (mut source, mut target) = (at, at);
            match copy_file_range(from, Some(&mut source), to, Some(&mut target), length) {
                Err(errno) if is_unsupported(errno) => {
                    ways.kernel = false;
                    continue;
                }
                other => other?,
            }
        } else {
            copy_block(from, to, at, length)?
        };
        if copied == 0 {
            // The file became shorter meanwhile.
            return Ok(());
        }
        at += copied as i64;
    }
    Ok(())
}

fn copy_block(from: &OwnedFd, to: &OwnedFd, at: i64, length: usize) -> Result<usize, Errno> {
    let mut buffer = vec![0; length.min(128 << 10)];
    let count = pread(from, &mut buffer, at)?;
    let mut written = 0;
    while written < count {
        written += pwrite(to, &buffer[written..count], at + written as i64)?;
    }
    Ok(count)
}
