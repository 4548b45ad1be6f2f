//! The workspace as cargo sees it: packages, their edges, licences and sources.
//!
//! Called by the checks. Asks `cargo metadata` once and keeps the parts that a rule is about.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// The repository's root folder.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// A call of the cargo that runs this program, in the repository's root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds.
pub fn target_folder() -> Result<PathBuf> {
    let answer = crate::run::answer(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&answer)?;
    Ok(metadata["target_directory"].as_str().map_or_else(|| root().join("target"), PathBuf::from))
}

/// How one package uses another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeKind {
    /// In the program.
    Normal,
    /// In its build script.
    Build,
    /// In its tests only.
    Dev,
}

/// A dependency as written in a manifest.
#[derive(Clone, Debug, Deserialize)]
pub struct Dependency {
    /// Package that is used.
    pub name: String,
    kind: Option<String>,
}

impl Dependency {
    /// A dependency on `name`.
    #[cfg(test)]
    pub fn new(name: &str, kind: EdgeKind) -> Self {
        let kind = match kind {
            EdgeKind::Normal => None,
            EdgeKind::Build => Some("build".to_owned()),
            EdgeKind::Dev => Some("dev".to_owned()),
        };
        Self { name: name.to_owned(), kind }
    }

    /// How it is used.
    pub fn edge(&self) -> EdgeKind {
        match self.kind.as_deref() {
            Some("build") => EdgeKind::Build,
            Some("dev") => EdgeKind::Dev,
            _ => EdgeKind::Normal,
        }
    }
}

/// One package, ours or of others.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// Cargo's identity of it.
    pub id: String,
    /// Where it came from; `None` for a folder of this machine.
    pub source: Option<String>,
    /// SPDX expression.
    pub license: Option<String>,
    /// Its `Cargo.toml`.
    pub manifest_path: PathBuf,
    /// What it uses.
    pub dependencies: Vec<Dependency>,
}

impl Package {
    /// Its folder, relative to the repository.
    pub fn folder(&self) -> String {
        let folder = self.manifest_path.parent().unwrap_or(&self.manifest_path);
        folder.strip_prefix(root()).unwrap_or(folder).display().to_string()
    }
}

/// What `cargo metadata` said.
#[derive(Clone, Debug, Deserialize)]
pub struct Workspace {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
}

impl Workspace {
    /// Asks cargo; the lock file must be up to date.
    pub fn load() -> Result<Self> {
        let output = cargo().args(["metadata", "--format-version", "1", "--locked"]).output().context("could not run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata --locked failed (is Cargo.lock committed?): {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).context("could not read the answer of cargo metadata")
    }

    /// A workspace of `members`, for tests of rules.
    #[cfg(test)]
    pub fn of(members: Vec<Package>) -> Self {
        let workspace_members = members.iter().map(|package| package.id.clone()).collect();
        Self { packages: members, workspace_members }
    }

    /// Every package that any target of the workspace may use.
    pub fn packages(&self) -> &[Package] {
        &self.packages
    }

    /// Our own packages, by name.
    pub fn members(&self) -> Vec<&Package> {
        let mut members: Vec<_> = self.packages.iter().filter(|package| self.workspace_members.contains(&package.id)).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members
    }
}

/// Every file that git would commit (tracked, or new and not ignored), relative to the root, sorted.
pub fn files() -> Result<Vec<PathBuf>> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .context("could not run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let mut files: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| PathBuf::from(String::from_utf8_lossy(name).into_owned()))
        .filter(|path| root().join(path).is_file())
        .collect();
    files.sort();
    Ok(files)
}

/// The text of a file of the repository.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = root().join(path);
    fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))
}
