//! Files of a guest, from inside: every path is resolved by the kernel in the guest's root, with the guest's rights.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read, Write, stdin, stdout},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use nix::libc;

use super::{Looked, normal};

/// Says what `path` is, not following it.
pub(super) fn look(path: &str) -> Result<ExitCode, String> {
    let path = normal(path);
    let looked = match fs::symlink_metadata(&path) {
        Ok(metadata) => Looked::Is {
            directory: metadata.is_dir(),
            link: metadata.is_symlink().then(|| fs::read_link(&path).map(|to| to.to_string_lossy().into_owned()).unwrap_or_default()),
            size: metadata.size(),
            modified: metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
            mode: metadata.mode(),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Looked::Absent,
        Err(error) if error.kind() == ErrorKind::NotADirectory => Looked::NotDirectory,
        Err(error) => Looked::Failed(format!("{path}: {error}")),
    };
    let text = serde_json::to_string(&looked).map_err(|error| error.to_string())?;
    stdout().write_all(text.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Exactly as many bytes as its header says, whatever becomes of the file meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most).filter(|buffer| !buffer.is_empty()) else { return Ok(0) };
        let mut count = self.file.read(buffer)?;
        if count == 0 {
            buffer.fill(0);
            count = most;
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Writes `path`, with all below it on the same file system, as an archive. The names in it begin with its own last name.
pub(super) fn read(path: &str) -> Result<ExitCode, String> {
    let path = PathBuf::from(normal(path));
    let name = path.file_name().map_or_else(|| PathBuf::from("."), PathBuf::from);
    let failed = |error: io::Error| format!("{}: {error}", path.display());
    let top = fs::symlink_metadata(&path).map_err(failed)?;
    let mut archive = tar::Builder::new(io::BufWriter::with_capacity(64 << 10, stdout().lock()));
    let mut waiting = vec![(path.clone(), name, top.clone())];
    while let Some((path, name, metadata)) = waiting.pop() {
        append(&mut archive, &path, &name, &metadata).map_err(failed)?;
        if metadata.is_dir() && metadata.dev() == top.dev() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                // One that ends meanwhile is not there.
                if let Ok(metadata) = entry.metadata() {
                    waiting.push((entry.path(), name.join(entry.file_name()), metadata));
                }
            }
        }
    }
    archive.into_inner().and_then(|mut out| out.flush()).map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn append<W: Write>(archive: &mut tar::Builder<W>, path: &Path, name: &Path, metadata: &Metadata) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_metadata(metadata);
    if metadata.is_symlink() {
        let Ok(target) = fs::read_link(path) else { return Ok(()) };
        header.set_size(0);
        return archive.append_link(&mut header, name, target);
    }
    if metadata.is_file() {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(path) else { return Ok(()) };
        if !file.metadata()?.is_file() {
            return Ok(());
        }
        let left = metadata.len();
        header.set_size(left);
        return archive.append_data(&mut header, name, Exactly { file, left });
    }
    // Sockets have no form in an archive.
    if metadata.is_dir() || std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
        header.set_size(0);
        return archive.append_data(&mut header, name, io::empty());
    }
    Ok(())
}

/// Unpacks an archive in the directory `path`. An entry that would get out of it, or is a device, ends it.
pub(super) fn write(path: &str, keep_directories: bool) -> Result<ExitCode, String> {
    let target = PathBuf::from(normal(path));
    let failed = |error: io::Error| format!("{}: {error}", target.display());
    if !fs::metadata(&target).map_err(failed)?.is_dir() {
        return Err(format!("{}: it is no directory", target.display()));
    }
    let mut archive = tar::Archive::new(stdin().lock());
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_overwrite(true);
    for entry in archive.entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = entry.path().map_err(failed)?.into_owned();
        let kind = entry.header().entry_type();
        if kind.is_block_special() || kind.is_character_special() {
            return Err(format!("{} is a device", name.display()));
        }
        let there = || fs::symlink_metadata(target.join(&name)).is_ok_and(|metadata| metadata.is_dir());
        if keep_directories && kind.is_dir() && there() {
            continue;
        }
        if !entry.unpack_in(&target).map_err(failed)? {
            return Err(format!("{} leads out of the directory", name.display()));
        }
    }
    // What follows the archive is read, so that whoever sends it does not break off.
    let _ = io::copy(&mut archive.into_inner(), &mut io::sink());
    Ok(ExitCode::SUCCESS)
}
