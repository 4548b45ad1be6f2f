//! One entry of an archive becomes one file.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::{
        stat::{FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmodat, futimens, mknodat, utimensat},
        time::TimeSpec,
    },
    unistd::{Gid, Uid, fchownat, linkat, symlinkat},
};
use tar::EntryType;
use xattr::FileExt;

use super::{
    Bounds, Summary, UnpackFailure,
    names::Mapping,
    reader::Entry,
    target::{Attributes, Target, system},
    whiteout,
};

/// null, zero, full, random, urandom, tty, console, ptmx; and 0:0, by which an overlay file system marks what is removed.
const HARMLESS: [(u32, u32); 9] = [(0, 0), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];

/// Unpacks one entry. True when it is part of the guest's root.
pub(super) fn unpack(
    entry: &Entry,
    content: &mut impl Read,
    mapping: &Mapping,
    target: &mut Target,
    summary: &mut Summary,
    bounds: Bounds,
) -> Result<bool, UnpackFailure> {
    let kind = entry.header.entry_type();
    let Some(path) = mapping.map(&entry.name)? else { return Ok(false) };
    if target.is_layered() && whiteout::of(&path)?.is_some() {
        return Ok(true);
    }
    if entry.records.sparse {
        return Err(UnpackFailure::Kind("a sparse file in PAX form; pack it with --format=gnu or without --sparse".to_owned()));
    }
    let attributes = attributes(entry)?;
    if path.as_os_str().is_empty() {
        // The guest's root itself.
        if kind != EntryType::Directory {
            return Err(UnpackFailure::Kind("the guest's root is not a directory".to_owned()));
        }
        Target::own(target.root(), &attributes)?;
        target.remember_time(&path, &attributes);
        return Ok(true);
    }
    let (parent, name) = target.parent(&path)?;
    let name = name.as_os_str();
    match kind {
        EntryType::Directory => {
            let directory = Target::make_directory(parent.as_fd(), name)?;
            Target::own(&directory, &attributes)?;
            set_attributes(&directory, entry, summary)?;
            target.remember_time(&path, &attributes);
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            target.clear(parent.as_fd(), name)?;
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = openat(&parent, name, flags, Mode::from_bits_truncate(0o600)).map_err(system("make a file"))?;
            let mut file = File::from(fd);
            let mut writer = Writer { file: &mut file, content, summary, bounds };
            writer.run(entry)?;
            Target::own(&file, &attributes)?;
            set_attributes(&file, entry, summary)?;
            futimens(&file, &attributes.mtime, &attributes.mtime).map_err(system("set the time"))?;
        }
        EntryType::Symlink => {
            target.clear(parent.as_fd(), name)?;
            symlinkat(OsStr::from_bytes(&entry.link), &parent, name).map_err(system("make a symbolic link"))?;
            own_by_name(&parent, name, &attributes)?;
        }
        EntryType::Link => {
            let source = mapping.map(&entry.link)?.filter(|path| !path.as_os_str().is_empty());
            let source = source.ok_or(UnpackFailure::Name("links to something outside of the guest's root"))?;
            hard_link(target, &source, parent.as_fd(), name)?;
        }
        EntryType::Char | EntryType::Block if target.is_layered() => {
            // A guest gets its own /dev: what images of other systems carry of it is not missed. Anything else leads to the
            // host's hardware.
            let number = |value: io::Result<Option<u32>>| value.map_err(UnpackFailure::Archive).map(Option::unwrap_or_default);
            let device = (number(entry.header.device_major())?, number(entry.header.device_minor())?);
            if kind == EntryType::Block || !HARMLESS.contains(&device) {
                return Err(UnpackFailure::Kind(format!("device {}:{}, which is not a guest's to have", device.0, device.1)));
            }
            summary.devices_left_out += 1;
        }
        EntryType::Fifo | EntryType::Char | EntryType::Block => {
            target.clear(parent.as_fd(), name)?;
            if !node(&entry.header, kind, &parent, name)? {
                summary.devices_left_out += 1;
                return Ok(true);
            }
            own_by_name(&parent, name, &attributes)?;
            let mode = Mode::from_bits_truncate(attributes.mode);
            fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink).map_err(system("set the mode"))?;
        }
        other => return Err(UnpackFailure::Kind(format!("tar type {:?}", char::from(other.as_byte())))),
    }
    Ok(true)
}

/// Writes the content of a file and counts it.
struct Writer<'a, R> {
    file: &'a mut File,
    content: &'a mut R,
    summary: &'a mut Summary,
    bounds: Bounds,
}

