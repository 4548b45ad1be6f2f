//! Where packages come from: this workspace, or a registry that deny.toml names.

use anyhow::Result;

use super::{Finding, policy::Policy};
use crate::workspace::Workspace;

/// Every package is a member of the workspace or comes from an allowed registry.
pub fn check(workspace: &Workspace) -> Result<Vec<Finding>> {
    let allowed = Policy::load()?.registries;
    let members = workspace.members();
    let mut findings = Vec::new();
    for package in workspace.packages() {
        let problem = match &package.source {
            None if members.iter().any(|member| member.id == package.id) => continue,
            None => "is a folder outside the workspace".to_owned(),
            Some(source) if allowed.iter().any(|registry| source.strip_prefix("registry+") == Some(registry)) => continue,
            Some(source) => format!("comes from {source}"),
        };
        let place = format!("{} {}", package.name, package.version);
        findings.push(Finding::new(place, problem, "use a released version from crates.io"));
    }
    Ok(findings)
}
