//! Arguments and configuration.

use clap::Parser;
use serde::Deserialize;
use triton_agent::{ConfigError, load_json_optional, program::AgentArgs};
use triton_files::Layout;

use crate::Limits;

/// The metadata service: what guests ask about themselves.
///
/// Each instance has a socket at /var/zonecontrol/UUID/metadata.sock, which its guest sees at /.zonecontrol and
/// /native/.zonecontrol. Guests ask by mdata-get, mdata-list, mdata-put and mdata-delete. The service may be restarted at any
/// time: guests find the new socket in the place of the old one. Limits are set in
/// /opt/smartdc/agents/etc/metadata-agent.config.json, under "limits". An instance whose internal_metadata has
/// cloudinit_datasource "openstack" or "ec2" is served at http://169.254.169.254/ inside its guest, too.
#[derive(Clone, Debug, Parser)]
#[command(name = "metadata-agent", version)]
pub struct Args {
    /// What every agent takes.
    #[command(flatten)]
    pub agent: AgentArgs,
}

/// `metadata-agent.config.json`. Other keys are ignored.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentConfig {
    /// Bounds that are not the usual ones.
    #[serde(default)]
    pub limits: Limits,
}

impl AgentConfig {
    /// Reads the file below `layout`. One that is missing or cannot be used leaves the usual bounds; the latter is said.
    pub fn load(layout: &Layout) -> Self {
        let loaded: Result<Option<Self>, ConfigError> =
            load_json_optional(&layout.at("/opt/smartdc/agents/etc/metadata-agent.config.json"));
        let said = loaded.inspect_err(|error| tracing::error!(error = %triton_agent::chain(error), "the configuration cannot be used"));
        said.ok().flatten().unwrap_or_default()
    }
}
