//! The agents installed on this node (cn-agent.md sections 5.3 and 7.2).

use std::{fs, path::PathBuf};

use serde::{Deserialize, Serialize};
use triton_files::{Layout, read_json, read_optional};

/// One installed agent, as the headnode lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentEntry {
    /// Name, such as `cn-agent`.
    pub name: String,
    /// Version; the headnode decides by it which tasks it sends.
    pub version: String,
    /// The image that it was installed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_uuid: Option<String>,
    /// Its instance in SAPI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

/// The agents below `/opt/smartdc/agents`, sorted by name. What is not an agent, or is broken, is skipped: one bad directory must
/// not hide the others. An absent directory means none.
pub fn installed_agents(layout: &Layout) -> Vec<AgentEntry> {
    let agents = layout.at("/opt/smartdc/agents");
    let mut list = Vec::new();
    for entry in fs::read_dir(agents.join("lib/node_modules")).into_iter().flatten().flatten() {
        let Ok(Some(package)) = read_json::<Package>(&entry.path().join("package.json")) else { continue };
        // What an installation has set aside is not installed.
        if entry.file_name() != package.name.as_str() {
            continue;
        }
        let line = |path: PathBuf| {
            let text = read_optional(&path).ok().flatten().and_then(|bytes| String::from_utf8(bytes).ok())?;
            Some(text.trim().to_owned()).filter(|text| text.len() == 36)
        };
        list.push(AgentEntry {
            image_uuid: line(entry.path().join("image_uuid")),
            uuid: entry.file_name().to_str().and_then(|name| line(agents.join("etc").join(name))),
            name: package.name,
            version: package.version,
        });
    }
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 56
    #[test]
    fn a_directory_without_image_uuid_or_package_does_not_hide_the_others() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert!(installed_agents(&layout).is_empty());
        let modules = layout.at("/opt/smartdc/agents/lib/node_modules");
        for name in ["vm-agent", "cn-agent", "broken", "cn-agent.updating-to.0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10"] {
            fs::create_dir_all(modules.join(name)).unwrap();
        }
        let aside = modules.join("cn-agent.updating-to.0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10/package.json");
        fs::write(aside, r#"{"name":"cn-agent","version":"2.14.0"}"#).unwrap();
        fs::write(modules.join("cn-agent/package.json"), r#"{"name":"cn-agent","version":"2.15.0"}"#).unwrap();
        fs::write(modules.join("cn-agent/image_uuid"), "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10\n").unwrap();
        fs::write(modules.join("vm-agent/package.json"), r#"{"name":"vm-agent","version":"1.9.1","main":"x"}"#).unwrap();
        let agents = installed_agents(&layout);
        assert_eq!(agents.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["cn-agent", "vm-agent"]);
        assert_eq!(agents[0].image_uuid.as_deref(), Some("0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10"));
        assert_eq!(agents[1].image_uuid, None);
    }
}
