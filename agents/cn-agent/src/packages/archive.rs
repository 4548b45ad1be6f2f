//! Unpacking the archive of an agent: a tar file, packed with gzip or bzip2.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek},
    path::Path,
};

use super::{PackageError, system};

/// Most bytes and entries of an unpacked agent.
const MOST_BYTES: u64 = 4 << 30;
const MOST_ENTRIES: usize = 200_000;

/// How an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Gzip,
    Bzip2,
    Plain,
}

impl Packing {
    /// Recognises it by the first bytes, whatever the manifest says.
    pub(crate) fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            _ => Self::Plain,
        }
    }
}

/// Ends with an error after a number of bytes.
struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("the archive holds too much"))?;
        Ok(count)
    }
}

/// Unpacks `archive` into `target`. Nothing gets outside of it: entries that would are refused, as are devices.
pub(super) fn unpack(archive: &Path, target: &Path) -> Result<(), PackageError> {
    let mut file = File::open(archive).map_err(system("open", archive))?;
    let mut head = [0; 4];
    let count = file.read(&mut head).map_err(system("read", archive))?;
    file.rewind().map_err(system("read", archive))?;
    let file = BufReader::new(file);
    let reader: Box<dyn Read> = match Packing::of(&head[..count]) {
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(file)),
        Packing::Plain => Box::new(file),
    };
    let broken = |error: io::Error| PackageError::Archive(format!("the image's file {} cannot be unpacked: {error}", archive.display()));
    let mut tar = tar::Archive::new(Limited { inner: reader, left: MOST_BYTES });
    tar.set_preserve_permissions(true);
    tar.set_preserve_ownerships(false);
    for (number, entry) in tar.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        let name = entry.path().map_err(broken)?.display().to_string();
        let kind = entry.header().entry_type();
        let kept = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link() || kind.is_gnu_sparse();
        if number >= MOST_ENTRIES || !kept {
            return Err(PackageError::Archive(format!("the image's file has too many entries, or one that no agent needs: {name:?}")));
        }
        if !entry.unpack_in(target).map_err(broken)? {
            return Err(PackageError::Archive(format!("the image's file has an entry that leads out of it: {name:?}")));
        }
    }
    Ok(())
}

/// Refuses a package with a link that leads out of it: scripts, programs and `package.json` are opened, and made executable, by path.
pub(super) fn check_links(package: &Path) -> Result<(), PackageError> {
    let within = package.canonicalize().map_err(|_| {
        let name = package.file_name().unwrap_or_default().display();
        PackageError::Archive(format!("the image is not that of an agent: it has no directory {name}"))
    })?;
    if within.as_path() != package && package.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(leads_out(package));
    }
    let mut directories = vec![within.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).map_err(system("read", &directory))? {
            let entry = entry.map_err(system("read", &directory))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(system("read", &directory))?);
            if kind.is_dir() {
                directories.push(path);
            } else if kind.is_symlink() {
                let to = fs::read_link(&path).map_err(system("read", &path))?;
                // One that leads nowhere now may lead out of it later.
                let inside = to.is_relative() && path.canonicalize().is_ok_and(|to| to.starts_with(&within));
                if !inside {
                    return Err(leads_out(&path));
                }
            }
        }
    }
    Ok(())
}

fn leads_out(link: &Path) -> PackageError {
    let name = link.file_name().unwrap_or_default().display().to_string();
    PackageError::Archive(format!("the image's file has a link that leads out of it, or nowhere: {name:?}"))
}
