//! The power goes while instances are made and removed and an image arrives, and while others are at rest.
//!
//! A verb is killed at a step and the machine right after it: that is what a cut at this step leaves on the disk. Three verbs
//! share one cut. The steps are discovered, not listed.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    super::{bed::Bed, node::BED},
    vm,
};

/// Where each verb is cut.
struct Cut<'a> {
    create: &'a str,
    import: &'a str,
    delete: &'a str,
}

/// The steps of each verb, in order, each once.
struct Steps {
    create: Vec<String>,
    import: Vec<String>,
    delete: Vec<String>,
}

/// Another name for the image's file.
const SECOND: &str = "b5b0c0de-7e57-4bb0-8000-0000000000c2";

/// In the middle of each verb.
pub fn once(bed: &mut Bed) -> Result<()> {
    at_parts(bed, &[(1, 2)])
}

/// Near the begin and near the end.
pub fn some(bed: &mut Bed) -> Result<()> {
    at_parts(bed, &[(0, 1), (1, 4), (3, 4), (1, 1)])
}

/// At every step: as many boots as the longest verb has steps.
pub fn all(bed: &mut Bed) -> Result<()> {
    vm::with_image(bed)?;
    let steps = discover(bed)?;
    let most = steps.create.len().max(steps.import.len()).max(steps.delete.len());
    let parts: Vec<(usize, usize)> = (0..most).map(|at| (at, most - 1)).collect();
    for part in parts {
        one(bed, &steps, part)?;
    }
    Ok(())
}

fn at_parts(bed: &mut Bed, parts: &[(usize, usize)]) -> Result<()> {
    vm::with_image(bed)?;
    let steps = discover(bed)?;
    parts.iter().try_for_each(|part| one(bed, &steps, *part))
}

/// One cut at the given part of each verb's way, and a look at what is left.
fn one(bed: &mut Bed, steps: &Steps, (part, of): (usize, usize)) -> Result<()> {
    let at = |list: &[String]| list[(list.len() - 1) * part / of.max(1)].clone();
    let (create, import, delete) = (at(&steps.create), at(&steps.import), at(&steps.delete));
    let cut = Cut { create: &create, import: &import, delete: &delete };
    vm::with_image(bed)?;
    try_one(bed, &cut).with_context(|| format!("create cut at {create}, import at {import}, delete at {delete}"))
}

fn import_script() -> String {
    format!(
        "jq '.uuid = \"{SECOND}\"' {BED}/image/manifest.json >/run/second.json; imgadm install -m /run/second.json -f {BED}/image/*.tar.gz"
    )
}

fn discover(bed: &mut Bed) -> Result<Steps> {
    let image = vm::image(bed)?;
    let traced = |script: &str| {
        format!(
            "rm -f /run/steps; export TRITON_STEP_TRACE=/run/steps; {{ {script}\n}} >/run/said 2>&1 || {{ cat /run/said; exit 1; }}; cat /run/steps"
        )
    };
    let read = |text: String| {
        let mut seen = BTreeSet::new();
        let steps: Vec<String> = text.lines().filter(|step| seen.insert(step.to_string())).map(str::to_owned).collect();
        if steps.len() < 4 { bail!("no steps were traced, this needs programs with crash points: {text}") } else { Ok(steps) }
    };
    let create = read(bed.run(&traced(&vm::create_script(&vm::payload(&image, 9, true))))?)?;
    let uuid = vm::states(bed)?.into_keys().next().context("nothing was created")?;
    let delete = read(bed.run(&traced(&format!("vmadm delete {uuid}")))?)?;
    let import = read(bed.run(&traced(&import_script()))?)?;
    Ok(Steps { create, import, delete })
}

fn try_one(bed: &mut Bed, cut: &Cut<'_>) -> Result<()> {
    let image = vm::image(bed)?;
    let resting = vm::create(bed, &vm::payload(&image, 5, true))?;
    let stopped = vm::create(bed, &vm::payload(&image, 6, false))?;
    let doomed = vm::create(bed, &vm::payload(&image, 7, true))?;
    // Data of a guest that it made sure of, and changes that were acknowledged: the last of them right before the cut.
    vm::guest(bed, &resting, "echo kept > /data; sync")?;
    let kill = |step: &str, script: &str| {
        format!(
            "( export TRITON_STEP_KILL={step}; {script}\n) >/dev/null 2>&1; [ $? -gt 128 ] || {{ echo {step} was not reached; exit 1; }}"
        )
    };
    let script = format!(
        "{}\n{}\n{}\nvmadm update {stopped} alias=acknowledged",
        kill(cut.create, &format!("exec {}", vm::create_script(&vm::payload(&image, 8, true)))),
        kill(cut.import, &import_script().replace("; imgadm", "; exec imgadm")),
        kill(cut.delete, &format!("exec vmadm delete {doomed}")),
    );
    bed.run(&script)?;
    bed.cut()?;
    bed.boot("")?;
    vm::sound(bed)?;

    // At rest: whole, and running if it was to run.
    vm::await_state(bed, &resting, "running")?;
    ensure!(vm::guest(bed, &resting, "cat /data")? == "kept\n", "the guest's data is not there");
    ensure!(vm::guest(bed, &resting, "ip addr")?.contains("10.64.0.5/24"), "the guest has no address");
    ensure!(vm::property(bed, &stopped, ".state + \" \" + .alias")? == "stopped acknowledged", "an acknowledged change was lost");

    // In the middle: what the contract names, and it can be ended by the operator (instances.md sections 6.3, 6.4).
    let all = vm::states(bed)?;
    for (uuid, state) in all.iter().filter(|(uuid, _)| **uuid != resting && **uuid != stopped) {
        let which = if *uuid == doomed { "deleted" } else { "created" };
        let legal: &[&str] = if *uuid == doomed {
            &["running", "incomplete", "shutting_down", "down", "stopped"]
        } else {
            &["failed", "running", "stopped"]
        };
        ensure!(legal.contains(&state.as_str()), "the instance that was being {which} is {state}");
        bed.run(&format!("vmadm delete {uuid}")).with_context(|| format!("the instance that was being {which} ({state})"))?;
    }
    let images: Vec<Value> = serde_json::from_str(&bed.run("imgadm list -j 2>/dev/null")?).context("imgadm list")?;
    let whole = images.iter().any(|image| image["manifest"]["uuid"] == SECOND);
    if whole {
        bed.run(&format!("imgadm delete {SECOND}"))?;
    }
    // Whatever was half there is no obstacle, and nobody's afterwards.
    bed.run(&import_script())?;
    let fresh = vm::create(bed, &vm::payload(SECOND, 8, true))?;
    vm::await_state(bed, &fresh, "running")?;
    bed.run(&format!("vmadm delete {fresh} && imgadm delete {SECOND}"))?;
    let left: BTreeSet<String> = vm::datasets(bed)?.into_iter().collect();
    let expected = BTreeSet::from([image, resting, stopped]);
    ensure!(left == expected, "datasets are {left:?}, expected {expected:?}");
    Ok(())
}
