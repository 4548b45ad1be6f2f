//! The Debian packages that the image is made of: which they are now, and their files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{
    hex, packages as system,
    run::{self, answer},
    say::Progress,
};

/// Users and groups, the tree of folders, the tables of protocols and services, and one static program that is all else.
const NAMES: [&str; 4] = ["base-files", "base-passwd", "netbase", "busybox-static"];

/// One package file, as apt would fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Name of the file.
    pub file: String,
    /// Its checksum.
    pub sha256: String,
}

/// What the image is made of.
#[derive(Clone, Debug)]
pub struct Packages {
    /// In the order in which they are unpacked.
    pub list: Vec<Package>,
    /// `amd64`, `arm64`.
    pub architecture: String,
    /// Code name of the distribution.
    pub release: String,
}

/// Asks apt for the packages' present versions; fetches package lists if there are none.
pub fn current(progress: &mut Progress) -> Result<Packages> {
    let mut list = uris();
    if !list.as_ref().is_ok_and(|list| list.len() == NAMES.len()) {
        let mut update = system::apt();
        update.args(["update", "-q"]);
        run::succeed(update, Duration::from_secs(600), progress).context("could not fetch the lists of Debian packages")?;
        list = uris();
    }
    let list = list?;
    if list.len() != NAMES.len() {
        bail!("apt knows {} of the packages {}", list.len(), NAMES.join(", "));
    }
    let architecture = answer(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    Ok(Packages { list, architecture, release: release()? })
}

/// Fetches the files that are not in `folder` yet and checks every one.
pub fn download(packages: &Packages, folder: &Path, progress: &mut Progress) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    let files: Vec<PathBuf> = packages.list.iter().map(|package| folder.join(&package.file)).collect();
    if files.iter().any(|file| !file.is_file()) {
        let mut fetch = system::apt();
        fetch.arg("download").args(NAMES).current_dir(folder);
        run::succeed(fetch, Duration::from_secs(600), progress).context("could not download the packages of the image")?;
    }
    for (package, file) in packages.list.iter().zip(&files) {
        let bytes = fs::read(file).with_context(|| format!("could not read {}", file.display()))?;
        if hex(&Sha256::digest(&bytes)) != package.sha256 {
            let _ = fs::remove_file(file);
            bail!("{} is not what apt's lists say; it was removed, try again", file.display());
        }
    }
    Ok(files)
}

fn uris() -> Result<Vec<Package>> {
    let text = answer(system::apt().args(["download", "--print-uris"]).args(NAMES))?;
    Ok(NAMES.iter().filter_map(|name| text.lines().filter_map(parse).find(|one| one.file.starts_with(&format!("{name}_")))).collect())
}

/// Reads `'URI' FILE SIZE SHA256:SUM`.
fn parse(line: &str) -> Option<Package> {
    let mut words = line.strip_prefix('\'')?.split_whitespace().skip(1);
    let file = words.next()?;
    let sum = words.nth(1)?.strip_prefix("SHA256:")?;
    let safe = !file.contains('/') && file.ends_with(".deb") && sum.len() == 64;
    safe.then(|| Package { file: file.to_owned(), sha256: sum.to_owned() })
}

fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("could not read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or("unknown");
    Ok(name.trim_matches('"').chars().filter(char::is_ascii_alphanumeric).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_apt_is_read_and_a_file_outside_is_refused() {
        let sum = "a".repeat(64);
        let line = format!("'http://deb.debian.org/x/netbase_6.4_all.deb' netbase_6.4_all.deb 12800 SHA256:{sum}");
        assert_eq!(parse(&line), Some(Package { file: "netbase_6.4_all.deb".to_owned(), sha256: sum.clone() }));
        for bad in [
            format!("'http://x' ../netbase.deb 1 SHA256:{sum}"),
            "'http://x' netbase.deb 1 MD5Sum:abc".to_owned(),
            "Get:1 http://x".to_owned(),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }
}
