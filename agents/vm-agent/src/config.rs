//! Arguments and configuration (vm-agent.md section 2).

use std::time::Duration;

use clap::Parser;
use serde::Deserialize;
use triton_agent::{ConfigError, load_json_optional, program::AgentArgs};
use triton_files::Layout;
use triton_headnode::{BaseUrl, UrlError};
use triton_types::ServerUuid;

/// The agent that tells VMAPI which instances this compute node has, and in which state.
///
/// It only reads: nothing on this node is changed, whatever VMAPI answers. An instance is reported when it changes, and
/// everything is compared with VMAPI at start and once an hour.
#[derive(Clone, Debug, Parser)]
#[command(name = "vm-agent", version)]
pub struct Args {
    /// What every agent takes.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// `vm-agent.config.json`. Other keys are ignored; `no_rabbit` is one of them.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentConfig {
    /// VMAPI.
    #[serde(default)]
    pub vmapi_url: Option<String>,
    /// Milliseconds between two looks at everything on this node.
    #[serde(default)]
    pub periodic_interval: Option<u64>,
    /// The node, if not the one of sysinfo.
    #[serde(default)]
    pub server_uuid: Option<ServerUuid>,
}

impl AgentConfig {
    /// Reads the file below `layout`. A missing one has no settings, and so has one that is no such document: that is said, and the
    /// agent goes on with what else it knows (section 2.1, item 1).
    pub fn load(layout: &Layout) -> Self {
        let loaded: Result<Option<Self>, ConfigError> = load_json_optional(&layout.at("/opt/smartdc/agents/etc/vm-agent.config.json"));
        loaded
            .unwrap_or_else(|error| {
                tracing::error!(error = %triton_agent::chain(&error), "the configuration cannot be used");
                None
            })
            .unwrap_or_default()
    }

    /// VMAPI's URL: the configured one, else `vmapi_domain` of node.config, else the bare name.
    ///
    /// # Errors
    /// When it is no URL.
    pub fn vmapi(&self, vmapi_domain: Option<&str>) -> Result<BaseUrl, UrlError> {
        match (self.vmapi_url.as_deref().filter(|url| !url.is_empty()), vmapi_domain) {
            (Some(url), _) => url.parse(),
            (None, Some(domain)) => format!("http://{domain}").parse(),
            (None, None) => "http://vmapi".parse(),
        }
    }

    /// Between two looks at everything on this node; a minute unless configured, never less than a second.
    pub fn look_around_every(&self) -> Duration {
        self.periodic_interval.map_or(Duration::from_secs(60), |ms| Duration::from_millis(ms).max(Duration::from_secs(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_source_that_knows_vmapi_wins() {
        let config: AgentConfig =
            serde_json::from_str(r#"{"vmapi_url":"http://10.0.0.3","no_rabbit":true,"cueballHttpAgent":{}}"#).unwrap();
        assert_eq!(config.vmapi(Some("vmapi.dc.example.com")).unwrap().to_string(), "http://10.0.0.3");
        assert_eq!(AgentConfig::default().vmapi(Some("vmapi.dc.example.com")).unwrap().to_string(), "http://vmapi.dc.example.com");
        assert_eq!(AgentConfig::default().vmapi(None).unwrap().to_string(), "http://vmapi");
        assert!(AgentConfig { vmapi_url: Some("gopher://x".to_owned()), ..AgentConfig::default() }.vmapi(None).is_err());
    }

    #[test]
    fn a_file_that_is_no_configuration_is_as_good_as_none() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let path = layout.at("/opt/smartdc/agents/etc/vm-agent.config.json");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        for text in ["{", "[]", r#"{"vmapi_url":5}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(AgentConfig::load(&layout).vmapi_url.is_none(), "{text}");
        }
    }
}
