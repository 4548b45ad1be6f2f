//! Licences and banned packages, from `cargo metadata` and the lists of deny.toml.

use anyhow::Result;

use super::{Finding, policy::Policy, spdx};
use crate::workspace::Workspace;

/// Every package states a licence that deny.toml allows, and none is banned.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    Ok(findings(workspace, &Policy::load()?))
}

fn findings(workspace: &Workspace, policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in workspace.packages() {
        let place = format!("{} {}", package.name, package.version);
        let verdict = package.license.as_deref().map(|expression| (expression, spdx::satisfied(expression, &policy.licences)));
        let problem = match verdict {
            Some((_, Some(true))) => None,
            Some((expression, Some(false))) => Some(format!("the licence \"{expression}\" is not allowed")),
            Some((expression, None)) => Some(format!("the licence expression \"{expression}\" cannot be read")),
            None => Some("states no licence".to_owned()),
        };
        if let Some(problem) = problem {
            findings.push(Finding::new(&place, problem, "use another package, or add the licence to deny.toml with the reason"));
        }
        if let Some((_, reason)) = policy.banned.iter().find(|(name, _)| *name == package.name) {
            findings.push(Finding::new(&place, format!("is banned: {reason}"), "`cargo tree -i` shows who asks for it"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Package, root};

    #[test]
    fn an_unknown_licence_none_at_all_and_a_banned_package_are_found() {
        let package = |name: &str, license: Option<&str>| Package {
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            id: name.to_owned(),
            source: None,
            license: license.map(str::to_owned),
            manifest_path: root().join("Cargo.toml"),
            dependencies: vec![],
        };
        let workspace = Workspace::of(vec![
            package("good", Some("MIT OR GPL-3.0")),
            package("copyleft", Some("GPL-3.0")),
            package("silent", None),
            package("evil", Some("MIT")),
        ]);
        let policy =
            Policy { licences: vec!["MIT".to_owned()], banned: vec![("evil".to_owned(), "it bites".to_owned())], registries: vec![] };
        let found: Vec<String> = findings(&workspace, &policy).iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("copyleft 1.0.0") && found[1].contains("states no licence") && found[2].contains("it bites"));
    }
}
