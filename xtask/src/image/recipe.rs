//! What is in the image beside its packages: the applets' links, users, init's table and the few files that Debian's
//! install scripts would have made.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{packages::Packages, tree::Tree};
use crate::{hex, run::answer};

/// Changes when the steps below change in a way that their texts do not show.
const VERSION: &str = "2";

/// Busybox init: its own signals are USR1 (halt), USR2 (power off) and TERM (reboot).
const INITTAB: &str = "\
::sysinit:/etc/init.d/rcS
::respawn:/sbin/syslogd -n -C256
::askfirst:-/bin/sh
::ctrlaltdel:/sbin/reboot
::shutdown:/etc/init.d/rcK
";

const START: &str = "\
#!/bin/sh
# Runs once, before anything else. Addresses, routes and the host name are set by the host.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
[ -e /proc/self ] || mount -t proc proc /proc
grep -q ' /run ' /proc/mounts || mount -t tmpfs -o mode=755,nosuid,nodev,size=25% tmpfs /run
mkdir -p /run/lock /run/user
chmod 1777 /run/lock
: > /run/utmp
[ -e /dev/shm ] || mkdir -m 1777 /dev/shm
[ -s /etc/hostname ] && [ \"$(hostname)\" = localhost ] && hostname -F /etc/hostname
for script in /etc/local.d/*.start; do
    [ -x \"$script\" ] && \"$script\"
done
exit 0
";

const STOP: &str = "\
#!/bin/sh
# Runs when the instance halts or reboots, before the remaining processes are told to end.
for script in /etc/local.d/*.stop; do
    [ -x \"$script\" ] && \"$script\"
done
sync
exit 0
";

/// What the platform calls for a graceful stop; busybox has no such applet.
const SHUTDOWN: &str = "\
#!/bin/sh
# shutdown [-h|-P|-r|-H] [now]
action=poweroff
for word in \"$@\"; do
    case $word in
    -r) action=reboot ;;
    -H) action=halt ;;
    -h | -P | now | +0 | 0) ;;
    *) echo \"usage: shutdown [-h|-P|-r|-H] [now]\" >&2; exit 1 ;;
    esac
done
exec /sbin/$action
";

const PROFILE: &str = "\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
PS1='\\u@\\h:\\w\\$ '
umask 022
";

const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

/// A hash of everything that this file decides.
pub fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for text in [VERSION, INITTAB, START, STOP, SHUTDOWN, PROFILE, NSSWITCH] {
        hash.update(text);
        hash.update([0]);
    }
    hex(&hash.finalize())
}

/// Unpacks `files` and adds the rest. `scratch` is a folder from which a program can be run.
/// Returns the tree and the time of the newest file in the packages, in seconds since 1970.
pub fn tree(packages: &Packages, files: &[PathBuf], scratch: &Path) -> Result<(Tree, u64)> {
    let mut tree = Tree::default();
    let mut newest = 0;
    for file in files {
        newest = newest.max(unpack(&mut tree, file)?);
    }
    for (folder, mode) in [
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("var/tmp", 0o1777),
        ("root", 0o700),
        ("var/log", 0o755),
        ("etc/local.d", 0o755),
        ("mnt", 0o755),
        ("usr/local/bin", 0o755),
    ] {
        tree.folder(folder, mode);
    }
    for (path, mode, text) in [
        ("etc/inittab", 0o644, INITTAB),
        ("etc/init.d/rcS", 0o755, START),
        ("etc/init.d/rcK", 0o755, STOP),
        ("sbin/shutdown", 0o755, SHUTDOWN),
        ("etc/profile", 0o644, PROFILE),
        ("etc/nsswitch.conf", 0o644, NSSWITCH),
        ("etc/shells", 0o644, "/bin/sh\n/bin/ash\n"),
        ("etc/securetty", 0o644, "console\ntty1\n"),
        ("etc/hostname", 0o644, "localhost\n"),
        ("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"),
        ("etc/resolv.conf", 0o644, ""),
        ("etc/fstab", 0o644, ""),
    ] {
        tree.write(path, mode, text);
    }
    // As base-files' install script does.
    tree.link_for_folder("var/run", "/run");
    tree.link_for_folder("var/lock", "/run/lock");
    users(&mut tree)?;
    applets(&mut tree, scratch)?;
    if tree.file("usr/lib/os-release").is_none() {
        bail!("the package base-files of {} has no usr/lib/os-release", packages.release);
    }
    tree.link("etc/os-release", "../usr/lib/os-release");
    Ok((tree, newest))
}

fn unpack(tree: &mut Tree, file: &Path) -> Result<u64> {
    let mut child =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(file).stdout(Stdio::piped()).spawn().context("could not run dpkg-deb")?;
    let stdout = child.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = tree.unpack(std::io::BufReader::new(stdout));
    let status = child.wait().context("could not wait for dpkg-deb")?;
    let newest = unpacked.with_context(|| format!("could not unpack {}", file.display()))?;
    if !status.success() {
        bail!("dpkg-deb --fsys-tarfile {} ended with {status}", file.display());
    }
    Ok(newest)
}

/// What base-passwd's install script makes of its masters; nobody has a password, root may log in on the console.
fn users(tree: &mut Tree) -> Result<()> {
    for (master, path) in [("usr/share/base-passwd/passwd.master", "etc/passwd"), ("usr/share/base-passwd/group.master", "etc/group")] {
        let text = tree.file(master).with_context(|| format!("the package base-passwd has no {master}"))?;
        let text = String::from_utf8_lossy(text).replace("/bin/bash", "/bin/sh").replace(":*:", ":x:");
        tree.write(path, 0o644, text);
    }
    let passwd = String::from_utf8_lossy(tree.file("etc/passwd").unwrap_or_default()).into_owned();
    let shadow: String =
        passwd.lines().filter_map(|line| line.split(':').next()).map(|name| format!("{name}:*:19000:0:99999:7:::\n")).collect();
    tree.write("etc/shadow", 0o640, shadow);
    Ok(())
}

/// A link for each of busybox's applets, where busybox itself would put it.
fn applets(tree: &mut Tree, scratch: &Path) -> Result<()> {
    let path = ["bin/busybox", "usr/bin/busybox"].into_iter().find(|path| tree.file(path).is_some());
    let path = path.context("the package busybox-static has no busybox")?;
    let program = scratch.join("busybox");
    fs::write(&program, tree.file(path).unwrap_or_default()).with_context(|| format!("could not write {}", program.display()))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let listed = answer(Command::new(&program).arg("--list-full"));
    let _ = fs::remove_file(&program);
    for applet in listed?.lines().filter(|applet| !applet.is_empty() && !applet.contains("..")) {
        // Debian's busybox has a `dpkg` applet that knows nothing of this system's packages.
        if !applet.ends_with("/dpkg") && !applet.ends_with("/dpkg-deb") && !applet.ends_with("/busybox") {
            tree.link(applet, "/bin/busybox");
        }
    }
    if !tree.entries().any(|(path, _)| path.ends_with("sbin/init")) {
        bail!("busybox has no applet sbin/init");
    }
    Ok(())
}
