//! `xtask vm test`: the tests that need a compute node, on a compute node.
//!
//! The node is the tests' own and ends with this process. It is booted once; its state with everything that tests need on it
//! is saved, and each group of tests and each scenario begins there: a node that booted just now, with the right time.

mod bench;
mod build;
mod debian;
mod failure;
mod groups;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    args::{Half, TestArgs, UpArgs},
    bed::Bed,
    node::BED,
    scenarios::{self, Scenario},
    ssh::quoted,
    up::Place,
};
use crate::{
    image, platform,
    say::{self, Progress},
    test::Counts,
    workspace,
};
pub use bench::bench;
use build::TestProgram;

/// The saved state in which every group begins.
pub const READY: &str = "ready";

/// Where the machines of tier 3 are.
const DIR: &str = "/var/lib/triton-vm";

/// What every landing runs has to be over by then; without it, the rest of CI would not have its time.
const QUICK: Duration = Duration::from_secs(25 * 60);

/// Everything but the matrices, and everything, where the node is emulated.
const WHOLE: [Duration; 2] = [Duration::from_secs(3 * 3600), Duration::from_secs(7 * 3600)];

/// Memory and processors of the machines: those of a test that starts a dozen guests.
pub const SIZE: UpArgs = UpArgs::usual();

/// MiB of memory that must be free: a node's own, and what QEMU needs beside it.
const MEMORY: u64 = 4096;

/// Why tier 3 cannot run on this machine, if it cannot.
pub fn cannot_run() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("needs root: it builds the platform image".to_owned());
    }
    let free = free_memory();
    (free < MEMORY).then(|| format!("needs {MEMORY} MiB of memory for a node; {free} MiB are available"))
}

/// MiB that are available.
fn free_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok()).map_or(u64::MAX, |kib| kib / 1024)
}

/// Tier 3. Its machine goes afterwards: the next change has another image.
pub fn tier(filter: Option<&str>, quick: bool) -> Result<Counts> {
    let base = Path::new(DIR);
    let args = TestArgs { filters: filter.map(str::to_owned).into_iter().collect(), quick, ..TestArgs::default() };
    let counts = run(base, &args);
    super::verbs::remove_tests(base)?;
    counts
}

/// Brings the node up, copies programs and tests to it, runs them.
pub fn run(base: &Path, args: &TestArgs) -> Result<Counts> {
    let scenarios = if args.only == Some(Half::Programs) { Vec::new() } else { scenarios::chosen(args) };
    build::programs()?;
    // Whoever names a scenario wants to see that, and soon.
    let named = !args.filters.is_empty() && !scenarios.is_empty();
    let tests = if named || args.only == Some(Half::Scenarios) { Vec::new() } else { chosen(build::tests()?, args) };
    if args.list {
        for test in &tests {
            say::line(format_args!("{} {}", test.group.package, test.target));
        }
        for scenario in &scenarios {
            say::line(format_args!("scenario {}", scenario.name));
        }
        return Ok(Counts::default());
    }
    if tests.is_empty() && scenarios.is_empty() {
        return Ok(Counts::default());
    }
    debian::make(&tests)?;
    let begun = Instant::now();
    let limit = if args.quick { QUICK } else { WHOLE[usize::from(args.matrix)] };
    let place = Place::of_tests(base);
    // The image may have to be built before: that has limits of its own.
    platform::ensure(&platform::ImageArgs::default(), &mut Progress::new(platform::STEPS))?;
    let mut bed = Bed::up(place, &SIZE, Instant::now() + limit)?;
    let mut report = Report::default();
    prepare(&mut bed, &tests)?;
    report.times.push(("the node and what tests need on it".to_owned(), begun.elapsed()));
    for test in &tests {
        report.one(&mut bed, &format!("{} ({})", test.group.package, test.target), |bed| {
            bed.reset(READY)?;
            groups::run(bed, test, groups::asked_by(test, &args.filters).unwrap_or_default())
        });
    }
    for Scenario { name, run, .. } in scenarios {
        report.one(&mut bed, name, |bed| {
            bed.reset(READY)?;
            run(bed).map(|()| Counts { passed: 1, failed: 0 })
        });
    }
    drop(bed);
    report.tell(begun.elapsed());
    Ok(report.total)
}

