//! The disks of this machine, and whether they may be used: what is in use is never taken, what holds anything only by name.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

/// Kernel devices that are no disks of the machine.
const NOT_DISKS: [&str; 11] = ["loop", "ram", "zram", "dm-", "md", "nbd", "zd", "sr", "fd", "mtdblock", "drbd"];
/// A pool on less is of no use.
const SMALLEST: u64 = 1 << 30;
/// So much of both ends of a disk must be zero for it to count as empty.
const LOOKED_AT: u64 = 1 << 20;

/// Whether a disk may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing is on it.
    Empty,
    /// Something is on it: what was found.
    Holds(String),
    /// Somebody uses it: who.
    InUse(String),
    /// It cannot be used: why.
    Unfit(String),
}

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// The kernel's name.
    pub(crate) name: String,
    /// A name that stays with the disk, where it has one.
    pub(crate) path: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    /// Its maker's name for it.
    pub(crate) model: String,
    /// Whether it may be used.
    pub(crate) state: State,
}

/// Lists them, by name.
///
/// # Errors
/// When the kernel's list of devices cannot be read.
pub(crate) fn list(sysfs: &Path, dev: &Path) -> io::Result<Vec<Disk>> {
    let mut disks = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(sysfs.join("block"))? {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    let mut seen: Vec<(String, String)> = Vec::new();
    for name in names.into_iter().filter(|name| !NOT_DISKS.iter().any(|start| name.starts_with(start))) {
        let folder = sysfs.join("block").join(&name);
        let size = number(&folder.join("size")).unwrap_or(0).saturating_mul(512);
        if size == 0 {
            continue;
        }
        let model = text(&folder.join("device/model")).or_else(|| text(&folder.join("device/vendor"))).unwrap_or_default();
        let mut state = state(&folder, dev, &name, size);
        // One disk on two paths would be two disks of a pool.
        if let Some(identity) = text(&folder.join("device/wwid")).or_else(|| text(&folder.join("wwid"))) {
            match seen.iter().find(|(known, _)| *known == identity) {
                Some((_, first)) => state = State::InUse(format!("it is {first} on another path")),
                None => seen.push((identity, name.clone())),
            }
        }
        disks.push(Disk { path: by_id(dev, &name), model, size, state, name });
    }
    Ok(disks)
}

fn state(folder: &Path, dev: &Path, name: &str, size: u64) -> State {
    let flag = |file: &str| number(&folder.join(file)) == Some(1);
    if flag("ro") {
        return State::Unfit("it is read-only".to_owned());
    }
    let partitions: Vec<String> = entries(folder).into_iter().filter(|entry| folder.join(entry).join("partition").exists()).collect();
    for part in std::iter::once(name).chain(partitions.iter().map(String::as_str)) {
        let place = if part == name { folder.to_owned() } else { folder.join(part) };
        if let Some(holder) = entries(&place.join("holders")).first() {
            return State::InUse(format!("{part} is used by {holder}"));
        }
        match claimed(&dev.join(part)) {
            Ok(false) => {}
            Ok(true) => return State::InUse(format!("{part} is mounted, part of an imported pool, swap, or opened by another program")),
            Err(error) => return State::Unfit(format!("{part} could not be opened: {error}")),
        }
    }
    if size < SMALLEST {
        return State::Unfit("it is smaller than 1 GiB".to_owned());
    }
    if flag("removable") {
        return State::Unfit("it is removable".to_owned());
    }
    match content(&dev.join(name), size) {
        Ok(found) if found.is_empty() && partitions.is_empty() => State::Empty,
        Ok(found) if found.is_empty() => State::Holds(format!("partitions {}", partitions.join(", "))),
        Ok(found) => State::Holds(found),
        Err(error) => State::Unfit(format!("it could not be looked at: {error}")),
    }
}

/// Whether the kernel lets nobody else have it: that is asked of the kernel, which knows of mounts, swap, pools and RAID.
fn claimed(path: &Path) -> io::Result<bool> {
    match OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL | nix::libc::O_CLOEXEC).open(path) {
        Ok(_) => Ok(false),
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => Ok(true),
        Err(error) => Err(error),
    }
}

/// What is on a device; empty: nothing.
fn content(path: &Path, size: u64) -> io::Result<String> {
    let output = Command::new("wipefs").args(["--no-act", "--json"]).arg(path).env("LC_ALL", "C").stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    let found = signatures(&output.stdout);
    if !found.is_empty() {
        return Ok(found.join(", "));
    }
    let mut file = File::open(path)?;
    for at in [0, size.saturating_sub(LOOKED_AT)] {
        file.seek(SeekFrom::Start(at))?;
        let mut bytes = Vec::new();
        Read::take(&mut file, LOOKED_AT).read_to_end(&mut bytes)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok("data of an unknown kind".to_owned());
        }
    }
    Ok(String::new())
}

/// Reads the answer of `wipefs --json`.
fn signatures(answer: &[u8]) -> Vec<String> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let mut found: Vec<String> = Vec::new();
    for signature in answer["signatures"].as_array().into_iter().flatten() {
        let kind = signature["type"].as_str().unwrap_or("unknown");
        let label = signature["label"].as_str().filter(|label| !label.is_empty());
        let words = label.map_or_else(|| kind.to_owned(), |label| format!("{kind} {label:?}"));
        if !found.contains(&words) {
            found.push(words);
        }
    }
    found
}

/// The first name below `disk/by-id` that leads to the device; the kernel's own name may be another at the next boot.
fn by_id(dev: &Path, name: &str) -> PathBuf {
    let folder = dev.join("disk/by-id");
    let mut found: Vec<String> = entries(&folder)
        .into_iter()
        .filter(|link| {
            let leads = fs::canonicalize(folder.join(link)).ok();
            leads.and_then(|target| Some(target.file_name()? == name)).unwrap_or(false)
        })
        .collect();
    // Names with maker and serial number can be compared with a label on the disk; numbers cannot.
    found.sort_by_key(|link| (link.starts_with("wwn-") || link.starts_with("nvme-eui"), link.clone()));
    found.first().map_or_else(|| dev.join(name), |link| folder.join(link))
}

/// The kernel's name of what an operator wrote: `sdb`, `/dev/sdb`, `/dev/disk/by-id/...`.
pub(crate) fn kernel_name(dev: &Path, word: &str) -> String {
    let path = if word.contains('/') { PathBuf::from(word) } else { dev.join(word) };
    let target = fs::canonicalize(&path).ok().filter(|target| !is_folder(target));
    let name = target.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| word.rsplit('/').next().unwrap_or(word).to_owned())
}

fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() && !metadata.file_type().is_block_device())
}

fn entries(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names
}

fn text(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text: String = text.trim().chars().filter(|c| !c.is_control()).take(64).collect();
    (!text.is_empty()).then_some(text)
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}
