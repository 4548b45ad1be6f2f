//! The machine's disks: the image, read-only, one for the pool, one to spare. And its key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{platform::Built, run, say::Progress};

/// Sizes of the pool's disk and of the spare one; they take what is written.
const SIZE: &str = "24G";
const SPARE: &str = "2G";

/// Files of an image that a machine boots from, in any way.
const KEPT: [&str; 6] = ["vmlinuz", "initrd", "medium.img", "filesystem.squashfs", "initrd.hash", "filesystem.squashfs.hash"];

/// A file system with `live/filesystem.squashfs`, beside the image.
pub fn medium(built: &Built, progress: &mut Progress) -> Result<PathBuf> {
    let medium = built.file("medium.img");
    if medium.is_file() {
        return Ok(medium);
    }
    let (tree, partial) = (built.file("medium"), built.file("medium.partial"));
    let _ = fs::remove_dir_all(&tree);
    fs::create_dir_all(tree.join("live")).with_context(|| format!("could not create {}", tree.display()))?;
    let squashfs = built.file("filesystem.squashfs");
    fs::hard_link(&squashfs, tree.join("live/filesystem.squashfs")).with_context(|| format!("could not link {}", squashfs.display()))?;
    let size = fs::metadata(&squashfs)?.len().div_ceil(1 << 20) + 32;
    let file = fs::File::create(&partial).with_context(|| format!("could not create {}", partial.display()))?;
    file.set_len(size << 20).with_context(|| format!("could not size {}", partial.display()))?;
    let mut command = Command::new("mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(&tree).arg(&partial);
    run::succeed(command, Duration::from_secs(120), progress)?;
    let _ = fs::remove_dir_all(&tree);
    fs::rename(&partial, &medium).with_context(|| format!("could not rename {}", partial.display()))?;
    Ok(medium)
}

/// What a machine boots from, in its own folder: links to the image's files, which stay when the cache forgets the image.
pub fn keep(dir: &Path, built: &Built) -> Result<PathBuf> {
    let name = built.folder.file_name().context("the image has no name")?;
    let to = dir.join(name);
    fs::create_dir_all(&to).with_context(|| format!("could not create {}", to.display()))?;
    for file in KEPT {
        let (from, to) = (built.file(file), to.join(file));
        // Another file system has no links to this one.
        if !to.exists() && fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).with_context(|| format!("could not copy {}", from.display()))?;
        }
    }
    for entry in fs::read_dir(dir).with_context(|| format!("could not read {}", dir.display()))?.flatten() {
        if entry.file_name() != name && entry.file_name().to_string_lossy().starts_with("platform-") {
            fs::remove_dir_all(entry.path()).with_context(|| format!("could not remove {}", entry.path().display()))?;
        }
    }
    Ok(to)
}

/// The disks and the key, made where they are missing.
pub fn ensure(dir: &Path, progress: &mut Progress) -> Result<()> {
    let key = key(dir);
    for (disk, size) in [(pool(dir), SIZE), (spare(dir), SPARE)] {
        if !disk.is_file() {
            let mut command = Command::new("qemu-img");
            command.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg(size);
            run::succeed(command, Duration::from_secs(60), progress)?;
        }
    }
    if !key.is_file() {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "xtask vm", "-f"]).arg(&key);
        run::succeed(command, Duration::from_secs(60), progress)?;
    }
    Ok(())
}

/// Removes the disks, with all saved states.
pub fn remove(dir: &Path) -> Result<()> {
    for disk in [pool(dir), spare(dir)] {
        match fs::remove_file(&disk) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("could not remove {}", disk.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// An empty disk, for a second pool or a set-up.
pub fn spare(dir: &Path) -> PathBuf {
    dir.join("spare.qcow2")
}

/// The pool's disk.
pub fn pool(dir: &Path) -> PathBuf {
    dir.join("pool.qcow2")
}

/// The private key that opens the node.
pub fn key(dir: &Path) -> PathBuf {
    dir.join("key")
}
