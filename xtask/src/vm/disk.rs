//! The machine's disks: the image, read-only, and one for the pool. And its key.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{platform::Built, run, say::Progress};

/// Size of the pool's disk; it takes what is written.
const SIZE: &str = "24G";

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

/// The pool's disk and the key, made where they are missing.
pub fn ensure(dir: &Path, progress: &mut Progress) -> Result<()> {
    let (disk, key) = (pool(dir), key(dir));
    if !disk.is_file() {
        let mut command = Command::new("qemu-img");
        command.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg(SIZE);
        run::succeed(command, Duration::from_secs(60), progress)?;
    }
    if !key.is_file() {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-C", "xtask vm", "-f"]).arg(&key);
        run::succeed(command, Duration::from_secs(60), progress)?;
    }
    Ok(())
}

/// The pool's disk.
pub fn pool(dir: &Path) -> PathBuf {
    dir.join("pool.qcow2")
}

/// The private key that opens the node.
pub fn key(dir: &Path) -> PathBuf {
    dir.join("key")
}
