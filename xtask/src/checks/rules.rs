//! Rules about the files of the workspace: settings are inherited, dependencies come from one table, files stay small.

use anyhow::Result;

use super::Finding;
use crate::workspace::{self, Workspace};

/// No source file is longer, tests included.
const LINES: usize = 500;

/// Settings that every package takes from the workspace.
const INHERITED: [&str; 7] = ["version", "edition", "rust-version", "license", "repository", "authors", "publish"];

/// Checks every manifest and every source file.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in workspace.members() {
        let path = format!("{}/Cargo.toml", package.folder());
        findings.extend(manifest(&path, &workspace::read(&path)?));
    }
    for path in workspace::files()? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            findings.extend(source(&path.display().to_string(), &workspace::read(&path)?));
        }
    }
    Ok(findings)
}

/// What is wrong with a package's manifest.
fn manifest(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for setting in INHERITED {
        if !text.lines().any(|line| line.trim() == format!("{setting}.workspace = true")) {
            let problem = format!("does not take \"{setting}\" from the workspace");
            findings.push(Finding::new(path, problem, format!("write `{setting}.workspace = true` below [package]")));
        }
    }
    let mut section = "";
    let mut lints = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section == "[lints]" && line == "workspace = true" {
            lints = true;
        } else if section.ends_with("dependencies]") && !line.is_empty() && !line.starts_with('#') && !line.contains("workspace = true") {
            let problem = format!("{section} {line}: not from the workspace's table");
            findings.push(Finding::new(path, problem, "name it in [workspace.dependencies] and write `NAME.workspace = true` here"));
        }
    }
    if !lints {
        findings.push(Finding::new(path, "does not take the workspace's lints", "add `[lints]` with `workspace = true`"));
    }
    findings
}

/// What is wrong with a source file.
fn source(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > LINES {
        let problem = format!("{lines} lines, more than {LINES}");
        findings.push(Finding::new(path, problem, "cut it where a reader would look for a part by name"));
    }
    if !is_sibling_test(path) && !text.starts_with("//!") {
        findings.push(Finding::new(path, "has no head", "begin with `//!`: what it is for, who calls it, what it owns"));
    }
    // A crash test runs a part of itself in a child process, which is a test for the runner's eyes only.
    let (ignored, child) = (concat!("#[", "ignore"), concat!("#[", "ignore = \"the child of "));
    if text.lines().map(str::trim_start).any(|line| line.starts_with(ignored) && !line.starts_with(child)) {
        let remedy = "run it in the tier that can, or remove it; what another test runs says `ignore = \"the child of ...\"`";
        findings.push(Finding::new(path, "has a test that never runs", remedy));
    }
    findings
}

/// Tests of a module in a file of their own: the module's head is theirs.
fn is_sibling_test(path: &str) -> bool {
    path.contains("/src/") && (path.contains("/tests/") || path.ends_with("tests.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"x\"\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
        license.workspace = true\nrepository.workspace = true\nauthors.workspace = true\npublish.workspace = true\n[lints]\n\
        workspace = true\n[dependencies]\n# why\nserde.workspace = true\nnix = { workspace = true, features = [\"mount\"] }\n";

    #[test]
    fn a_manifest_that_inherits_everything_is_right() {
        assert_eq!(manifest("x", GOOD), vec![]);
    }

    #[test]
    fn own_settings_own_versions_and_missing_lints_are_found() {
        for (change, by) in [
            ("edition.workspace = true", "edition = \"2021\""),
            ("serde.workspace = true", "serde = \"1\""),
            ("[lints]\nworkspace = true\n", ""),
        ] {
            let found = manifest("x", &GOOD.replace(change, by));
            assert_eq!(found.len(), 1, "{by}: {found:?}");
        }
    }

    #[test]
    fn long_headless_and_ignored_files_are_found() {
        assert_eq!(source("x", "//! Head.\nfn main() {}\n"), vec![]);
        assert_eq!(source("x", "fn main() {}\n").len(), 1);
        assert_eq!(source("crates/x/src/y/tests.rs", "use super::*;\n"), vec![]);
        assert_eq!(source("x", &format!("//! Head.\n{}", "// line\n".repeat(LINES))).len(), 1);
        assert_eq!(source("x", &format!("//! Head.\n{}\nfn never() {{}}\n", concat!("#[", "ignore]"))).len(), 1);
    }
}
