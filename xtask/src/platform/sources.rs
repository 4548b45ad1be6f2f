//! Where Debian's packages come from: the mirrors and settings that this machine's apt uses, for another suite.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::answer;

/// Debian 13.
pub const SUITE: &str = "trixie";

const UNKNOWN: &str =
    "apt on this machine knows no mirror of Debian (label Debian, component main): run apt-get update, or see its sources";

/// Lines of a sources.list, and settings of apt in its own language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// `deb MIRROR SUITE COMPONENTS`.
    pub lines: Vec<String>,
    /// `NAME "VALUE"`.
    pub options: Vec<String>,
}

/// Reads them.
pub fn of_this_machine() -> Result<Sources> {
    let targets = targets()?;
    let settings = answer(Command::new("apt-config").args(["dump", "--format", "%F \"%v\"%n", "Acquire"]))?;
    let lines = lines(&targets);
    if lines.is_empty() {
        bail!(UNKNOWN);
    }
    Ok(Sources { lines, options: options(&settings) })
}

/// The mirror of Debian that this machine's apt uses.
pub fn debian_mirror() -> Result<String> {
    match mirror(&targets()?, "Debian") {
        Some(mirror) => Ok(mirror),
        None => bail!(UNKNOWN),
    }
}

fn targets() -> Result<String> {
    answer(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(LABEL) $(COMPONENT)", "Created-By: Packages"]))
}

fn mirror(targets: &str, label: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        matches!(words.as_slice(), [_, found, "main"] if *found == label).then(|| words[0].to_owned())
    })
}

fn lines(targets: &str) -> Vec<String> {
    let mirror = |label: &str| mirror(targets, label);
    let mut lines = Vec::new();
    if let Some(main) = mirror("Debian") {
        lines.push(format!("deb {main} {SUITE} main contrib non-free-firmware"));
        lines.push(format!("deb {main} {SUITE}-updates main contrib non-free-firmware"));
        if let Some(security) = mirror("Debian-Security") {
            lines.push(format!("deb {security} {SUITE}-security main contrib non-free-firmware"));
        }
    }
    lines
}

/// Settings that say how a mirror is reached and how its dates are judged.
fn options(settings: &str) -> Vec<String> {
    let wanted = ["Acquire::Check-Valid-Until ", "Acquire::Check-Date ", "Acquire::Retries ", "Acquire::http::", "Acquire::https::"];
    let lines = settings.lines().filter(|line| wanted.iter().any(|name| line.starts_with(name)) && !line.ends_with("\"\""));
    lines.map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_mirrors_are_used_for_the_images_suite() {
        let targets = "http://a.example/other/ Other main\nhttp://m.example/debian/ Debian main\nhttp://m.example/debian/ Debian contrib\n\
                       http://s.example/security/ Debian-Security main\n";
        let expected = [
            "deb http://m.example/debian/ trixie main contrib non-free-firmware",
            "deb http://m.example/debian/ trixie-updates main contrib non-free-firmware",
            "deb http://s.example/security/ trixie-security main contrib non-free-firmware",
        ];
        assert_eq!(lines(targets), expected);
        assert_eq!(lines("http://a.example/other/ Other main\n"), Vec::<String>::new());
    }

    #[test]
    fn only_settings_about_reaching_mirrors_are_taken() {
        let settings = "Acquire \"\"\nAcquire::http::Proxy \"http://p.example\"\nAcquire::Check-Date \"false\"\nAcquire::http \"\"\n\
                        Acquire::Languages \"none\"\nAcquire::https::Proxy \"\"\n";
        assert_eq!(options(settings), ["Acquire::http::Proxy \"http://p.example\"", "Acquire::Check-Date \"false\""]);
    }
}
