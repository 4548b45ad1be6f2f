//! A tree as a tar archive, with everything that matters to a guest: numeric owners as the guest sees them, modes, hard
//! links, nodes, times, extended attributes. The inverse is the unpacking of images.

use std::{
    collections::HashMap,
    ffi::{CStr, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{fd::BorrowedFd, unix::ffi::OsStrExt},
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, SFlag, fstat, major, minor},
};
use tar::{Builder, EntryType, Header};
use triton_types::IdRange;

use super::{
    Entry, Failure, TreeError, Visitor,
    attributes::{NOT_COPIED, get_attribute, inode_path, list_attributes},
    copy::open_inode,
    walk,
    walk::{Identity, identity},
};
use crate::ownership::unshifted;

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Files of all kinds, directories too.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// An archive being written, of one tree or of several beside each other.
pub(crate) struct Packer<'a> {
    archive: Builder<&'a mut dyn Write>,
    ids: Option<IdRange>,
    relative: PathBuf,
    links: HashMap<Identity, (PathBuf, u64)>,
    packed: Packed,
}

impl<'a> Packer<'a> {
    pub(crate) fn new(out: &'a mut dyn Write) -> Self {
        Self { archive: Builder::new(out), ids: None, relative: PathBuf::new(), links: HashMap::new(), packed: Packed::default() }
    }

    /// Adds the tree at `from` as `name`. With `ids`, owners on disk are in that range, and become what the guest sees.
    ///
    /// # Errors
    /// The first failure with its path: also a socket's absence is none (sockets are left out), but an id outside the range is.
    pub(crate) fn tree(&mut self, from: &Path, name: &str, ids: Option<IdRange>) -> Result<(), TreeError> {
        self.ids = ids;
        self.links.clear();
        self.relative = PathBuf::from(name);
        // The top comes first: who unpacks needs its attributes only, but a reader expects a directory before its content.
        let top = super::open_directory(from)?;
        let failed = |failure: Failure| TreeError::new(failure.action, from, failure.source);
        let stat = fstat(&top).map_err(|e| TreeError::new("examine", from, e))?;
        self.directory(&inode_path(&top), &stat).map_err(failed)?;
        drop(top);
        walk(from, self)
    }

