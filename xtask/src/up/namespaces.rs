//! The node's namespaces: made once, pinned below its root, entered by every program that is given the root (ruling 46).
//!
//! `<root>/run/triton/ns/` holds three pins: `net` and `mnt`, the compute node, and `outside`, the network beside it. The folder
//! is a private mount of itself: a mount namespace can be pinned on such a mount only.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use triton_files::Layout;
use triton_link::NetNs;

use super::args::HoldArgs;

/// The pin of the compute node's network namespace.
pub fn node(layout: &Layout) -> PathBuf {
    layout.namespaces().join("net")
}

/// The pin of the network beside it.
pub fn outside(layout: &Layout) -> PathBuf {
    layout.namespaces().join("outside")
}

fn mounts(layout: &Layout) -> PathBuf {
    layout.namespaces().join("mnt")
}

/// Makes and pins what is missing. To be called in the machine's own namespaces.
pub fn ensure(layout: &Layout) -> Result<()> {
    let folder = layout.namespaces();
    fs::create_dir_all(&folder).with_context(|| format!("could not create {}", folder.display()))?;
    if !is_mount(&folder)? {
        let bind = |flags: MsFlags| mount(Some(&folder), &folder, None::<&str>, flags, None::<&str>);
        bind(MsFlags::MS_BIND).and_then(|()| bind(MsFlags::MS_PRIVATE)).with_context(|| format!("could not mount {}", folder.display()))?;
    }
    NetNs::create_and_pin(&outside(layout)).context("could not make the network beside the node")?;
    NetNs::create_and_pin(&node(layout)).context("could not make the node's network namespace")?;
    let pin = mounts(layout);
    if !is_mount(&pin)? {
        pin_mount_namespace(layout, &pin).context("could not make the node's mount namespace")?;
    }
    Ok(())
}

/// A child makes the namespace and holds it until this process has pinned it.
fn pin_mount_namespace(layout: &Layout, pin: &Path) -> Result<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["hold-namespaces", "--root"])
        .arg(layout.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut word = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout.take(100)).read_line(&mut word)?;
    }
    let pinned = if word.trim() == "ready" {
        let source = format!("/proc/{}/ns/mnt", child.id());
        File::create(pin)
            .map_err(anyhow::Error::from)
            .and_then(|_| Ok(mount(Some(source.as_str()), pin, None::<&str>, MsFlags::MS_BIND, None::<&str>)?))
    } else {
        Err(anyhow::anyhow!("the process that makes it ended early"))
    };
    drop(child.stdin.take());
    let status = child.wait()?;
    pinned?;
    if !status.success() {
        bail!("the process that made it ended with {status}");
    }
    Ok(())
}

/// The hidden verb: makes the mount namespace, says `ready`, and holds it until standard input ends.
pub fn hold(args: &HoldArgs) -> Result<ExitCode> {
    let layout = Layout::new(&args.root);
    let network = File::open(node(&layout))?;
    setns(&network, CloneFlags::CLONE_NEWNET).context("could not enter the node's network namespace")?;
    unshare(CloneFlags::CLONE_NEWNS).context("could not make a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).context("could not make mounts private")?;
    remount_sys(&layout)?;
    subordinate_ids(&layout)?;
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n")?;
    stdout.flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(ExitCode::SUCCESS)
}

/// `/sys` of this network namespace, with the control groups that were below the old one.
fn remount_sys(layout: &Layout) -> Result<()> {
    let aside = layout.at("/run/triton/cgroup");
    fs::create_dir_all(&aside)?;
    let groups = Path::new("/sys/fs/cgroup");
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(groups), &aside, None::<&str>, bind, None::<&str>).context("could not keep the control groups")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>).context("could not mount /sys")?;
    mount(Some(&aside), groups, None::<&str>, bind, None::<&str>).context("could not bring the control groups back")?;
    umount2(&aside, MntFlags::MNT_DETACH)?;
    fs::remove_dir(&aside)?;
    Ok(())
}

/// Where the package uidmap is installed, liblxc maps ids through its programs, which ask these two files. The node gets copies
/// of its own that allow root every id.
fn subordinate_ids(layout: &Layout) -> Result<()> {
    if !Path::new("/usr/bin/newuidmap").exists() {
        return Ok(());
    }
    for name in ["subuid", "subgid"] {
        let (own, seen) = (layout.at("/etc").join(name), Path::new("/etc").join(name));
        fs::create_dir_all(layout.at("/etc"))?;
        fs::write(&own, "root:1:4294967293\n")?;
        if !seen.exists() {
            bail!("{} is missing, though the package uidmap is installed: create it empty", seen.display());
        }
        mount(Some(&own), &seen, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("could not cover {}", seen.display()))?;
    }
    Ok(())
}

/// Takes the pins away; what is absent is no error. Namespaces end with their last process.
pub fn remove(layout: &Layout) -> Result<()> {
    let folder = layout.namespaces();
    for path in [mounts(layout), node(layout), outside(layout), folder] {
        for _ in 0..16 {
            match umount2(&path, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(errno) => return Err(errno).with_context(|| format!("could not unmount {}", path.display())),
            }
        }
    }
    Ok(())
}

/// Processes in one of the node's namespaces, by pid.
pub fn processes(layout: &Layout) -> Result<Vec<i32>> {
    use std::os::unix::fs::MetadataExt;
    let mut wanted = Vec::new();
    for (kind, pin) in [("net", node(layout)), ("mnt", mounts(layout)), ("net", outside(layout))] {
        if is_mount(&pin)? {
            wanted.push((kind, fs::metadata(&pin)?.ino()));
        }
    }
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let inside = wanted.iter().any(|(kind, inode)| fs::metadata(format!("/proc/{pid}/ns/{kind}")).is_ok_and(|ns| ns.ino() == *inode));
        if inside && pid != i32::try_from(std::process::id()).unwrap_or(0) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Mount points at or below `folder`, as this process sees them, innermost last.
pub fn mounts_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let text = fs::read_to_string("/proc/self/mountinfo").context("could not read /proc/self/mountinfo")?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape).filter(|path| path.starts_with(folder)).collect())
}

fn is_mount(path: &Path) -> Result<bool> {
    Ok(mounts_below(path)?.iter().any(|mount| mount == path))
}

/// The kernel writes blanks and backslashes of paths as octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    PathBuf::from(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read_as_they_are() {
        assert_eq!(unescape("/a\\040b\\134c"), PathBuf::from("/a b\\c"));
        assert_eq!(unescape("/plain"), PathBuf::from("/plain"));
        assert!(mounts_below(Path::new("/proc")).unwrap().contains(&PathBuf::from("/proc")));
    }
}
