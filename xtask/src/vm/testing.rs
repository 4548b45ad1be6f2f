//! `xtask vm test`: the tests that need a compute node, on a compute node.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    args::UpArgs,
    node::{BED, POOL},
    ssh::{Ssh, quoted},
    verbs::{push_programs, up},
};
use crate::{
    platform,
    say::{self, Progress},
    test::{Counts, read_summary},
    workspace::cargo,
};

/// Packages whose tests run on the node: drivers that meet its kernel, the model over them, and the scenarios, last.
const PACKAGES: [&str; 7] =
    ["triton-zfs", "triton-cgroup", "triton-link", "triton-nictag", "triton-storage", "instance-monitor", "triton-e2e"];

/// Where the test machine of tier 3 is.
const DIR: &str = "/var/lib/triton-vm";

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TestProgram {
    package: String,
    file: PathBuf,
}

impl TestProgram {
    /// Kills at every step of every change: on each landing tier 2 does that (ruling 53).
    fn is_matrix(&self) -> bool {
        self.package == "triton-e2e" && self.file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("crash"))
    }
}

/// Why tier 3 cannot run on this machine, if it cannot.
pub fn cannot_run() -> Option<String> {
    (!nix::unistd::geteuid().is_root()).then(|| "needs root: it builds the platform image".to_owned())
}

/// Tier 3.
pub fn tier(filter: Option<&str>) -> Result<Counts> {
    run(Path::new(DIR), filter, false)
}

/// Brings the node up, copies programs and tests to it, runs them.
pub fn run(dir: &Path, filter: Option<&str>, matrix: bool) -> Result<Counts> {
    let mut progress = Progress::new(platform::STEPS + 8);
    let up_args = UpArgs { memory: 3072, cpus: 2, boot: false, release: false };
    let state = up(dir, &up_args, &mut progress)?;
    let ssh = Ssh::new(dir, &state);
    push_programs(&ssh, &mut progress)?;

    progress.begin("tests");
    let mut tests = build()?;
    tests.retain(|test| matrix || !test.is_matrix());
    progress.done(format_args!("{} programs", tests.len()));

    progress.begin("tests on the node");
    let folder = format!("{BED}/tests");
    let script = format!("rm -rf {folder} && mkdir -p {folder}/deps");
    ssh.run(&script, Duration::from_secs(120), &mut progress)?;
    let cache = platform::cache_folder().join("programs/tests");
    let files = tests.iter().map(|test| platform::stripped(&test.file, &cache)).collect::<Result<Vec<_>>>()?;
    ssh.push(&files, &format!("{folder}/deps/"), &mut progress)?;
    // Scenarios look for the programs beside the folder of the tests, tests of a program at the path where it was built.
    let target = crate::workspace::target_folder()?.join("debug").display().to_string();
    let links = format!("mkdir -p {0} && ln -sf /usr/triton/bin/* {folder}/ && ln -sf /usr/triton/bin/* {0}/", quoted(&[target]));
    ssh.run(&links, Duration::from_secs(60), &mut progress)?;
    let extra =
        platform::stripped(&crate::workspace::target_folder()?.join("debug/headnode"), &platform::cache_folder().join("programs/debug"))?;
    ssh.push(&[extra], &format!("{folder}/"), &mut progress)?;
    progress.done("copied");

    let mut total = Counts::default();
    for (test, file) in tests.iter().zip(&files) {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        say::line(format_args!("on the node: {} ({name})", test.package));
        let mut words = vec![format!("{folder}/deps/{name}"), "--test-threads".to_owned(), "1".to_owned()];
        words.extend(filter.map(str::to_owned));
        let script = format!("cd /root && TRITON_E2E_POOL={POOL} RUST_BACKTRACE=0 timeout 2400 {}", quoted(&words));
        match one(ssh.command(&script)) {
            Ok(counts) => {
                total.passed += counts.passed;
                total.failed += counts.failed;
            }
            Err(error) => {
                say::line(format_args!("{error:#}"));
                total.failed += 1;
            }
        }
    }
    Ok(total)
}

/// Builds the tests without running them.
fn build() -> Result<Vec<TestProgram>> {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics", "--lib", "--bins", "--tests"]);
    command.args(PACKAGES.iter().flat_map(|name| ["--package", name]));
    let output = command.stderr(Stdio::inherit()).output().context("could not run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut found: Vec<TestProgram> = String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect();
    found.sort_by_key(|test| PACKAGES.iter().position(|name| *name == test.package));
    Ok(found)
}

/// Reads one line of cargo's messages.
fn program(line: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(line).ok()?;
    let test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let file = message["executable"].as_str().filter(|_| test)?;
    let manifest = message["manifest_path"].as_str()?;
    let folder = Path::new(manifest).parent()?.file_name()?.to_string_lossy().into_owned();
    let named = |name: &&&str| **name == folder || name.strip_prefix("triton-") == Some(folder.as_str());
    PACKAGES.iter().find(named).map(|package| TestProgram { package: (*package).to_owned(), file: file.into() })
}

/// Runs one test program; its output is shown as it comes.
fn one(mut command: Command) -> Result<Counts> {
    let (reader, writer) = std::io::pipe()?;
    let error = writer.try_clone()?;
    let mut child = command.stdin(Stdio::null()).stdout(writer).stderr(error).spawn().context("could not run ssh")?;
    drop(command);
    let mut summary = String::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("could not read what the tests say")?).into_owned();
        let _ = writeln!(std::io::stdout(), "{line}");
        if line.starts_with("test result:") {
            summary.push_str(&line);
            summary.push('\n');
        }
    }
    let status = child.wait().context("could not wait for ssh")?;
    let counts = read_summary(&summary).unwrap_or_default();
    if !status.success() && counts.failed == 0 {
        bail!("the tests ended with {status} before they could count");
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_other_artifacts() {
        let line = |test: bool| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": "/r/crates/zfs/Cargo.toml", "executable": "/t/deps/triton_zfs-1",
                "profile": {"test": test}})
            .to_string()
        };
        assert_eq!(program(&line(true)), Some(TestProgram { package: "triton-zfs".to_owned(), file: "/t/deps/triton_zfs-1".into() }));
        assert_eq!(program(&line(false)), None);
        assert_eq!(program("{\"reason\":\"build-finished\"}"), None);
    }
}
