//! The pool and its datasets (platform.md section 4.6): each step looks first, so that a set-up that was cut off goes on.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use triton_files::steps;

use super::choice::Choice;

/// Name of the pool of every node.
pub(crate) const POOL: &str = "zones";
/// The property by which a pool whose set-up was cut off is known as one of ours.
const PROGRESS: &str = "triton:setup";

/// What is known of the pool before anything is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is none of the name.
    Nothing,
    /// A set-up began and did not end.
    Begun,
    /// The node is set up.
    Complete,
}

/// Runs a command of the system; what it says is the error's text.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let what = || format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("could not run {}: {error}", what()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{} ended with {}: {said}", what(), output.status))
}

/// Looks for the pool, imported or not.
///
/// # Errors
/// When a pool of the name is there that no set-up of ours began, or ZFS does not answer.
pub(crate) fn find() -> Result<Found, String> {
    let _ = run("modprobe", &["zfs"]);
    let pools = run("zpool", &["list", "-H", "-o", "name"])?;
    if !pools.lines().any(|name| name == POOL) {
        // A pool that only has to be imported must not be made anew on other disks.
        let others = run("zpool", &["import", "-d", "/dev/disk/by-id", "-d", "/dev"]).unwrap_or_default();
        if others.lines().any(|line| line.trim() == format!("pool: {POOL}")) {
            return Err(format!("a pool {POOL} is on the disks of this machine, but not imported: `zpool import {POOL}` brings it back"));
        }
        return Ok(Found::Nothing);
    }
    let get = |property: &str| run("zfs", &["get", "-H", "-o", "value", property, POOL]).map(|value| value.trim().to_owned());
    let mountpoint = get("mountpoint")?;
    match get(PROGRESS)?.as_str() {
        "begun" => Ok(Found::Begun),
        _ if Path::new(&mountpoint).join(".system_pool").exists() => Ok(Found::Complete),
        _ => Err(format!("a pool {POOL} is there that was not set up as a node's: it is left alone (`zpool export {POOL}` takes it away)")),
    }
}

/// Makes the pool.
pub(crate) fn create(choice: &Choice) -> Result<(), String> {
    for disk in choice.erased() {
        let path = disk.path.display().to_string();
        run("wipefs", &["--all", "--quiet", "--force", &path])?;
    }
    steps::reached("setup.erased");
    let devices: Vec<String> = choice.disks.iter().map(|disk| disk.path.display().to_string()).collect();
    let words = choice.layout.words(&devices)?;
    let progress = format!("{PROGRESS}=begun");
    let mut arguments = vec!["create", "-o", "ashift=12", "-O", "atime=off", "-O", "compression=lz4", "-O", "acltype=posixacl"];
    arguments.extend(["-O", "xattr=sa", "-O", &progress, "-m", "/zones"]);
    if choice.erased().next().is_some() {
        // What is left of a former pool makes zpool refuse the disk; it was named to be erased.
        arguments.push("-f");
    }
    arguments.push(POOL);
    arguments.extend(words.iter().map(String::as_str));
    run("zpool", &arguments).map(drop)?;
    steps::reached("setup.pool");
    Ok(())
}

/// The datasets, mounted.
pub(crate) fn datasets() -> Result<(), String> {
    if run("zfs", &["get", "-H", "-o", "value", "mounted", POOL])?.trim() != "yes" {
        run("zfs", &["mount", POOL])?;
    }
    let list: [(&str, &[&str]); 4] = [
        ("zones/config", &["-o", "compression=off"]),
        ("zones/cores", &["-o", "mountpoint=none"]),
        ("zones/cores/global", &["-o", "quota=10g", "-o", "mountpoint=/zones/global/cores"]),
        ("zones/opt", &["-o", "mountpoint=/opt"]),
    ];
    for (name, options) in list {
        if !exists(name) {
            let mut arguments = vec!["create"];
            arguments.extend(options);
            arguments.push(name);
            run("zfs", &arguments)?;
            steps::reached("setup.dataset");
        }
    }
    var()?;
    for name in ["zones/config", "zones/cores/global", "zones/opt", "zones/var"] {
        if run("zfs", &["get", "-H", "-o", "value", "mounted", name])?.trim() != "yes" {
            run("zfs", &["mount", "-O", name])?;
        }
    }
    Ok(())
}

/// `/var` is copied aside and gets its name last: a copy that was cut off begins again.
fn var() -> Result<(), String> {
    if exists("zones/var") {
        return Ok(());
    }
    let aside = Path::new("/run/triton/newvar");
    if exists("zones/newvar") {
        let _ = run("umount", &["/run/triton/newvar"]);
        run("zfs", &["destroy", "-r", "zones/newvar"])?;
    }
    run("zfs", &["create", "-o", "mountpoint=legacy", "-o", "atime=on", "zones/newvar"])?;
    fs::create_dir_all(aside).map_err(|error| format!("could not create {}: {error}", aside.display()))?;
    run("mount", &["-t", "zfs", "zones/newvar", "/run/triton/newvar"])?;
    let copied = run("cp", &["-a", "/var/.", "/run/triton/newvar/"]);
    let journal = aside.join("log/journal");
    for entry in fs::read_dir(&journal).into_iter().flatten().flatten() {
        let _ = fs::remove_dir_all(entry.path());
    }
    steps::reached("setup.var-copied");
    run("umount", &["/run/triton/newvar"])?;
    let _ = fs::remove_dir(aside);
    copied?;
    run("zfs", &["rename", "zones/newvar", "zones/var"])?;
    steps::reached("setup.var-named");
    // It cannot be mounted yet, /var is in use: that is told as a failure, the property is set all the same.
    let _ = run("zfs", &["set", "mountpoint=/var", "zones/var"]);
    match run("zfs", &["get", "-H", "-o", "value", "mountpoint", "zones/var"])?.trim() {
        "/var" => Ok(()),
        other => Err(format!("the mountpoint of zones/var is {other}, not /var")),
    }
}

fn exists(name: &str) -> bool {
    run("zfs", &["list", "-H", "-o", "name", name]).is_ok()
}

/// From now on it is the system pool of a node that is set up.
pub(crate) fn complete() -> Result<(), String> {
    triton_files::write_atomic(Path::new("/zones/.system_pool"), b"", 0o644).map_err(|error| error.to_string())?;
    steps::reached("setup.marked");
    run("zfs", &["set", &format!("{PROGRESS}=complete"), POOL])?;
    run("zpool", &["sync", POOL]).map(drop)
}
