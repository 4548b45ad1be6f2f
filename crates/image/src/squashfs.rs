//! The root of a split LXD image, unpacked by `unsquashfs` (Debian: `squashfs-tools`, 4.5 or later).

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use crate::{CancelToken, unpack::Bounds};

/// A squashfs could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum SquashfsFailure {
    /// The tool could not be run.
    #[error("could not run unsquashfs (Debian package squashfs-tools)")]
    Run(#[source] io::Error),
    /// The tool failed.
    #[error("unsquashfs {verb} ended with {status}: {stderr}")]
    Failed {
        /// What it was asked to do.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it said.
        stderr: String,
    },
    /// The content is larger than an image of its size may be.
    #[error("the file system holds more than {bytes} bytes or {entries} entries")]
    TooLarge {
        /// The limit.
        bytes: u64,
        /// The limit.
        entries: u64,
    },
    /// It was asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl SquashfsFailure {
    pub(crate) fn is_no_space(&self) -> bool {
        match self {
            Self::Failed { stderr, .. } => stderr.contains("No space left on device") || stderr.contains("quota exceeded"),
            _ => false,
        }
    }
}

/// Ends the tool when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool() -> Command {
    let mut command = Command::new("unsquashfs");
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").stdin(Stdio::null());
    command
}

/// Unpacks `file` into the directory `root`, with owners, modes, links, devices and extended attributes. The content is
/// measured first: the tool has no limit of its own.
pub(crate) fn unpack(file: &Path, root: &Path, bounds: Bounds, cancel: &CancelToken) -> Result<(), SquashfsFailure> {
    measure(file, bounds, cancel)?;
    let mut command = tool();
    command.args(["-no-progress", "-quiet", "-force", "-processors", "2", "-dest"]).arg(root).arg(file);
    let mut child = Running(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(SquashfsFailure::Run)?);
    let stderr = reader_of(child.0.stderr.take());
    let status = loop {
        if let Some(status) = child.0.try_wait().map_err(SquashfsFailure::Run)? {
            break status;
        }
        if cancel.is_cancelled() {
            return Err(SquashfsFailure::Cancelled);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    finish("-dest", status, stderr)
}

/// Sums the sizes that the listing shows.
fn measure(file: &Path, bounds: Bounds, cancel: &CancelToken) -> Result<(), SquashfsFailure> {
    let mut command = tool();
    command.arg("-llnumeric").arg(file);
    let mut child = Running(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(SquashfsFailure::Run)?);
    let stderr = reader_of(child.0.stderr.take());
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut lines = BufReader::new(child.0.stdout.take().ok_or_else(|| SquashfsFailure::Run(io::ErrorKind::BrokenPipe.into()))?);
    let mut line = Vec::new();
    loop {
        line.clear();
        // A name has at most 255 bytes per component; a longer line is none of the tool's.
        if lines.by_ref().take(64 << 10).read_until(b'\n', &mut line).map_err(SquashfsFailure::Run)? == 0 {
            break;
        }
        entries += 1;
        bytes = bytes.saturating_add(size_of(&line));
        if bytes > bounds.bytes || entries > bounds.entries {
            return Err(SquashfsFailure::TooLarge { bytes: bounds.bytes, entries: bounds.entries });
        }
        if cancel.is_cancelled() {
            return Err(SquashfsFailure::Cancelled);
        }
    }
    let status = child.0.wait().map_err(SquashfsFailure::Run)?;
    finish("-llnumeric", status, stderr)
}

/// The size in `-rw-r--r-- 0/0   123 2024-01-01 00:00 squashfs-root/a`; 0 for everything but regular files.
fn size_of(line: &[u8]) -> u64 {
    if line.first() != Some(&b'-') {
        return 0;
    }
    let text = String::from_utf8_lossy(line);
    text.split_ascii_whitespace().nth(2).and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Collects the end of a pipe in a thread, so that a talkative tool never blocks.
fn reader_of(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut last = Vec::new();
        let Some(mut pipe) = pipe else { return String::new() };
        let mut buffer = [0; 4096];
        while let Ok(count) = pipe.read(&mut buffer) {
            if count == 0 {
                break;
            }
            last.extend_from_slice(&buffer[..count]);
            let excess = last.len().saturating_sub(2048);
            last.drain(..excess);
        }
        String::from_utf8_lossy(&last).trim().to_owned()
    })
}

fn finish(verb: &'static str, status: ExitStatus, stderr: std::thread::JoinHandle<String>) -> Result<(), SquashfsFailure> {
    let stderr = stderr.join().unwrap_or_default();
    // 2: everything was unpacked but some attribute of some file, which the file system cannot hold.
    match status.code() {
        Some(0) => Ok(()),
        Some(2) if !stderr.contains("No space left") => {
            tracing::warn!(stderr, "some attributes of the image could not be kept");
            Ok(())
        }
        _ => Err(SquashfsFailure::Failed { verb, status, stderr }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_from_the_listing_of_regular_files_only() {
        assert_eq!(size_of(b"-rw-r--r-- 0/0                 12345 2024-01-01 00:00 squashfs-root/a b\n"), 12345);
        assert_eq!(size_of(b"drwxr-xr-x 0/0                   54 2024-01-01 00:00 squashfs-root\n"), 0);
        assert_eq!(size_of(b"crw-r--r-- 0/0            1,  3 2024-01-01 00:00 squashfs-root/null\n"), 0);
        assert_eq!(size_of(b"\n"), 0);
    }
}
