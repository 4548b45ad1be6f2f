//! What goes into an image, and the hashes of it that name its layers.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{
    at, folder,
    lock::{self, Versions},
    sources::SUITE,
};
use crate::{
    guest_tools, hex,
    run::{self, answer},
    say::Progress,
    workspace::{self, cargo},
};

/// Programs of the image and the packages that build them.
pub const PROGRAMS: [(&str, &[&str]); 7] = [
    ("triton-cli", &["vmadm", "imgadm", "sysinfo", "nictagadm", "fwadm", "cn-setup", "triton-netconf"]),
    ("cn-agent", &["cn-agent"]),
    ("vm-agent", &["vm-agent"]),
    ("net-agent", &["net-agent"]),
    ("firewaller", &["firewaller"]),
    ("metadata-agent", &["metadata-agent"]),
    ("instance-monitor", &["instance-monitor"]),
];

/// Changes when a step changes in a way that its inputs do not show.
const VERSION: &str = "1";

/// Package names: those that stay, those that only build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PackageList {
    /// In the image.
    pub stay: Vec<String>,
    /// Removed at the end.
    pub build: Vec<String>,
}

impl PackageList {
    /// Reads `name   reason` lines.
    pub fn parse(text: &str) -> Result<Self> {
        let mut list = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let Some((name, reason)) = line.split_once(char::is_whitespace).filter(|(_, reason)| !reason.trim().is_empty()) else {
                bail!("packages.list, line {}: {line:?} gives no reason", number + 1);
            };
            let (place, name) = match name.strip_prefix("build:") {
                Some(name) => (&mut list.build, name),
                None => (&mut list.stay, name),
            };
            let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
            if name.is_empty() || !name.chars().all(legal) {
                bail!("packages.list, line {}: {name:?} ({}) is no name of a package", number + 1, reason.trim());
            }
            place.push(name.to_owned());
        }
        Ok(list)
    }
}

/// Everything but the programs.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Names of packages.
    pub packages: PackageList,
    /// Their versions, as far as the mirror still has them.
    pub lock: Versions,
    /// The release.
    pub stamp: String,
    /// The time that files get, seconds since 1970.
    pub epoch: i64,
    base: String,
    finish: String,
}

impl Inputs {
    /// Reads them from the repository.
    pub fn read(stamp: Option<String>) -> Result<Self> {
        let list = workspace::read("platform/packages.list")?;
        let commit: i64 = answer(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace::root()))?.trim().parse()?;
        let commit_time = jiff::Timestamp::from_second(commit)?;
        let stamp = stamp.unwrap_or_else(|| commit_time.strftime("%Y%m%dT%H%M%SZ").to_string());
        let epoch = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", &stamp)?.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second();
        let mut base = Sha256::new();
        let lock = lock::text()?;
        for part in
            [VERSION, SUITE, &list, &lock, &workspace::read("platform/build/modules.sh")?, &workspace::read("platform/build/tidy.sh")?]
        {
            base.update(part);
            base.update([0]);
        }
        let mut finish = Sha256::new();
        finish.update(VERSION);
        finish.update(workspace::read("platform/build/finish.sh")?);
        tree(&mut finish, &folder().join("overlay"), Path::new(""))?;
        Ok(Self {
            packages: PackageList::parse(&list)?,
            lock: lock::parse(&lock)?,
            stamp,
            epoch,
            base: hex(&base.finalize())[..16].to_owned(),
            finish: hex(&finish.finalize()),
        })
    }

    /// Name of the base layer.
    pub fn base_key(&self) -> &str {
        &self.base
    }

    /// Name of the image: the base that was built, our files, our programs, the release.
    pub fn final_key(&self, base: &str, programs: &[PathBuf]) -> Result<String> {
        let mut hash = Sha256::new();
        for part in [base, &self.finish, &self.stamp] {
            hash.update(part);
            hash.update([0]);
        }
        for program in programs {
            hash.update(program.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(Sha256::digest(fs::read(program).with_context(at("read", program))?));
        }
        Ok(hex(&hash.finalize())[..16].to_owned())
    }
}

/// Adds a folder's entries to a hash: path, kind, mode, content.
fn tree(hash: &mut Sha256, top: &Path, below: &Path) -> Result<()> {
    let folder = top.join(below);
    let mut names: Vec<_> =
        fs::read_dir(&folder).with_context(at("read", &folder))?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    names.sort();
    for name in names {
        let below = below.join(name);
        let path = top.join(&below);
        let metadata = fs::symlink_metadata(&path).with_context(at("look at", &path))?;
        hash.update(below.as_os_str().as_encoded_bytes());
        if metadata.is_dir() {
            hash.update([0, b'd']);
            tree(hash, top, &below)?;
        } else if metadata.is_symlink() {
            hash.update([0, b'l']);
            hash.update(fs::read_link(&path)?.as_os_str().as_encoded_bytes());
        } else {
            // Git keeps of a mode whether it can be executed; umasks differ.
            hash.update([0, b'f', u8::from(metadata.permissions().mode() & 0o100 != 0)]);
            hash.update(Sha256::digest(fs::read(&path).with_context(at("read", &path))?));
        }
    }
    Ok(())
}

