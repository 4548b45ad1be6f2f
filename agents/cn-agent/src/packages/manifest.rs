//! `package.json`: what of it counts for an agent. It comes from an image, so nothing in it leads out of the package.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use triton_files::read_json;

use super::PackageError;

/// A package as its `package.json` describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Package {
    /// Name, such as `vm-agent`.
    pub name: String,
    /// Version.
    pub version: String,
    #[serde(default)]
    bin: Option<Programs>,
    #[serde(default)]
    scripts: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Programs {
    One(String),
    Many(BTreeMap<String, String>),
}

/// Letters, digits, `-`, `_` and `.`, the first a letter or digit: a name of one directory that is never hidden.
pub(super) fn check_name(name: &str) -> Result<(), PackageError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && name.len() <= 64 && name.chars().all(legal) && !name.contains(super::ASIDE) {
        return Ok(());
    }
    Err(PackageError::Manifest { package: name.chars().take(64).collect(), reason: "this is no name of an agent".to_owned() })
}

/// A path inside the package, without a leading `./`; `None` for one that leads out of it.
fn inside(path: &str) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!clean.as_os_str().is_empty()).then_some(clean)
}

impl Package {
    /// Reads the package in `directory`.
    ///
    /// # Errors
    /// When `package.json` is missing, malformed, or names files outside of the package.
    pub fn read(directory: &Path) -> Result<Self, PackageError> {
        let package = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let broken = |reason: String| PackageError::Manifest { package: package.clone(), reason };
        let found = read_json::<Self>(&directory.join("package.json"));
        let found = found.map_err(|error| broken(triton_agent::chain(&error).to_string()))?;
        let found = found.ok_or_else(|| broken("it has no package.json".to_owned()))?;
        check_name(&found.name)?;
        if found.version.is_empty() || found.version.len() > 128 || found.version.chars().any(char::is_control) {
            return Err(broken("its version is empty, or no version".to_owned()));
        }
        let programs = match &found.bin {
            Some(Programs::Many(map)) => map.iter().map(|(name, path)| (name.clone(), path.clone())).collect(),
            Some(Programs::One(path)) => vec![(found.name.clone(), path.clone())],
            None => Vec::new(),
        };
        for (name, path) in &programs {
            if check_name(name).is_err() || inside(path).is_none() {
                return Err(broken(format!("its program {name:?} leads out of it: {path:?}")));
            }
        }
        for script in found.scripts.keys() {
            found.script(script).map_err(broken)?;
        }
        Ok(found)
    }

    /// Its programs, as names of links and paths in the package.
    pub fn bin(&self) -> Vec<(&str, PathBuf)> {
        let one = |name, path: &str| inside(path).map(|path| (name, path));
        match &self.bin {
            None => Vec::new(),
            Some(Programs::One(path)) => one(self.name.as_str(), path).into_iter().collect(),
            Some(Programs::Many(map)) => map.iter().filter_map(|(name, path)| one(name.as_str(), path)).collect(),
        }
    }

    /// The script of a step of its life: a path in the package. `None` if it has none.
    ///
    /// # Errors
    /// When it is no path in the package. Only the steps that are run are looked at.
    pub(super) fn script(&self, step: &str) -> Result<Option<PathBuf>, String> {
        if !["preinstall", "postinstall", "preuninstall", "postuninstall"].contains(&step) {
            return Ok(None);
        }
        match self.scripts.get(step) {
            None | Some(serde_json::Value::Null) => Ok(None),
            Some(serde_json::Value::String(path)) if path.is_empty() => Ok(None),
            Some(serde_json::Value::String(path)) => {
                inside(path).map(Some).ok_or_else(|| format!("its script {step} leads out of it: {path:?}"))
            }
            Some(_) => Err(format!("its script {step} is no path")),
        }
    }
}
