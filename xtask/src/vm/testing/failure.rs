//! What a node said, kept when something failed on it.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};

use super::super::{bed::Bed, qemu};
use crate::{image, say};

/// Failures that are kept.
const KEPT: usize = 20;

/// Where they are.
pub fn folder() -> PathBuf {
    image::cache_folder().join("failed-vm")
}

/// Keeps the console's log and the journal of the node; says so, or why not.
pub fn keep(bed: &mut Bed, name: &str) {
    match try_keep(bed, name) {
        Ok(to) => say::line(format_args!("the console's log and the journal are in {}", to.display())),
        Err(error) => say::line(format_args!("the logs could not be kept: {error:#}")),
    }
}

fn try_keep(bed: &mut Bed, name: &str) -> Result<PathBuf> {
    let word: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
    let to = folder().join(format!("{}-{word}", jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ")));
    fs::create_dir_all(&to).with_context(|| format!("could not create {}", to.display()))?;
    forget_old()?;
    fs::copy(qemu::log(&bed.place().dir), to.join("console.log")).context("could not copy the console's log")?;
    if bed.state().running().is_some() {
        let script = "systemctl --failed --no-pager; zpool status; vmadm list; ip -br addr; journalctl -b --no-pager -n 3000";
        // With a connection and a deadline of its own: the node may be in no state to answer.
        let mut command = Command::new("timeout");
        command.arg("60").arg("ssh").args(bed.ssh().alone(script).get_args());
        let output = command.output().context("could not run ssh")?;
        fs::write(to.join("journal.log"), [output.stdout, output.stderr].concat())?;
    }
    Ok(to)
}

/// The names sort by time.
fn forget_old() -> Result<()> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder())?.flatten().map(|entry| entry.path()).collect();
    all.sort();
    for path in all.iter().rev().skip(KEPT) {
        fs::remove_dir_all(path).with_context(|| format!("could not remove {}", path.display()))?;
    }
    Ok(())
}
