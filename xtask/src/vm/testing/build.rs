//! Test programs: built here, run on the node.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::groups::{GROUPS, Group, OF_TWO};
use crate::{guest_tools, say::Progress, workspace::cargo};

/// A test program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestProgram {
    /// The package's tests.
    pub group: &'static Group,
    /// The name of its target: the library's, the program's, or that of the file in `tests/`.
    pub target: String,
    /// Where it is.
    pub file: PathBuf,
}

impl TestProgram {
    /// Kills at every step of every change: on each landing tier 2 does that (ruling 53).
    pub fn is_matrix(&self) -> bool {
        self.group.package == "triton-e2e" && self.target.starts_with("crash")
    }

    /// True if it has a test whose name contains `filter`.
    pub fn has(&self, filter: Option<&str>) -> bool {
        let listed = Command::new(&self.file).args(["--list", "--skip", OF_TWO]).args(filter).output();
        listed.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).lines().any(|line| line.ends_with(": test")))
    }

    /// Every landing runs it.
    pub fn is_quick(&self) -> bool {
        self.group.quick.contains(&self.target.as_str())
    }
}

/// Builds what tests and scenarios start beside the programs of the image.
pub fn programs() -> Result<()> {
    let mut extra = cargo();
    extra.args(["build", "--quiet", "--locked", "--package", "headnode-standin", "--bins"]);
    extra.args(["--package", "triton-e2e", "--bin", "escape-probe"]);
    if !extra.status().context("could not run cargo")?.success() {
        bail!("the stand-in headnode, or what guests try to get out with, does not build");
    }
    guest_tools::build(&mut Progress::new(1)).map(drop)
}

/// Builds the tests without running them.
pub fn tests() -> Result<Vec<TestProgram>> {
    let mut command = cargo();
    command.args(["test", "--locked", "--no-run", "--message-format", "json-render-diagnostics", "--lib", "--bins", "--tests"]);
    command.args(GROUPS.iter().flat_map(|group| ["--package", group.package]));
    let output = command.stderr(Stdio::inherit()).output().context("could not run cargo")?;
    if !output.status.success() {
        bail!("the tests do not build");
    }
    let mut found: Vec<TestProgram> = String::from_utf8_lossy(&output.stdout).lines().filter_map(program).collect();
    found.sort_by_key(|test| (GROUPS.iter().position(|group| group.package == test.group.package), test.target.clone()));
    Ok(found)
}

/// Reads one line of cargo's messages.
fn program(line: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(line).ok()?;
    let test = message["reason"] == "compiler-artifact" && message["profile"]["test"] == true;
    let file = message["executable"].as_str().filter(|_| test)?;
    let manifest = message["manifest_path"].as_str()?;
    let folder = Path::new(manifest).parent()?.file_name()?.to_string_lossy().into_owned();
    // A package is called like its folder, with or without what tells ours from others and agents from libraries.
    let named = |group: &&Group| {
        let package = group.package;
        [Some(package), package.strip_prefix("triton-"), package.strip_suffix("-agent")].contains(&Some(folder.as_str()))
    };
    let group = GROUPS.iter().find(named)?;
    let target = message["target"]["name"].as_str()?.to_owned();
    Some(TestProgram { group, target, file: file.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_other_artifacts() {
        let line = |test: bool| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": "/r/crates/zfs/Cargo.toml", "executable": "/t/deps/triton_zfs-1",
                "target": {"name": "triton_zfs"}, "profile": {"test": test}})
            .to_string()
        };
        let found = program(&line(true)).unwrap();
        assert_eq!(
            (found.group.package, found.target.as_str(), found.file.to_str()),
            ("triton-zfs", "triton_zfs", Some("/t/deps/triton_zfs-1"))
        );
        assert_eq!(program(&line(false)), None);
        let metadata = line(true).replace("/r/crates/zfs/", "/r/agents/metadata/").replace("triton_zfs", "kernel_sockets");
        assert_eq!(program(&metadata).unwrap().group.package, "metadata-agent");
        assert_eq!(program("{\"reason\":\"build-finished\"}"), None);
    }
}
