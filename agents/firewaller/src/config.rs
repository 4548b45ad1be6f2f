//! Arguments and configuration (firewaller.md section 2.1).

use std::{path::PathBuf, time::Duration};

use clap::Parser;
use serde::Deserialize;
use triton_agent::{ConfigError, load_json_optional, program::AgentArgs};
use triton_files::{FileError, Layout};
use triton_headnode::Names;
use triton_sysinfo::NodeConfig;

use crate::Settings;

/// The agent that keeps the Cloud Firewall of this compute node in step with FWAPI.
///
/// Rules that tenants and operators have in FWAPI are stored in /var/fw/rules, instances of other nodes that they speak of in /var/fw/vms, and
/// both are put in force in the table triton_fw of the bridge family. FWAPI tells of changes over FAST (port 2020); everything is compared with
/// FWAPI and VMAPI at start, after each new subscription and every half hour. Port 2021 of the admin address shows and takes rules.
///
/// What is in force stays when FWAPI cannot be reached, when an answer is not complete, and when this agent stops or is killed. A table that
/// somebody emptied or edited is made anew at once. fwadm shows and changes rules with or without the agent.
///
/// FILES: /usr/triton/config/node.config (fwapi_domain, vmapi_domain; else fwapi and vmapi in the domain of the data centre; their names are asked of binder in that domain, then of
/// the system) and, if there,
/// /opt/smartdc/agents/etc/firewaller.config.json with any of fwapi.url, fwapi.fast.port, fwapi.fast.host, vmapi.url, restify.port,
/// syncInterval (minutes, 30 unless given), syncJitter (seconds by which comparisons are put off at random, 30 unless given).
///
/// EXIT STATUS: 0 stopped by a signal; 1 failed; 2 wrong arguments; 69 the node or the running agent is not there; 78 the configuration cannot be used.
#[derive(Clone, Debug, Parser)]
#[command(name = "firewaller", version)]
pub struct Args {
    /// What every agent takes.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// `firewaller.config.json`, with upstream's names. Other keys are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentConfig {
    fwapi: FwApiConfig,
    vmapi: ServiceConfig,
    restify: PortConfig,
    /// Minutes between two comparisons.
    sync_interval: Option<u64>,
    /// Seconds by which a comparison is put off at most; ours.
    sync_jitter: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct FwApiConfig {
    url: Option<String>,
    fast: PortConfig,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct ServiceConfig {
    url: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct PortConfig {
    host: Option<String>,
    port: Option<u16>,
}

/// Where the services of the data centre are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// FWAPI's URL.
    pub fwapi: String,
    /// VMAPI's URL.
    pub vmapi: String,
    /// Host and port of FWAPI's events.
    pub fast: String,
    /// The domain of the data centre's services, whose names its binder knows.
    pub domain: Option<String>,
}

impl Addresses {
    /// How the services' names are looked up: by `binder` in their domain (section 2.1).
    pub fn names(&self) -> Names {
        match &self.domain {
            Some(domain) => Names::by_binder(domain, &format!("binder.{domain}:53")),
            None => Names::system(),
        }
    }
}

impl AgentConfig {
    /// Where the file is.
    pub fn path(layout: &Layout) -> PathBuf {
        layout.at("/opt/smartdc/agents/etc/firewaller.config.json")
    }

    /// Reads the file below `layout`; a missing one has no settings.
    ///
    /// # Errors
    /// When it is there and is no such document.
    pub fn load(layout: &Layout) -> Result<Self, ConfigError> {
        Ok(load_json_optional(&Self::path(layout))?.unwrap_or_default())
    }

    /// The port of the HTTP service; 2021 unless configured, 0 picks a free one.
    pub fn port(&self) -> u16 {
        self.restify.port.unwrap_or(2021)
    }

    /// How the agent behaves.
    pub fn settings(&self) -> Settings {
        let settings = Settings::default();
        let minutes = self.sync_interval.filter(|minutes| *minutes > 0);
        Settings {
            sync_every: minutes.map_or(settings.sync_every, |minutes| Duration::from_secs(minutes.saturating_mul(60))),
            jitter: self.sync_jitter.map_or(settings.jitter, Duration::from_secs),
            ..settings
        }
    }

    /// Where the services are: the configured places, else the domains of node.config, else those that the data centre's name makes; `None`
    /// when that is not known yet.
    ///
    /// # Errors
    /// When node.config cannot be read.
    pub fn addresses(&self, layout: &Layout) -> Result<Option<Addresses>, FileError> {
        let node = NodeConfig::load(layout)?;
        let domain = |service: &str| {
            let named = node.get(&format!("{service}_domain")).map(str::to_owned);
            named.or_else(|| Some(format!("{service}.{}.{}", node.get("datacenter_name")?, node.get("dns_domain")?)))
        };
        let url = |given: &Option<String>, service: &str| {
            given.clone().filter(|url| !url.is_empty()).or_else(|| domain(service).map(|domain| format!("http://{domain}")))
        };
        let (Some(fwapi), Some(vmapi)) = (url(&self.fwapi.url, "fwapi"), url(&self.vmapi.url, "vmapi")) else { return Ok(None) };
        let own = || {
            let authority = fwapi.trim_start_matches("http://").split(['/', '?']).next().unwrap_or_default();
            authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_owned()
        };
        let host = self.fwapi.fast.host.clone().unwrap_or_else(own);
        let fast = format!("{host}:{}", self.fwapi.fast.port.unwrap_or(2020));
        let own = domain("vmapi").and_then(|name| Some(name.strip_prefix("vmapi.")?.to_owned())).filter(|domain| !domain.is_empty());
        Ok(Some(Addresses { fwapi, vmapi, fast, domain: own }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn node(config: &str, node_config: &str) -> (tempfile::TempDir, Layout) {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        let path = AgentConfig::path(&layout);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::create_dir_all(layout.config()).unwrap();
        fs::write(path, config).unwrap();
        fs::write(layout.config().join("node.config"), node_config).unwrap();
        (root, layout)
    }

    /// firewaller section 2.1
    #[test]
    fn the_configured_places_win_then_node_config_then_the_data_centres_name() {
        let text = r#"{"fwapi":{"fast":{"port":2020,"retry":{"retries":"Infinity"}}},"restify":{"port":2021},"retry":{},"syncInterval":30,"recentTasksLength":50}"#;
        let (_root, layout) = node(text, "fwapi_domain='fwapi.a.b'\nvmapi_domain='vmapi.a.b'\ndatacenter_name='dc'\ndns_domain='x.y'\n");
        let config = AgentConfig::load(&layout).unwrap();
        let wanted = Addresses {
            fwapi: "http://fwapi.a.b".into(),
            vmapi: "http://vmapi.a.b".into(),
            fast: "fwapi.a.b:2020".into(),
            domain: Some("a.b".into()),
        };
        assert_eq!(config.addresses(&layout).unwrap(), Some(wanted));
        assert_eq!((config.port(), config.settings().sync_every), (2021, Duration::from_secs(1800)));
        assert_eq!(config.settings().jitter, Duration::from_secs(30));

        let (_root, layout) = node(
            r#"{"fwapi":{"url":"http://127.0.0.1:8085"},"syncInterval":0,"syncJitter":0}"#,
            "datacenter_name='dc'\ndns_domain='x.y'\n",
        );
        let config = AgentConfig::load(&layout).unwrap();
        let wanted = Addresses {
            fwapi: "http://127.0.0.1:8085".into(),
            vmapi: "http://vmapi.dc.x.y".into(),
            fast: "127.0.0.1:2020".into(),
            domain: Some("dc.x.y".into()),
        };
        assert_eq!(format!("{:?}", wanted.names()), "Names(binder.dc.x.y:53)");
        assert_eq!(config.addresses(&layout).unwrap(), Some(wanted));
        assert_eq!((config.settings().sync_every, config.settings().jitter), (Duration::from_secs(1800), Duration::ZERO));
    }

    #[test]
    fn what_is_not_known_is_not_made_up_and_a_broken_file_is_an_error() {
        let (_root, layout) = node("{}", "datacenter_name='dc'\n");
        assert_eq!(AgentConfig::load(&layout).unwrap().addresses(&layout).unwrap(), None);
        let (_root, layout) = node("{", "");
        assert!(AgentConfig::load(&layout).is_err());
        assert_eq!(AgentConfig::load(&Layout::new("/nonexistent")).unwrap(), AgentConfig::default());
    }
}
