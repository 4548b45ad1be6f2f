//! Arguments and configuration (net-agent.md section 2).

use std::path::PathBuf;

use clap::Parser;
use serde::Deserialize;
use triton_agent::{ConfigError, load_json_optional, program::AgentArgs};
use triton_files::Layout;
use triton_types::ServerUuid;

/// The agent that keeps the NICs of this compute node and NAPI in step, and the guard of guests' NICs and the node's own firewall in force.
///
/// NAPI hears whose each NIC is and whether it runs; instances get the addresses and protections that NAPI has for them. A NIC is taken from
/// an instance only when NAPI said twice that it is not its own.
#[derive(Clone, Debug, Parser)]
#[command(name = "net-agent", version)]
pub struct Args {
    /// What every agent takes.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// `net-agent.config.json`. Other keys are ignored.
#[derive(Clone, Debug, Deserialize)]
pub struct AgentConfig {
    /// NAPI.
    pub napi: NapiConfig,
    /// Whether the data centre is one without a message queue. Anything but true: the agent waits for ever.
    #[serde(default)]
    pub no_rabbit: bool,
    /// Who subscribes to NAPI's changes.
    #[serde(default)]
    pub agent_uuid: Option<String>,
    /// The node, if not the one of sysinfo.
    #[serde(default)]
    pub cn_uuid: Option<ServerUuid>,
    /// The owner of the machine's own NICs; without it NAPI is not told of them.
    #[serde(default)]
    pub admin_uuid: Option<String>,
}

/// `napi` of the configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct NapiConfig {
    /// Its URL.
    pub url: String,
}

impl AgentConfig {
    /// Where the file is.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.at("/opt/smartdc/agents/etc/net-agent.config.json")
    }

    /// Reads the file below `layout`; `None` if there is none yet.
    ///
    /// # Errors
    /// When it is no such document.
    pub fn load(layout: &Layout) -> Result<Option<Self>, ConfigError> {
        load_json_optional(&Self::path(layout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_the_headnode_is_understood_and_a_broken_one_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert!(AgentConfig::load(&layout).unwrap().is_none());
        let path = AgentConfig::path(&layout);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = r#"{"napi":{"url":"http://napi.dc.example.com"},"no_rabbit":true,"agent_uuid":"44454c4c-0000-1000-8000-00000000000a",
            "cn_uuid":"44454c4c-0000-1000-8000-000000000001","admin_uuid":"930896af-bf8c-48d4-885c-6573a94b1853","bindip":"10.99.99.7",
            "cueballAgent":{"resolvers":["binder"],"maximum":10}}"#;
        std::fs::write(&path, text).unwrap();
        let config = AgentConfig::load(&layout).unwrap().unwrap();
        assert!(config.no_rabbit && config.napi.url == "http://napi.dc.example.com" && config.admin_uuid.is_some());
        for text in ["{", "[]", r#"{"napi":{}}"#, r#"{"no_rabbit":true}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(AgentConfig::load(&layout).is_err(), "{text}");
        }
    }
}