/// Builds the programs of the image; returns the files, sorted by name, without symbols.
pub fn programs(release: bool, progress: &mut Progress) -> Result<Vec<PathBuf>> {
    let mut build = cargo();
    build.args(["build", "--locked"]);
    for (package, names) in PROGRAMS {
        build.args(["--package", package]).args(names.iter().flat_map(|name| ["--bin", name]));
    }
    if release {
        build.arg("--release");
    }
    run::succeed(build, Duration::from_secs(3600), progress).context("could not build the programs")?;
    let kind = if release { "release" } else { "debug" };
    let from = workspace::target_folder()?.join(kind);
    let to = stripped_folder(kind)?;
    let mut files = Vec::new();
    for name in PROGRAMS.iter().flat_map(|(_, names)| names.iter()) {
        files.push(stripped(&from.join(name), &to)?);
    }
    files.push(stripped(&guest_tools::build(progress)?, &to)?);
    files.sort();
    Ok(files)
}

/// Where programs without symbols are: beside those that they are made of, since another clone builds others of the same name.
pub fn stripped_folder(kind: &str) -> Result<PathBuf> {
    Ok(workspace::target_folder()?.join("stripped").join(kind))
}

/// A copy of a program without symbols in the folder `to`; one that is newer than the program is taken as it is.
pub fn stripped(program: &Path, to: &Path) -> Result<PathBuf> {
    fs::create_dir_all(to).with_context(at("create", to))?;
    let name = program.file_name().unwrap_or_default();
    let target = to.join(name);
    let time = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let built = time(program).with_context(at("look at", program))?;
    if !time(&target).is_ok_and(|made| made > built) {
        let new = to.join(format!(".new-{}-{}", std::process::id(), name.display()));
        answer(Command::new("strip").arg("-o").arg(&new).arg(program))?;
        fs::rename(&new, &target).with_context(at("replace", &target))?;
    }
    Ok(target)
}

/// Reads a release.
pub fn stamp(text: &str) -> Result<String, String> {
    match jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text) {
        Ok(_) if text.len() == 16 && text.starts_with('2') => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is no release: UTC, like 20260102T030405Z")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_packages_gives_a_reason_for_each() {
        let list = PackageList::parse(&workspace::read("platform/packages.list").unwrap()).unwrap();
        assert!(list.stay.iter().any(|name| name == "zfsutils-linux") && list.build.iter().any(|name| name == "zfs-dkms"), "{list:?}");
        for bad in ["lxc\n", "lxc   \n", "build: reason\n", "lxc;rm   because\n", "Lxc because\n"] {
            assert!(PackageList::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_tool_of_operators_is_on_their_path() {
        let text = workspace::read("platform/build/finish.sh").unwrap();
        let line = text.lines().find(|line| line.starts_with("for name in vmadm ")).unwrap();
        let (_, tools) = PROGRAMS.iter().find(|(package, _)| *package == "triton-cli").unwrap();
        let missing: Vec<_> = tools.iter().filter(|tool| !line.split([' ', ';']).any(|word| word == **tool)).collect();
        assert!(missing.is_empty(), "{missing:?} cannot be called by name on a node");
    }

    #[test]
    fn releases_are_utc_times() {
        assert_eq!(stamp("20260102T030405Z").as_deref(), Ok("20260102T030405Z"));
        for bad in ["", "20260102", "20260102t030405z", "20261302T030405Z", "2026-01-02T03:04:05Z", "19990102T030405Z"] {
            assert!(stamp(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_changed_file_of_the_overlay_gives_another_image_and_the_same_base() {
        let folder = std::env::temp_dir().join(format!("xtask-inputs-{}", std::process::id()));
        fs::create_dir_all(folder.join("etc")).unwrap();
        let key = || {
            let mut hash = Sha256::new();
            tree(&mut hash, &folder, Path::new("")).unwrap();
            hex(&hash.finalize())
        };
        fs::write(folder.join("etc/a"), "1").unwrap();
        let first = key();
        assert_eq!(first, key());
        fs::write(folder.join("etc/a"), "2").unwrap();
        let second = key();
        fs::rename(folder.join("etc/a"), folder.join("etc/b")).unwrap();
        let third = key();
        fs::set_permissions(folder.join("etc/b"), fs::Permissions::from_mode(0o755)).unwrap();
        let fourth = key();
        fs::remove_dir_all(&folder).unwrap();
        assert!(first != second && second != third && third != fourth);
    }
}
