//! Links in the pages of the repository: a relative link names a file or folder that is there.

use std::path::Path;

use anyhow::Result;

use super::Finding;
use crate::workspace::{self, Workspace};

/// Checks every Markdown page.
pub fn check(_: &Workspace) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for path in workspace::files()? {
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = workspace::read(&path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for target in targets(&text) {
            if !workspace::root().join(folder).join(&target).exists() {
                let problem = format!("links to {target}, which is not there");
                findings.push(Finding::new(path.display().to_string(), problem, "correct the link or remove it"));
            }
        }
    }
    Ok(findings)
}

/// Relative targets of `[text](target)`, without their fragment.
fn targets(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in text.split("](").skip(1) {
        let Some((target, _)) = part.split_once(')') else { continue };
        let target = target.split('#').next().unwrap_or_default();
        if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
            found.push(target.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relative_links_are_followed() {
        let text = "See [a](docs/a.md#part), [b](https://example.com), [c](#here), [d](../x).";
        assert_eq!(targets(text), ["docs/a.md", "../x"]);
    }
}
