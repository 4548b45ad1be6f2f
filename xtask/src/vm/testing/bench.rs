//! The benches on a node: the same figures, of its kernel and with its datasets.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{DIR, SIZE, groups};
use crate::{
    image, platform,
    say::Progress,
    vm::{bed::Bed, node::BED, ssh::quoted, up::Place},
    workspace,
};

/// Longest run, where the node is emulated.
const LIMIT: Duration = Duration::from_secs(2 * 3600);

/// Runs `triton-bench` with these arguments on a node that ends afterwards. The programs were built in release mode.
///
/// # Errors
/// When the node does not come up, or the benches fail.
pub fn bench(words: &[String]) -> Result<()> {
    platform::ensure(&platform::ImageArgs::default(), &mut Progress::new(platform::STEPS))?;
    let base = Path::new(DIR);
    let result = on_node(&Place::of_tests(base), words);
    crate::vm::verbs::remove_tests(base)?;
    result
}

fn on_node(place: &Place, words: &[String]) -> Result<()> {
    let mut bed = Bed::up(place.clone(), &SIZE, Instant::now() + LIMIT)?;
    let folder = format!("{BED}/bench");
    let kept = platform::stripped_folder("release")?;
    let files = programs()?.iter().map(|file| platform::stripped(file, &kept)).collect::<Result<Vec<_>>>()?;
    bed.push(&files, &folder)?;
    let image = image::ensure(&image::cache_folder(), bed.progress()).context("could not build the image of the guests")?;
    let target = workspace::target_folder()?.join("release").display().to_string();
    let above = image.file.parent().context("the image has no folder")?;
    bed.push(&[above.join("manifest.json"), image.file.clone()], &format!("{BED}/image"))?;
    // Programs look for each other beside themselves, and at the path where they were built.
    bed.run(&format!(
        "set -e; mkdir -p {folder}/guest {0}; ln -sf /usr/triton/native/usr/sbin/mdata {folder}/guest/; ln -sf {folder}/* {0}/",
        quoted(&[target])
    ))?;
    // A node has one of each: those that are measured.
    bed.run("systemctl stop triton-vm-agent.service triton-net-agent.service")?;
    let mut call = vec![format!("{folder}/triton-bench")];
    call.extend_from_slice(words);
    let mut command = groups::limited(&bed, &call, bed.within(LIMIT)?.as_secs());
    let status = command.stdin(Stdio::null()).status().context("could not run ssh")?;
    if !status.success() {
        bail!("the benches on the node ended with {status}");
    }
    Ok(())
}

/// Everything that was built to be run.
fn programs() -> Result<Vec<PathBuf>> {
    let folder = workspace::target_folder()?.join("release");
    let found = fs::read_dir(&folder).with_context(|| format!("could not read {}", folder.display()))?;
    let runs = |path: &PathBuf| {
        path.extension().is_none() && fs::metadata(path).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    let mut programs: Vec<PathBuf> = found.flatten().map(|entry| entry.path()).filter(runs).collect();
    programs.sort();
    Ok(programs)
}