impl<R: Read> Writer<'_, R> {
    fn failed(error: io::Error) -> UnpackFailure {
        UnpackFailure::System("write a file", error)
    }

    fn run(&mut self, entry: &Entry) -> Result<(), UnpackFailure> {
        let length = match &entry.sparse {
            None => self.copy(u64::MAX)?,
            Some((pieces, length)) => {
                self.count(length.saturating_sub(pieces.iter().fold(0, |sum, (_, piece)| sum.saturating_add(*piece))))?;
                for (offset, piece) in pieces {
                    if offset.checked_add(*piece).is_none_or(|end| end > *length) {
                        return Err(UnpackFailure::Kind("a sparse file whose pieces lie outside of it".to_owned()));
                    }
                    self.file.seek(SeekFrom::Start(*offset)).map_err(Self::failed)?;
                    self.copy(*piece)?;
                }
                *length
            }
        };
        self.file.set_len(length).map_err(Self::failed)
    }

    fn count(&mut self, bytes: u64) -> Result<(), UnpackFailure> {
        self.summary.bytes = self.summary.bytes.saturating_add(bytes);
        match self.summary.bytes > self.bounds.bytes {
            true => Err(UnpackFailure::TooLarge { bytes: self.bounds.bytes, entries: self.bounds.entries }),
            false => Ok(()),
        }
    }

    /// Copies at most `limit` bytes, leaving holes where they are zero.
    fn copy(&mut self, limit: u64) -> Result<u64, UnpackFailure> {
        let mut buffer = vec![0; 64 << 10];
        let mut length = 0;
        while length < limit {
            let most = usize::try_from(limit - length).unwrap_or(usize::MAX).min(buffer.len());
            let count = self.content.read(&mut buffer[..most]).map_err(UnpackFailure::Archive)?;
            if count == 0 {
                break;
            }
            length += count as u64;
            self.count(count as u64)?;
            let bytes = &buffer[..count];
            if count >= 4096 && bytes.iter().all(|&byte| byte == 0) {
                self.file.seek_relative(i64::try_from(count).unwrap_or(0)).map_err(Self::failed)?;
            } else {
                self.file.write_all(bytes).map_err(Self::failed)?;
            }
        }
        Ok(length)
    }
}

fn hard_link(target: &mut Target, source: &Path, parent: impl AsFd, name: &OsStr) -> Result<(), UnpackFailure> {
    let (Some(directory), Some(file)) = (source.parent(), source.file_name()) else {
        return Err(UnpackFailure::Name("links to nothing"));
    };
    let directory = target.directory(directory, false)?;
    if let (Ok(old), Ok(new)) = (
        nix::sys::stat::fstatat(&directory, file, AtFlags::AT_SYMLINK_NOFOLLOW),
        nix::sys::stat::fstatat(&parent, name, AtFlags::AT_SYMLINK_NOFOLLOW),
    ) && (old.st_dev, old.st_ino) == (new.st_dev, new.st_ino)
    {
        return Ok(());
    }
    target.clear(parent.as_fd(), name)?;
    linkat(&directory, file, &parent, name, AtFlags::empty()).map_err(system("make a hard link"))
}

/// Makes a fifo or a device; false when the kernel forbids devices here.
fn node(header: &tar::Header, kind: EntryType, parent: impl AsFd, name: &OsStr) -> Result<bool, UnpackFailure> {
    let number = |value: io::Result<Option<u32>>| value.map(Option::unwrap_or_default).map_err(UnpackFailure::Archive);
    let (flag, device) = match kind {
        EntryType::Fifo => (SFlag::S_IFIFO, 0),
        kind => {
            let device = nix::sys::stat::makedev(number(header.device_major())?.into(), number(header.device_minor())?.into());
            (if kind == EntryType::Char { SFlag::S_IFCHR } else { SFlag::S_IFBLK }, device)
        }
    };
    match mknodat(parent, name, flag, Mode::empty(), device) {
        Ok(()) => Ok(true),
        Err(Errno::EPERM) if kind != EntryType::Fifo => Ok(false),
        Err(errno) => Err(system("make a device node")(errno)),
    }
}

fn own_by_name(parent: impl AsFd, name: &OsStr, attributes: &Attributes) -> Result<(), UnpackFailure> {
    let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
    fchownat(&parent, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(system("set the owner"))?;
    let time = &attributes.mtime;
    utimensat(&parent, name, time, time, UtimensatFlags::NoFollowSymlink).map_err(system("set the time"))
}

fn attributes(entry: &Entry) -> Result<Attributes, UnpackFailure> {
    let (header, records) = (&entry.header, &entry.records);
    let raw = header.as_old();
    // A field without digits is 0, as GNU tar has it.
    let number = |field: &[u8], value: io::Result<u64>| match field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        true => Ok(0),
        false => value.map_err(UnpackFailure::Archive),
    };
    let id = |recorded: Option<u64>, field: &[u8], value: io::Result<u64>| {
        let value = match recorded {
            Some(value) => value,
            None => number(field, value)?,
        };
        // The highest id means "unchanged" to the kernel.
        u32::try_from(value).ok().filter(|&id| id != u32::MAX).ok_or_else(|| UnpackFailure::Kind(format!("owner {value}")))
    };
    let (secs, nanos) = match records.mtime {
        Some(time) => time,
        None => (i64::try_from(number(&raw.mtime, header.mtime())?).unwrap_or(0), 0),
    };
    Ok(Attributes {
        uid: id(records.uid, &raw.uid, header.uid())?,
        gid: id(records.gid, &raw.gid, header.gid())?,
        mode: u32::try_from(number(&raw.mode, header.mode().map(u64::from))? & 0o7777).unwrap_or(0),
        mtime: TimeSpec::new(secs, nanos),
    })
}

/// Attributes that belong to a guest's file system. Others (`trusted.overlay.*`, `security.ima`) steer the host's kernel.
fn is_a_guests(name: &[u8]) -> bool {
    name.starts_with(b"user.") || matches!(name, b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn set_attributes(file: &File, entry: &Entry, summary: &mut Summary) -> Result<(), UnpackFailure> {
    for (name, value) in &entry.records.attributes {
        if !is_a_guests(name) {
            summary.attributes_left_out += 1;
            continue;
        }
        match file.set_xattr(OsStr::from_bytes(name), value) {
            Ok(()) => {}
            Err(error) if matches!(error.raw_os_error(), Some(code) if [Errno::ENOTSUP, Errno::EPERM].contains(&Errno::from_raw(code))) => {
                summary.attributes_left_out += 1;
            }
            Err(error) => return Err(UnpackFailure::System("set an extended attribute", error)),
        }
    }
    Ok(())
}
