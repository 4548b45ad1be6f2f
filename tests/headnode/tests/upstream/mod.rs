//! Packages of upstream as judges (ruling 65): installed once by npm into a cache outside of the project, and run with node.
//!
//! Nothing of them becomes part of the project. Where npm or its registry cannot be had, these tests fail and say so;
//! `cargo xtask test` leaves them out on a machine without npm, and reports that.

#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "test support; each test file uses a part of it")]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

fn cache() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_else(std::env::temp_dir).join("triton-linux-cn/npm")
}

/// The directory in which `manifest` (a `package.json`) is installed. It is filled under a name of its own and renamed when it is
/// complete, so that tests in several processes, and one that is killed, do no harm.
pub fn installed(name: &str, manifest: &Value) -> PathBuf {
    let folder = cache().join(name);
    let wanted = manifest.to_string();
    let complete = |folder: &Path| std::fs::read_to_string(folder.join("package.json")).is_ok_and(|text| text == wanted);
    if complete(&folder) {
        return folder;
    }
    std::fs::create_dir_all(cache()).expect("the cache's folder");
    let fresh = tempfile::tempdir_in(cache()).expect("a folder in the cache");
    std::fs::write(fresh.path().join("package.json"), manifest.to_string()).expect("package.json");
    // Scripts of packages are not run: nothing is built, and nobody else's code runs at installation.
    let done = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock"])
        .current_dir(fresh.path())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("upstream's package {name} cannot be the judge: npm does not run: {error}"));
    assert!(done.status.success(), "upstream's package {name} cannot be had: {}", String::from_utf8_lossy(&done.stderr));
    std::fs::write(fresh.path().join("package.json"), manifest.to_string()).expect("package.json");
    let fresh = fresh.keep();
    if std::fs::rename(&fresh, &folder).is_err() {
        // Another test was first, or an older one is there.
        if complete(&folder) {
            std::fs::remove_dir_all(&fresh).expect("the folder that nobody needs");
        } else {
            std::fs::remove_dir_all(&folder).expect("the older package");
            std::fs::rename(&fresh, &folder).expect("the package's place");
        }
    }
    folder
}

/// A node process that runs `script` in the package's folder.
pub fn node(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg("-e").arg(script).current_dir(folder);
    command
}
