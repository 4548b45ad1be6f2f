//! Debian packages that the verbs need, each with its reason, installed when missing and said so.

use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{backports, run, say::Progress};

/// What needs a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Building the programs.
    Build,
    /// Running a compute node (`up`, and tests on the kernel).
    Node,
    /// Doing by hand what the benches compare with.
    Bench,
    /// Building the platform image.
    Image,
    /// Making a disk of it that boots.
    Disk,
    /// Booting it.
    Machine,
}

/// One package.
#[derive(Clone, Copy, Debug)]
struct Need {
    package: &'static str,
    purpose: Purpose,
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    Need { package: "gcc", purpose: Purpose::Build, reason: "links programs and compiles the C parts of SQLite, zstd and liblzma" },
    Need { package: "libc6-dev", purpose: Purpose::Build, reason: "headers and start files that gcc needs" },
    Need { package: "liblxc1", purpose: Purpose::Node, reason: "runs containers; loaded by instance-monitor" },
    Need {
        package: "busybox-static",
        purpose: Purpose::Node,
        reason: "is the system that small guests run: init, shell and tools in one file",
    },
    Need { package: "squashfs-tools", purpose: Purpose::Node, reason: "unpacks images whose root is a squashfs" },
    Need { package: "iproute2", purpose: Purpose::Node, reason: "lets tests judge links with a second tool" },
    Need { package: "iputils-ping", purpose: Purpose::Node, reason: "lets tests send packets from the node to its guests" },
    Need { package: "lxc", purpose: Purpose::Bench, reason: "starts containers by hand, beside ours" },
    Need { package: "jq", purpose: Purpose::Node, reason: "reads JSON in the platform's scripts, which tests run" },
    Need { package: "nftables", purpose: Purpose::Node, reason: "lets tests judge firewall tables with a second tool" },
    Need { package: "mmdebstrap", purpose: Purpose::Node, reason: "makes the roots of distributions that tests boot as guests" },
    Need {
        package: "debian-archive-keyring",
        purpose: Purpose::Node,
        reason: "the keys that the packages of those roots are checked with",
    },
    Need { package: "python3", purpose: Purpose::Node, reason: "runs cloud-init, which tests unpack beside the build" },
    Need { package: "mmdebstrap", purpose: Purpose::Image, reason: "makes a root of Debian packages" },
    Need { package: "debian-archive-keyring", purpose: Purpose::Image, reason: "the keys that Debian's packages are checked with" },
    Need { package: "squashfs-tools", purpose: Purpose::Image, reason: "packs the root of the platform image" },
    Need { package: "binutils", purpose: Purpose::Image, reason: "removes symbols from the programs in the image" },
    Need { package: "grub-common", purpose: Purpose::Disk, reason: "makes the boot loader of the disk image" },
    Need { package: "grub-pc-bin", purpose: Purpose::Disk, reason: "the boot loader's parts for BIOS" },
    Need { package: "grub-efi-amd64-bin", purpose: Purpose::Disk, reason: "the boot loader's parts for UEFI" },
    Need { package: "dosfstools", purpose: Purpose::Disk, reason: "makes the file system that UEFI reads" },
    Need { package: "mtools", purpose: Purpose::Disk, reason: "puts files there without mounting it" },
    Need { package: "qemu-system-x86", purpose: Purpose::Machine, reason: "runs a compute node on this machine" },
    Need { package: "ipxe-qemu", purpose: Purpose::Machine, reason: "the NIC's program with which a node boots from the network" },
    Need { package: "ovmf", purpose: Purpose::Machine, reason: "firmware with which a node boots by UEFI" },
    Need { package: "qemu-utils", purpose: Purpose::Machine, reason: "makes the disk of that node" },
    Need { package: "e2fsprogs", purpose: Purpose::Machine, reason: "makes the medium that the node boots from" },
    Need { package: "zstd", purpose: Purpose::Machine, reason: "compresses what is copied to that node" },
    Need { package: "openssh-client", purpose: Purpose::Machine, reason: "the way into that node" },
];

/// Packages of `purposes` that are not installed.
fn missing(purposes: &[Purpose]) -> Result<Vec<Need>> {
    let wanted: Vec<Need> = NEEDS.iter().filter(|need| purposes.contains(&need.purpose)).copied().collect();
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(wanted.iter().flat_map(|need| [need.package.to_owned(), newer_name(need.package)]))
        .output()
        .context("could not run dpkg-query: a Debian 12 or 13 machine is needed")?;
    // dpkg-query fails when one of the names is unknown to it; what it printed still counts.
    let listed = String::from_utf8_lossy(&output.stdout);
    let installed = |name: &str| listed.lines().any(|line| line == format!("{name} installed"));
    Ok(wanted.into_iter().filter(|need| !installed(need.package) && !installed(&newer_name(need.package))).collect())
}

/// The name that Debian 13 gave to many libraries when their time values became 64 bits wide; it provides the old one.
fn newer_name(package: &str) -> String {
    format!("{package}t64")
}

/// Installs what `purposes` need and is missing; says which packages and why. Doing it twice changes nothing.
pub fn ensure(purposes: &[Purpose], progress: &mut Progress) -> Result<()> {
    let missing = missing(purposes)?;
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|need| need.package).collect();
    if !nix::unistd::geteuid().is_root() {
        bail!("these Debian packages are missing: {}; run this as root, or: apt-get install {}", names.join(", "), names.join(" "));
    }
    for need in &missing {
        progress.note(format_args!("installing the Debian package {}: {}", need.package, need.reason));
    }
    if run::run(install(&names), Duration::from_secs(900), progress)?.success {
        return Ok(());
    }
    // A new machine has no package lists, or old ones.
    let mut update = apt();
    update.args(["update", "-q"]);
    run::succeed(update, Duration::from_secs(600), progress)?;
    if run::run(install(&names), Duration::from_secs(900), progress)?.success {
        return Ok(());
    }
    // One that does not go together with what is installed must not keep the others away.
    let mut left = Vec::new();
    for name in names {
        if !run::run(install(&[name]), Duration::from_secs(900), progress)?.success {
            left.push(name);
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    backports::install(&left, progress).with_context(|| format!("could not install {}", left.join(" ")))
}

/// An installation that takes nothing away: apt would remove a companion from elsewhere (backports) for one of the release's own.
fn install(names: &[&str]) -> Command {
    let mut command = apt();
    command.args(INSTALL).args(names);
    command
}

/// The words with which `apt-get` installs.
pub const INSTALL: [&str; 5] = ["install", "-q", "-y", "--no-install-recommends", "--no-remove"];

/// `apt-get` that asks nothing and waits for another apt to end.
pub fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Acquire::Retries=3", "-o", "APT::Sandbox::User=root"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_says_why_it_is_needed() {
        assert!(NEEDS.iter().all(|need| need.reason.len() > 20));
        for purpose in [Purpose::Build, Purpose::Node, Purpose::Image, Purpose::Disk, Purpose::Machine] {
            assert!(NEEDS.iter().any(|need| need.purpose == purpose), "{purpose:?}");
        }
    }
}
