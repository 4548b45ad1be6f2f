//! Packages from the backports of this machine's release, for machines that have a part of them already.
//!
//! Where an installed package came from backports and these are in no source list any more, the release's own version of its
//! companions cannot be installed beside it. The lists that are fetched for it are temporary: the machine's sources stay as they are.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    packages::{INSTALL, apt},
    platform::debian_mirror,
    run,
    say::Progress,
};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Installs `names` from the backports.
pub fn install(names: &[&str], progress: &mut Progress) -> Result<()> {
    let release = codename(&fs::read_to_string("/etc/os-release").context("could not read /etc/os-release")?)?;
    let mirror = debian_mirror()?;
    progress.note(format_args!("taking {} from {release}-backports, with package lists that are removed again", names.join(" ")));
    let folder = tempfile::tempdir().context("could not make a directory for package lists")?;
    let parts = folder.path().join("parts");
    fs::create_dir_all(&parts)?;
    fs::create_dir_all(folder.path().join("lists/partial"))?;
    fs::write(parts.join("backports.list"), sources(&mirror, &release, Path::new(KEYRING).exists()))?;
    let prepared = || {
        let mut command = apt();
        command.args(options(folder.path()));
        command
    };
    let mut update = prepared();
    update.args(["update", "-q"]);
    run::succeed(update, Duration::from_secs(600), progress)?;
    let mut install: Command = prepared();
    install.args(INSTALL).args(["-t", &format!("{release}-backports")]).args(names);
    run::succeed(install, Duration::from_secs(900), progress).map(drop)
}

fn codename(release: &str) -> Result<String> {
    let name = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).map(|name| name.trim_matches('"').to_owned());
    match name.filter(|name| !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())) {
        Some(name) => Ok(name),
        None => bail!("/etc/os-release has no VERSION_CODENAME: a Debian 12 or 13 machine is needed"),
    }
}

fn sources(mirror: &str, release: &str, keyring: bool) -> String {
    let signed = if keyring { format!("[signed-by={KEYRING}] ") } else { String::new() };
    ["", "-updates", "-backports"].map(|suffix| format!("deb {signed}{mirror} {release}{suffix} main\n")).concat()
}

/// Settings of apt by which it sees these lists alone, and leaves its own and their caches as they are.
fn options(folder: &Path) -> Vec<String> {
    let set = |name: &str, value: &str| ["-o".to_owned(), format!("{name}={value}")];
    let at = |name: &str| folder.join(name).display().to_string();
    [
        set("Dir::Etc::SourceList", "/dev/null"),
        set("Dir::Etc::SourceParts", &at("parts")),
        set("Dir::State::Lists", &at("lists")),
        set("Dir::Cache::pkgcache", ""),
        set("Dir::Cache::srcpkgcache", ""),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_the_machines_own() {
        assert_eq!(codename("ID=debian\nVERSION_CODENAME=bookworm\n").unwrap(), "bookworm");
        assert_eq!(codename("VERSION_CODENAME=\"trixie\"\n").unwrap(), "trixie");
        assert!(codename("ID=debian\n").is_err() && codename("VERSION_CODENAME=a b\n").is_err());
    }

    #[test]
    fn lists_are_temporary_and_signed() {
        let text = sources("http://m.example/debian/", "bookworm", true);
        assert!(text.contains(&format!("deb [signed-by={KEYRING}] http://m.example/debian/ bookworm-backports main\n")), "{text}");
        assert!(sources("http://m.example/debian/", "trixie", false).starts_with("deb http://m.example/debian/ trixie main\n"));
        let options = options(Path::new("/tmp/x"));
        assert!(options.contains(&"Dir::State::Lists=/tmp/x/lists".to_owned()) && options.len() == 10);
    }
}
