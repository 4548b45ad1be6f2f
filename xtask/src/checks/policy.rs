//! The lists of deny.toml, read without a TOML parser: the file keeps one entry per line.

use anyhow::{Result, bail};

use crate::workspace;

/// What deny.toml allows and denies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// SPDX expressions (a licence, or a licence with an exception).
    pub licences: Vec<String>,
    /// Packages that may not be used, with the reason.
    pub banned: Vec<(String, String)>,
    /// Registries that packages may come from.
    pub registries: Vec<String>,
}

impl Policy {
    /// Reads deny.toml.
    pub fn load() -> Result<Self> {
        let policy = Self::parse(&workspace::read("deny.toml")?);
        if policy.licences.is_empty() || policy.registries.is_empty() {
            bail!("deny.toml: [licenses] allow or [sources] allow-registry is empty or not written one entry per line");
        }
        Ok(policy)
    }

    fn parse(text: &str) -> Self {
        let mut policy = Self::default();
        let mut section = String::new();
        let mut key = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with('[') && line.ends_with(']') && !line.contains('"') {
                section = line.trim_matches(['[', ']']).to_owned();
                continue;
            }
            if let Some((name, _)) = line.split_once('=')
                && !line.starts_with(['{', '"'])
            {
                key = name.trim().to_owned();
            }
            let mut quoted = line.split('"').skip(1).step_by(2).map(str::to_owned);
            match (section.as_str(), key.as_str()) {
                ("licenses", "allow") => policy.licences.extend(quoted),
                ("sources", "allow-registry") => policy.registries.extend(quoted),
                ("bans", "deny") => {
                    if let (Some(name), reason) = (quoted.next(), quoted.next()) {
                        policy.banned.push((name, reason.unwrap_or_default()));
                    }
                }
                _ => {}
            }
        }
        policy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_comments_and_other_keys_are_not() {
        let text = "[licenses]\nallow = [\n  \"MIT\",\n  # \"GPL-3.0\",\n  \"ISC\",\n]\nunused = \"GPL-2.0\"\n[bans]\nmultiple-versions = \"warn\"\n\
                    deny = [\n  { crate = \"evil\", reason = \"because\" },\n]\n[sources]\nallow-registry = [\"https://r\"]\n";
        let policy = Policy::parse(text);
        assert_eq!(policy.licences, ["MIT", "ISC"]);
        assert_eq!(policy.banned, [("evil".to_owned(), "because".to_owned())]);
        assert_eq!(policy.registries, ["https://r"]);
    }

    #[test]
    fn every_ban_of_the_repository_says_why() {
        let policy = Policy::load().unwrap();
        assert!(policy.licences.len() > 5 && policy.licences.iter().all(|licence| !licence.starts_with("GPL")));
        assert!(policy.banned.iter().all(|(_, reason)| !reason.is_empty()), "{:?}", policy.banned);
    }
}