    /// Adds a file that is made up.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> Result<(), TreeError> {
        let mut header = Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        self.archive.append_data(&mut header, name, content).map_err(|e| TreeError::new("pack", name, e))
    }

    /// Ends the archive.
    ///
    /// # Errors
    /// When its end cannot be written.
    pub(crate) fn finish(mut self) -> Result<Packed, TreeError> {
        self.archive.finish().map_err(|e| TreeError::new("end the archive of", &self.relative, e))?;
        Ok(self.packed)
    }

    fn id(&self, id: u32) -> Result<u64, Failure> {
        let Some(IdRange { base, size }) = self.ids else { return Ok(u64::from(id)) };
        match id.checked_sub(base).filter(|offset| *offset < size) {
            Some(offset) => Ok(u64::from(offset)),
            None => {
                let text = format!("its owner {id} is not in the instance's range ({base} to {})", base + (size - 1));
                Err(Failure { action: "pack", source: io::Error::new(io::ErrorKind::InvalidData, text) })
            }
        }
    }

    fn header(&self, kind: EntryType, stat: &FileStat) -> Result<Header, Failure> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(stat.st_mode & 0o7777);
        header.set_uid(self.id(stat.st_uid)?);
        header.set_gid(self.id(stat.st_gid)?);
        header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
        header.set_size(0);
        Ok(header)
    }

    /// Extended attributes and the exact time, before the entry that they are of.
    fn records(&mut self, inode: &Path, stat: &FileStat) -> Result<(), Failure> {
        let mut records = Vec::new();
        if stat.st_mtime >= 0 && stat.st_mtime_nsec != 0 {
            records.push(("mtime".to_owned(), format!("{}.{:09}", stat.st_mtime, stat.st_mtime_nsec).into_bytes()));
        }
        if stat.st_mode & libc::S_IFMT != libc::S_IFLNK {
            for name in list_attributes(inode).map_err(Failure::new("list extended attributes of"))? {
                let Some(text) = name.to_str().filter(|text| !NOT_COPIED.contains(text) && !text.starts_with("trusted.")) else { continue };
                let Some(mut value) = get_attribute(inode, &name).map_err(Failure::new("read an extended attribute of"))? else { continue };
                if let Some(ids) = self.ids {
                    value = unshifted(text, &value, ids).map_err(|id| {
                        let text = format!("its ACL names {id}, which is not in the instance's range");
                        Failure { action: "pack", source: io::Error::new(io::ErrorKind::InvalidData, text) }
                    })?;
                }
                records.push((format!("SCHILY.xattr.{text}"), value));
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        let records = records.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
        self.archive.append_pax_extensions(records).map_err(Failure::new("pack the attributes of"))
    }

    fn directory(&mut self, inode: &Path, stat: &FileStat) -> Result<(), Failure> {
        let mut header = self.header(EntryType::Directory, stat)?;
        self.records(inode, stat)?;
        self.packed.entries += 1;
        let path = self.relative.join("");
        self.archive.append_data(&mut header, path, io::empty()).map_err(Failure::new("pack the directory"))
    }

    fn regular(&mut self, entry: &Entry<'_>, path: &Path) -> Result<(), Failure> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = File::from(openat(entry.directory, entry.name, flags, Mode::empty()).map_err(Failure::new("open"))?);
        let stat = fstat(&file).map_err(Failure::new("examine"))?;
        if identity(&stat) != identity(entry.stat) {
            return Err(Failure::because("pack the replaced file", nix::errno::Errno::ESTALE));
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let mut header = self.header(EntryType::Regular, &stat)?;
        header.set_size(size);
        self.records(&inode_path(&file), &stat)?;
        // A file that grows or shrinks meanwhile must not shift all that follows.
        let exact = Exact { inner: &file, left: size };
        self.archive.append_data(&mut header, path, exact).map_err(Failure::new("pack the content of"))?;
        self.packed.bytes += size;
        Ok(())
    }

    fn special(&mut self, entry: &Entry<'_>, path: &Path) -> Result<(), Failure> {
        let kind = match entry.kind() {
            SFlag::S_IFLNK => EntryType::Symlink,
            SFlag::S_IFIFO => EntryType::Fifo,
            SFlag::S_IFCHR => EntryType::Char,
            _ => EntryType::Block,
        };
        let mut header = self.header(kind, entry.stat)?;
        if kind == EntryType::Symlink {
            let target = readlinkat(entry.directory, entry.name).map_err(Failure::new("read the link"))?;
            self.records(Path::new(""), entry.stat)?;
            return self.archive.append_link(&mut header, path, target).map_err(Failure::new("pack the link"));
        }
        let number = |value: u64| u32::try_from(value).unwrap_or(0);
        let device = |error| Failure { action: "pack the node", source: error };
        header.set_device_major(number(major(entry.stat.st_rdev))).map_err(device)?;
        header.set_device_minor(number(minor(entry.stat.st_rdev))).map_err(device)?;
        let inode = open_inode(entry.directory, entry.name)?;
        self.records(&inode_path(&inode), entry.stat)?;
        self.archive.append_data(&mut header, path, io::empty()).map_err(Failure::new("pack the node"))
    }

    /// Notes a file with several names; the first one when it is not this one.
    fn linked(&mut self, stat: &FileStat, path: &Path) -> Option<PathBuf> {
        if stat.st_nlink < 2 {
            return None;
        }
        let key = identity(stat);
        match self.links.get_mut(&key) {
            None => {
                self.links.insert(key, (path.to_owned(), stat.st_nlink - 1));
                None
            }
            Some((first, left)) => {
                let first = first.clone();
                *left -= 1;
                if *left == 0 {
                    self.links.remove(&key);
                }
                Some(first)
            }
        }
    }

    fn path(&self, name: &CStr) -> PathBuf {
        self.relative.join(OsStr::from_bytes(name.to_bytes()))
    }
}

impl Visitor for Packer<'_> {
    fn file(&mut self, entry: &Entry<'_>) -> Result<(), Failure> {
        // A socket is the process's that listens on it; archives have no kind for it.
        if entry.kind() == SFlag::S_IFSOCK {
            return Ok(());
        }
        let path = self.path(entry.name);
        self.packed.entries += 1;
        if let Some(first) = self.linked(entry.stat, &path) {
            let mut header = self.header(EntryType::Link, entry.stat)?;
            return self.archive.append_link(&mut header, path, first).map_err(Failure::new("pack the hard link"));
        }
        if entry.kind() == SFlag::S_IFREG { self.regular(entry, &path) } else { self.special(entry, &path) }
    }

    fn enter(&mut self, entry: &Entry<'_>) -> Result<bool, Failure> {
        self.relative.push(OsStr::from_bytes(entry.name.to_bytes()));
        let inode = open_inode(entry.directory, entry.name)?;
        self.directory(&inode_path(&inode), entry.stat)?;
        Ok(true)
    }

    fn leave(&mut self, _: BorrowedFd<'_>, _: &FileStat, depth: usize) -> Result<(), Failure> {
        if depth > 0 {
            self.relative.pop();
        }
        Ok(())
    }
}

/// As many bytes as a header promised: what is missing is an error, what is more is left.
struct Exact<'a> {
    inner: &'a File,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.inner.read(&mut buffer[..most])?;
        if count == 0 && most > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was packed"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}