/// The programs that `args` ask for; where only some tests are wanted, those that have one of them.
fn chosen(tests: Vec<TestProgram>, args: &TestArgs) -> Vec<TestProgram> {
    let wanted = |test: &TestProgram| {
        (!args.quick || test.is_quick()) && (args.matrix || !test.is_matrix()) && groups::asked_by(test, &args.filters).is_ok()
    };
    tests.into_iter().filter(wanted).collect()
}

/// Puts everything that tests need on the node, and saves that.
fn prepare(bed: &mut Bed, tests: &[TestProgram]) -> Result<()> {
    // A node that was restored may be older than the last boot's pool.
    bed.progress().more(1);
    bed.progress().begin("what tests need on the node");
    let folder = format!("{BED}/tests");
    let stripped =
        |name: &str, to: &str| platform::stripped(&workspace::target_folder()?.join("debug").join(name), &platform::stripped_folder(to)?);
    let files =
        tests.iter().map(|test| platform::stripped(&test.file, &platform::stripped_folder("tests")?)).collect::<Result<Vec<_>>>()?;
    bed.run(&format!("rm -rf {folder}"))?;
    if !files.is_empty() {
        bed.push(&files, &format!("{folder}/deps"))?;
    }
    let beside = ["headnode", "portolan", "escape-probe"].map(|name| stripped(name, "debug"));
    bed.push(&beside.into_iter().collect::<Result<Vec<_>>>()?, &folder)?;
    debian::push(bed, tests)?;
    let image = image::ensure(&image::cache_folder(), bed.progress()).context("could not build the image of the guests")?;
    let above = image.file.parent().context("the image has no folder")?;
    bed.push(&[above.join("manifest.json"), image.file.clone()], &format!("{BED}/image"))?;
    // Scenarios look for the programs beside the folder of the tests, tests of a program at the path where it was built.
    let target = workspace::target_folder()?.join("debug").display().to_string();
    let links = format!(
        "set -e; mkdir -p {0} {0}/guest; ln -sf /usr/triton/bin/* {folder}/; ln -sf /usr/triton/bin/* {0}/; \
         mkdir -p {folder}/guest; ln -sf /usr/triton/native/usr/sbin/mdata {folder}/guest/",
        quoted(&[target])
    );
    bed.run(&links)?;
    bed.save(READY)?;
    bed.progress().done(format_args!("{} test programs", files.len()));
    Ok(())
}

/// What came out, and how long it took.
#[derive(Default)]
struct Report {
    total: Counts,
    times: Vec<(String, Duration)>,
    failed: Vec<String>,
}

impl Report {
    fn one(&mut self, bed: &mut Bed, name: &str, run: impl FnOnce(&mut Bed) -> Result<Counts>) {
        say::line(format_args!("on the node: {name}"));
        let begun = Instant::now();
        let counts = run(bed).unwrap_or_else(|error| {
            say::line(format_args!("{name} failed: {error:#}"));
            Counts { passed: 0, failed: 1 }
        });
        if counts.failed > 0 {
            self.failed.push(name.to_owned());
            failure::keep(bed, name);
        }
        self.total.passed += counts.passed;
        self.total.failed += counts.failed;
        say::line(format_args!("{name}: {} passed, {} failed, {:.0} s", counts.passed, counts.failed, begun.elapsed().as_secs_f64()));
        self.times.push((name.to_owned(), begun.elapsed()));
    }

    fn tell(&self, all: Duration) {
        say::line("");
        for (name, time) in &self.times {
            say::line(format_args!("{:>6.0} s  {name}", time.as_secs_f64()));
        }
        say::line(format_args!("{:>6.0} s  in all", all.as_secs_f64()));
        for name in &self.failed {
            say::line(format_args!("failed: {name}; what the node said is in {}", failure::folder().display()));
        }
    }
}
