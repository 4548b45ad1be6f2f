//! Arguments and configuration (cn-agent.md section 6.1).

use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand};
use serde::Deserialize;
use triton_agent::{CommonArgs, ConfigError, load_json_optional};
use triton_files::Layout;

/// The agent that CNAPI steers a compute node through.
#[derive(Clone, Debug, Parser)]
#[command(name = "cn-agent", version)]
pub struct Args {
    /// Where the node is.
    #[command(flatten)]
    pub common: CommonArgs,
    /// TCP port on the admin address, 5309 if none is given; 0 picks a free one
    #[arg(long, env = "PORT")]
    pub port: Option<u16>,
    /// Admin address, whatever the machine says
    #[arg(long, env = "ADMIN_IP", value_name = "IPV4")]
    pub admin_ip: Option<Ipv4Addr>,
    /// Be the twin that installs a new version of cn-agent: serve on port 5310 unless --port or PORT says otherwise, run tasks, and
    /// tell CNAPI nothing
    #[arg(long)]
    pub update_twin: bool,
    /// Least severe level that is logged: trace, debug, info, warn, error
    #[arg(long, env = "CN_AGENT_LOG_LEVEL", default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// What to do instead of serving.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What an operator may ask.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Show what the running agent is doing
    Status {
        /// As JSON
        #[arg(long, short)]
        json: bool,
    },
}

/// Where the agent serves, and where its twin does.
pub const PORT: u16 = 5309;
/// See [`PORT`].
pub const TWIN_PORT: u16 = 5310;

impl Args {
    /// The port to serve on.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(if self.update_twin { TWIN_PORT } else { PORT })
    }
}

/// `cn-agent.config.json`. Other keys are ignored; `no_rabbit` is one of them, since this agent never uses RabbitMQ.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentConfig {
    #[serde(default)]
    cnapi: Option<Cnapi>,
    #[serde(default)]
    tasklogdir: Option<String>,
    /// Seconds that a task may take.
    #[serde(default)]
    task_timeout: Option<u64>,
    /// Seconds that a new version of this agent has to answer after its start.
    #[serde(default)]
    agent_answer_timeout: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Cnapi {
    #[serde(default)]
    url: Option<String>,
}

impl AgentConfig {
    /// Reads the file below `layout`; a missing one has no settings.
    ///
    /// # Errors
    /// When it is there and is no such document.
    pub fn load(layout: &Layout) -> Result<Self, ConfigError> {
        Ok(load_json_optional(&layout.at("/opt/smartdc/agents/etc/cn-agent.config.json"))?.unwrap_or_default())
    }

    /// CNAPI's URL: the configured one, else by the data centre's name.
    pub fn cnapi_url(&self, datacenter_name: Option<&str>, dns_domain: Option<&str>) -> Option<String> {
        let configured = self.cnapi.as_ref().and_then(|cnapi| cnapi.url.clone()).filter(|url| !url.is_empty());
        configured.or_else(|| Some(format!("http://cnapi.{}.{}", datacenter_name?, dns_domain?)))
    }

    /// IMGAPI's URL: `imgapi_domain` of node.config, else by the data centre's name.
    ///
    /// # Errors
    /// In words, when neither is known.
    pub fn imgapi_url(layout: &Layout, datacenter_name: Option<&str>, dns_domain: Option<&str>) -> Result<String, String> {
        let config = triton_sysinfo::NodeConfig::load(layout).map_err(|error| triton_agent::chain(&error).to_string())?;
        let named = config.get("imgapi_domain").filter(|domain| !domain.is_empty()).map(str::to_owned);
        let domain = named.or_else(|| Some(format!("imgapi.{}.{}", datacenter_name?, dns_domain?)));
        domain.map(|domain| format!("http://{domain}")).ok_or_else(|| {
            "IMGAPI is not known: neither imgapi_domain nor datacenter_name and dns_domain are set in node.config".to_owned()
        })
    }

    /// Where the logs of tasks go.
    pub fn task_log_directory(&self, layout: &Layout) -> PathBuf {
        layout.at(self.tasklogdir.as_deref().filter(|path| path.starts_with('/')).unwrap_or("/var/log/cn-agent/logs"))
    }

    /// How long a new version of this agent is waited for before the one before it is put back; 90 seconds unless configured.
    pub fn agent_answer_timeout(&self) -> Duration {
        Duration::from_secs(self.agent_answer_timeout.filter(|seconds| *seconds > 0).unwrap_or(90))
    }

    /// How long a task may take; an hour unless configured.
    pub fn task_timeout(&self) -> Duration {
        Duration::from_secs(self.task_timeout.filter(|seconds| *seconds > 0).unwrap_or(3600))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(text: &str) -> (tempfile::TempDir, Layout, AgentConfig) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let path = layout.at("/opt/smartdc/agents/etc/cn-agent.config.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        let config = AgentConfig::load(&layout).unwrap();
        (root, layout, config)
    }

    #[test]
    fn known_keys_count_and_others_are_ignored() {
        let text = r#"{"cnapi":{"url":"http://10.0.0.2","x":1},"no_rabbit":true,"fluentd_host":null,"tasklogdir":"/var/log/t","y":[]}"#;
        let (_root, layout, config) = config(text);
        assert_eq!(config.cnapi_url(Some("coal"), Some("example.com")).as_deref(), Some("http://10.0.0.2"));
        assert_eq!(config.task_log_directory(&layout), layout.at("/var/log/t"));
        assert_eq!(config.task_timeout(), Duration::from_secs(3600));
    }

    #[test]
    fn without_a_url_the_data_centre_names_it_and_without_that_there_is_none() {
        let (_root, layout, config) = config("{}");
        assert_eq!(config.cnapi_url(Some("coal"), Some("example.com")).as_deref(), Some("http://cnapi.coal.example.com"));
        assert_eq!(config.cnapi_url(Some("coal"), None), None);
        assert_eq!(config.task_log_directory(&layout), layout.at("/var/log/cn-agent/logs"));
        assert!(AgentConfig::load(&Layout::new("/nonexistent")).is_ok());
    }
}
