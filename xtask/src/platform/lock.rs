//! `platform/packages.lock`: the version of each package that the base was made of, so that another day's build is the same.
//!
//! A mirror drops versions that a fix replaced. The lock is therefore a preference, not a demand: what the mirror still has
//! is taken in the locked version, the rest as it is now, and the build says which packages that were.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{at, folder};

/// Package names and their versions.
pub type Versions = BTreeMap<String, String>;

/// Name of the lock, and of the list beside each base, in the folder of either.
const LOCK: &str = "packages.lock";
const LIST: &str = "packages";

/// The lock's text; empty when there is none.
pub fn text() -> Result<String> {
    let path = folder().join(LOCK);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(at("read", &path)),
    }
}

/// Reads `name version` lines.
pub fn parse(text: &str) -> Result<Versions> {
    let mut versions = Versions::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [name, version] if !name.is_empty() && !version.is_empty() => versions.insert((*name).to_owned(), (*version).to_owned()),
            _ => bail!("{LOCK}, line {}: {line:?} is not a package and its version", number + 1),
        };
    }
    Ok(versions)
}

/// The lock as preferences of apt: a locked version is taken even when a newer one is there.
pub fn preferences(versions: &Versions) -> String {
    versions.iter().map(|(name, version)| format!("Package: {name}\nPin: version {version}\nPin-Priority: 1001\n\n")).collect()
}

/// What a base was made of, its compilers included.
pub fn of_base(folder: &Path) -> Result<Versions> {
    let path = folder.join(LIST);
    parse(&fs::read_to_string(&path).with_context(at("read", &path))?)
}

/// A line for each package of `built` that is not what `locked` says.
pub fn differences(locked: &Versions, built: &Versions) -> Vec<String> {
    let changed = built.iter().filter_map(|(name, version)| match locked.get(name) {
        Some(lock) if lock == version => None,
        Some(lock) => Some(format!("{name} {version} instead of {lock}")),
        None => Some(format!("{name} {version} is new")),
    });
    let gone = locked.keys().filter(|name| !built.contains_key(*name)).map(|name| format!("{name} is gone"));
    changed.chain(gone).collect()
}

/// Writes the lock as `built` says.
pub fn write(built: &Versions) -> Result<()> {
    let path = folder().join(LOCK);
    let mut text = String::from("# Versions of the packages that the image's base is made of. Written by `cargo xtask image --lock`.\n");
    text.extend(built.iter().map(|(name, version)| format!("{name} {version}\n")));
    fs::write(&path, text).with_context(at("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_reads_and_pins() {
        let versions = parse("# comment\nlxc 1:6.0-1\nzstd 1.5\n").unwrap();
        assert_eq!(preferences(&versions).lines().next(), Some("Package: lxc"));
        assert_eq!(preferences(&versions).matches("Pin: version 1:6.0-1\nPin-Priority: 1001\n").count(), 1);
        for bad in ["lxc\n", "lxc  1\n", "lxc 1 2\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn differences_are_named() {
        let (locked, built) = (parse("a 1\nb 1\nc 1\n").unwrap(), parse("a 1\nb 2\nd 1\n").unwrap());
        assert_eq!(differences(&locked, &built), ["b 2 instead of 1", "d 1 is new", "c is gone"]);
    }

    #[test]
    fn the_lock_of_this_repository_holds_every_package_of_the_list() {
        let locked = parse(&text().unwrap()).unwrap();
        let list = super::super::inputs::PackageList::parse(&crate::workspace::read("platform/packages.list").unwrap()).unwrap();
        let missing: Vec<_> = list.stay.iter().chain(&list.build).filter(|name| !locked.contains_key(*name)).collect();
        assert!(missing.is_empty(), "not in platform/packages.lock: {missing:?}; run cargo xtask image --lock");
    }
}
