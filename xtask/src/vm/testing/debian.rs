//! What tests take from Debian: roots of distributions, which are booted, and cloud-init, which asks from outside. The node has no mirror of
//! packages, so it is made on this machine, beside the build, and copied.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use super::build::TestProgram;
use crate::{
    packages::{self, Purpose},
    say::{self, Progress},
    vm::{bed::Bed, node::BED},
    workspace,
};

/// The test of a program that makes what the others of it need, wherever it runs.
const MAKES: &str = "debian_is_at_hand";

/// Seconds that it may take: several roots from a slow mirror.
const LIMIT: &str = "1800";

/// Has those programs make what they need, unless it is there: about two minutes for each root.
///
/// # Errors
/// When one could not.
pub fn make(tests: &[TestProgram]) -> Result<()> {
    let makers: Vec<&TestProgram> = tests.iter().filter(|test| test.group.package == "triton-e2e" && test.has(Some(MAKES))).collect();
    if makers.is_empty() {
        return Ok(());
    }
    packages::ensure(&[Purpose::Node], &mut Progress::new(1))?;
    for test in makers {
        let begun = Instant::now();
        say::line(format_args!("from Debian, for {} (two minutes a root when it is not there yet)", test.target));
        let mut command = Command::new("timeout");
        let status = command
            .arg(LIMIT)
            .arg(&test.file)
            .args(["--exact", MAKES])
            .stdout(Stdio::null())
            .status()
            .context("could not run a test program")?;
        if !status.success() {
            bail!("what {} needs could not be made within {LIMIT} s: `{} --exact {MAKES}` says why", test.target, test.file.display());
        }
        say::line(format_args!("      is there ({:.1} s)", begun.elapsed().as_secs_f64()));
    }
    Ok(())
}

/// Copies it to the node.
///
/// # Errors
/// When it is not there, or the node takes no more.
pub fn push(bed: &mut Bed, tests: &[TestProgram]) -> Result<()> {
    let target = workspace::target_folder()?;
    let any = |part: &str| tests.iter().any(|test| test.target.contains(part));
    let (roots, packages) = (any("userland"), any("metadata_cloud_init") || any("metadata_http"));
    let folder = format!("{BED}/tests");
    if roots {
        bed.push(&files(&target.join("tmp/userlands"), "tar")?, &format!("{folder}/tmp/userlands")).context("roots could not be copied")?;
    }
    if packages {
        let packages = files(&target.join("cloud-init"), "deb")?;
        bed.push(&packages, &format!("{folder}/cloud-init")).context("the packages of cloud-init could not be copied")?;
    }
    if roots || packages {
        // By it the tests know cargo's folder.
        bed.push(&[target.join("CACHEDIR.TAG")], &folder)?;
    }
    Ok(())
}

fn files(folder: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let made = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found: Vec<_> = made.filter(|path| path.extension().is_some_and(|is| is == ending)).collect();
    if found.is_empty() {
        bail!("{} has no .{ending}, though {MAKES} was there to make it", folder.display());
    }
    Ok(found)
}
