//! The image over a base: `platform/build/finish.sh`, run in a mount namespace of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    Built, at,
    base::{self, Base},
    folder,
    inputs::Inputs,
};
use crate::{run, say::Progress};

/// Finished images that are kept beside the newest.
const KEPT: usize = 2;

/// Builds the image below `cache`, or finds it there.
pub fn ensure(inputs: &Inputs, base: &Base, programs: &[PathBuf], key: &str, cache: &Path, progress: &mut Progress) -> Result<Built> {
    let place = cache.join(format!("platform-{key}"));
    let built = Built { folder: place.clone(), stamp: inputs.stamp.clone(), cached: place.is_dir() };
    if built.cached {
        return Ok(built);
    }
    let (partial, work) = (cache.join(format!("platform-{key}.partial")), cache.join(format!("platform-{key}.work")));
    for path in [&partial, &work] {
        base::remove(path, progress)?;
    }
    let sorted = work.join("programs");
    for path in [&partial, &sorted] {
        fs::create_dir_all(path).with_context(at("create", path))?;
    }
    for program in programs {
        fs::copy(program, sorted.join(program.file_name().unwrap_or_default())).with_context(at("copy", program))?;
    }
    let mut command = Command::new("nice");
    command.args(["unshare", "--mount", "--propagation", "private", "sh"]).arg(folder().join("build/finish.sh"));
    command.env("BASE", &base.root).env("WORK", &work).env("OUT", &partial).env("PROGRAMS", &sorted);
    command.env("OVERLAY", folder().join("overlay")).env("STAMP", &inputs.stamp).env("SOURCE_DATE_EPOCH", inputs.epoch.to_string());
    let done = run::succeed(command, Duration::from_secs(1800), progress);
    base::remove(&work, progress)?;
    done.context("could not finish the image; the failed step is the last that is named")?;
    fs::rename(&partial, &place).with_context(at("rename", &partial))?;
    Ok(built)
}

/// Removes images that are older than the newest few; the bases stay, they are dear.
pub fn forget_old(cache: &Path, current: &Built) -> Result<()> {
    let mut others = Vec::new();
    for entry in fs::read_dir(cache).with_context(at("read", cache))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let whole = name.strip_prefix("platform-").is_some_and(|key| !key.contains('.'));
        if whole && entry.path() != current.folder {
            others.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    others.sort();
    for (_, path) in others.iter().rev().skip(KEPT) {
        fs::remove_dir_all(path).with_context(at("remove", path))?;
    }
    Ok(())
}
