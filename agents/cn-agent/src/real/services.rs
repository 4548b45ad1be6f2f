//! The services of this agent and of its twin, as systemd has them.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use tokio::process::Command;
use triton_files::Layout;
use triton_headnode::BaseUrl;
use triton_sysinfo::HostFacts;

use crate::{
    AgentConfig, PORT, TWIN_PORT,
    packages::Packages,
    tasks::{AgentHost, Patience, Pending, Services},
};

const AGENT_UNIT: &str = "triton-cn-agent.service";
const TWIN_UNIT: &str = "triton-cn-agent-update.service";
/// How long systemd may take to answer.
const ANSWER: Duration = Duration::from_secs(180);

/// What installations of agents on this node need.
pub(super) fn host(layout: &Layout, address: SocketAddr, facts: &HostFacts, twin: bool, config: &AgentConfig) -> AgentHost {
    let url = AgentConfig::imgapi_url(layout, facts.datacenter_name.as_deref(), facts.dns_domain.as_deref());
    let imgapi = url.and_then(|url| url.parse::<BaseUrl>().map_err(|error| format!("IMGAPI's URL {url:?} cannot be used: {error}")));
    AgentHost {
        packages: Packages::new(layout),
        imgapi,
        services: Arc::new(Systemd { layout: layout.clone() }),
        agent: if twin { SocketAddr::new(address.ip(), PORT) } else { address },
        twin: if twin { address } else { SocketAddr::new(address.ip(), TWIN_PORT) },
        is_twin: twin,
        patience: Patience { answer: config.agent_answer_timeout(), ..Patience::default() },
    }
}

struct Systemd {
    layout: Layout,
}

impl Systemd {
    async fn systemctl(&self, words: &[&str]) -> Result<(), String> {
        let program = self.layout.at("/usr/bin/systemctl");
        let mut command = Command::new(&program);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(ANSWER, command.output()).await;
        let output = output.map_err(|_| format!("{} did not end in {} s", program.display(), ANSWER.as_secs()))?;
        let output = output.map_err(|error| format!("could not run {}: {error}", program.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(500).collect();
        Err(format!("systemctl {}: {said}", words.join(" ")))
    }
}

impl Services for Systemd {
    fn start_twin(&self) -> Pending<'_> {
        Box::pin(self.systemctl(&["restart", TWIN_UNIT]))
    }

    fn stop_twin(&self) -> Pending<'_> {
        Box::pin(self.systemctl(&["--no-block", "stop", TWIN_UNIT]))
    }

    fn restart_agent(&self) -> Pending<'_> {
        Box::pin(self.systemctl(&["restart", AGENT_UNIT]))
    }
}
