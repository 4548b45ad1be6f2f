//! The base layer: a root with Debian's packages and the ZFS module compiled for their kernel.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{
    at, folder,
    inputs::Inputs,
    lock,
    sources::{self, SUITE},
};
use crate::{run, say::Progress};

/// A built base.
#[derive(Clone, Debug)]
pub struct Base {
    /// The root.
    pub root: PathBuf,
    /// Its name.
    pub key: String,
    /// It was in the cache.
    pub cached: bool,
}

impl Base {
    /// The folder that the root is in, with what belongs to it.
    fn folder(&self) -> &Path {
        self.root.parent().unwrap_or(&self.root)
    }

    /// What was built, beside what was asked for: the packages' versions.
    pub fn identity(&self) -> Result<String> {
        let path = self.root.join("var/lib/dpkg/status");
        Ok(format!(
            "{} {}",
            self.key,
            crate::hex(&<sha2::Sha256 as sha2::Digest>::digest(fs::read(&path).with_context(at("read", &path))?))
        ))
    }
}

/// Builds the base below `cache`, or finds it there.
pub fn ensure(inputs: &Inputs, cache: &Path, refresh: bool, progress: &mut Progress) -> Result<Base> {
    let key = inputs.base_key().to_owned();
    let place = cache.join(format!("base-{key}"));
    if place.join("root").is_dir() && !refresh {
        return Ok(Base { root: place.join("root"), key, cached: true });
    }
    let partial = cache.join(format!("base-{key}.partial"));
    remove(&partial, progress)?;
    let downloads = cache.join("debs");
    for folder in [&partial, &downloads] {
        fs::create_dir_all(folder).with_context(at("create", folder))?;
    }
    let pins = partial.join("pins");
    fs::write(&pins, lock::preferences(&inputs.lock)).with_context(at("write", &pins))?;
    run::succeed(command(inputs, &partial.join("root"), &downloads, &pins)?, Duration::from_secs(3600), progress)
        .context("could not install the packages; a failed step is the last that is named above")?;
    complete(inputs, &partial.join("root"))?;
    // A root that is there is a whole one: it gets its name last.
    remove(&place, progress)?;
    fs::rename(&partial, &place).with_context(at("rename", &partial))?;
    Ok(Base { root: place.join("root"), key, cached: false })
}

/// mmdebstrap in a mount namespace of its own. Package files are kept for the next time, without those that are too old.
fn command(inputs: &Inputs, root: &Path, downloads: &Path, pins: &Path) -> Result<Command> {
    let sources = sources::of_this_machine()?;
    let scripts = folder().join("build");
    let script = |name: &str, arguments: &str| format!("'{}' \"$1\" {arguments}", scripts.join(name).display());
    let mut include = inputs.packages.stay.clone();
    include.extend(inputs.packages.build.iter().cloned());
    let mut command = Command::new("nice");
    command.args(["unshare", "--mount", "--propagation", "private", "mmdebstrap"]);
    command.env("SOURCE_DATE_EPOCH", inputs.epoch.to_string()).env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command.args(["--mode=root", "--variant=minbase", "--format=directory", "--components=main,contrib,non-free-firmware"]);
    // Nobody reads manuals on a node; licences stay.
    for path in ["/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/lintian/*"] {
        command.arg(format!("--dpkgopt=path-exclude={path}"));
    }
    command.args(["--dpkgopt=path-include=/usr/share/doc/*/copyright", "--dpkgopt=force-unsafe-io"]);
    command.args(["--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\""]);
    for option in &sources.options {
        command.arg(format!("--aptopt={option}"));
    }
    command.args(["--skip=essential/unlink", "--skip=download/empty"]);
    command.arg("--setup-hook=mkdir -p \"$1\"/var/cache/apt/archives/");
    command.arg(format!("--setup-hook=sync-in '{}' /var/cache/apt/archives/", downloads.display()));
    command.arg(format!(
        "--setup-hook=mkdir -p \"$1\"/etc/apt/preferences.d && cp '{}' \"$1\"/etc/apt/preferences.d/triton-lock",
        pins.display()
    ));
    command.arg("--customize-hook=chroot \"$1\" apt-get -q autoclean");
    command.arg(format!("--customize-hook=sync-out /var/cache/apt/archives '{}'", downloads.display()));
    command.arg(format!("--customize-hook={}", script("modules.sh", &inputs.packages.build.join(" "))));
    command.arg(format!("--customize-hook={}", script("tidy.sh", "")));
    command.arg(format!("--include={}", include.join(","))).arg(SUITE).arg(root);
    command.args(&sources.lines);
    Ok(command)
}

/// Fails if a package of the list is not in the root: a removal took it along.
fn complete(inputs: &Inputs, root: &Path) -> Result<()> {
    let path = root.join("var/lib/dpkg/status");
    let status = fs::read_to_string(&path).with_context(at("read", &path))?;
    let missing = missing(&inputs.packages.stay, &status);
    if !missing.is_empty() {
        bail!("packages of platform/packages.list are not in the image: {}", missing.join(", "));
    }
    Ok(())
}

/// Names without an installed package in dpkg's `status`.
fn missing<'a>(names: &'a [String], status: &str) -> Vec<&'a str> {
    let installed: HashSet<&str> = status
        .split("\n\n")
        .filter(|stanza| stanza.lines().any(|line| line == "Status: install ok installed"))
        .filter_map(|stanza| stanza.lines().find_map(|line| line.strip_prefix("Package: ")))
        .collect();
    names.iter().map(String::as_str).filter(|name| !installed.contains(name)).collect()
}

/// What of the base is not what the lock says, as far as a line holds it; empty if all is.
pub fn unlocked(inputs: &Inputs, base: &Base) -> Result<String> {
    let differences = lock::differences(&inputs.lock, &lock::of_base(base.folder())?);
    let shown = differences.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
    Ok(match differences.len() {
        0 => String::new(),
        1..=3 => format!("; not as locked: {shown}"),
        more => format!("; not as locked: {shown} and {} more", more - 3),
    })
}

/// Makes the lock say what the base is, and gives the base the name that it has by the new lock.
pub fn make_lock(inputs: &Inputs, base: &Base, cache: &Path) -> Result<(Inputs, Base)> {
    lock::write(&lock::of_base(base.folder())?)?;
    let inputs = Inputs::read(Some(inputs.stamp.clone()))?;
    let place = cache.join(format!("base-{}", inputs.base_key()));
    if place != base.folder() && !place.is_dir() {
        fs::rename(base.folder(), &place).with_context(at("rename", base.folder()))?;
    }
    let key = inputs.base_key().to_owned();
    Ok((inputs, Base { root: place.join("root"), key, cached: base.cached }))
}

/// Removes a tree on this file system only, so that nothing that someone mounted below it is emptied.
pub fn remove(path: &Path, progress: &mut Progress) -> Result<()> {
    let mut command = Command::new("rm");
    command.args(["-rf", "--one-file-system"]).arg(path);
    run::succeed(command, Duration::from_secs(600), progress).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_that_a_removal_took_along_is_missed() {
        let status = "Package: lxc\nStatus: install ok installed\nVersion: 1\n\nPackage: zfs-zed\nStatus: deinstall ok config-files\n";
        let names: Vec<String> = ["lxc", "zfs-zed", "zstd"].map(str::to_owned).into();
        assert_eq!(missing(&names, status), ["zfs-zed", "zstd"]);
    }
}
