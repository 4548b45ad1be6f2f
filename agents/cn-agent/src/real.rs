//! The real node behind the agent: the one place that names the model's crates.

mod create_image;
mod inventory;
mod node;
mod services;
mod stale;
mod watch;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use serde_json::Value;
use tokio::net::TcpListener;
use tracing::{info, warn};
use triton_agent::{Backoff, chain, logs, shutdown_signal};
use triton_files::Layout;
use triton_headnode::BaseUrl;
use triton_image::Platform;
use triton_sysinfo::{AgentEntry, HostFacts, Source, Sysinfo, SysinfoOptions, installed_agents};

use crate::{
    ANNOUNCED_VERSION, AgentConfig, Args, Facilities, Limits, NAME, Numbers, Settings, StartError, TWIN, TaskLog,
    report::Intervals,
    run,
    tasks::{Model, SysinfoSource, control_group, registry},
};

pub use inventory::Inventory;
pub use node::Node;

/// How long running tasks may go on after SIGTERM; the unit's `TimeoutStopSec` is above it.
const GRACE: Duration = Duration::from_secs(60);

/// Serves the node below `layout` until SIGTERM or SIGINT.
///
/// # Errors
/// When the agent cannot begin; what may come right by itself (the admin address, CNAPI) is waited for instead.
pub async fn serve(args: &Args, layout: &Layout) -> Result<(), StartError> {
    let signal = shutdown_signal().map_err(|error| StartError::System("take over signals", error))?;
    let mut signal = std::pin::pin!(signal);
    let config = AgentConfig::load(layout)?;
    layout.prepare()?;
    let at = layout.clone();
    let facts = tokio::task::spawn_blocking(move || HostFacts::load(&at))
        .await
        .map_err(|error| StartError::System("read the facts of the node", std::io::Error::other(error)))??;
    let cnapi = cnapi_url(&config, &facts)?;
    let listener = tokio::select! {
        listener = bind(layout, args.admin_ip, args.port()) => listener,
        _ = &mut signal => return Ok(()),
    };
    let address = listener.local_addr().map_err(|error| StartError::System("learn the bound address", error))?;
    let hostname = logs::hostname();
    let task_log = TaskLog::start(&config.task_log_directory(layout), &hostname)
        .map_err(|error| StartError::System("make the directory of task logs", error))?;
    let limits = Limits { task_timeout: config.task_timeout(), ..Limits::default() };
    let settings = Settings {
        server: facts.server_uuid,
        hostname,
        cnapi,
        limits,
        intervals: Intervals::default(),
        grace: GRACE,
        task_log,
        twin: args.update_twin,
    };
    let facilities = facilities(layout, address, &facts, args.update_twin, &config)?;
    run(listener, settings, facilities, async move {
        let cause = signal.await;
        info!(%cause, "draining; instances go on running");
    })
    .await
}

fn cnapi_url(config: &AgentConfig, facts: &HostFacts) -> Result<BaseUrl, StartError> {
    let url = config.cnapi_url(facts.datacenter_name.as_deref(), facts.dns_domain.as_deref()).ok_or_else(|| {
        StartError::Cnapi("neither cnapi.url in cn-agent.config.json nor datacenter_name and dns_domain in node.config are set".to_owned())
    })?;
    url.parse().map_err(|error| StartError::Cnapi(format!("{error}")))
}

fn facilities(layout: &Layout, address: SocketAddr, facts: &HostFacts, twin: bool, config: &AgentConfig) -> Result<Facilities, StartError> {
    let numbers = Numbers::default();
    let node = Arc::new(Node::new(layout, platform(layout, facts)));
    let sysinfo = sysinfo_source(layout, address);
    let firewaller = format!("http://{}", SocketAddr::new(address.ip(), 2021));
    let firewaller = firewaller.parse().map_err(|error| StartError::Cnapi(format!("{error}")))?;
    let mut model = Model::new(layout.clone(), node.clone(), node.clone(), sysinfo, firewaller);
    let agents_host = services::host(layout, address, facts, twin, config);
    let survivors = control_group::prepare(layout, if twin { TWIN } else { NAME });
    if survivors > 0 {
        warn!(survivors, "processes of scripts that an earlier run of the agent left were killed");
    }
    let (dirty, stale) = (Arc::new(AtomicBool::new(false)), Arc::<stale::Stale>::default());
    if !twin {
        let recovered = agents_host.packages.recover(NAME);
        if !recovered.is_empty() {
            let names: Vec<&str> = recovered.iter().map(|package| package.name.as_str()).collect();
            warn!(agents = ?names, "agents whose installation was interrupted were put back");
            let packages = agents_host.packages.clone();
            tokio::spawn(async move { packages.welcome_all(&recovered).await });
        }
        watch::spawn(layout, node.clone(), dirty.clone(), stale.clone()).map_err(|error| StartError::System("start the watcher", error))?;
    }
    model.admin_ip = address.ip();
    model.agents = Some(agents_host);
    let inventory = Inventory::watched(node, stale, numbers.clone());
    let at = layout.clone();
    Ok(Facilities {
        registry: registry(&model),
        model,
        agents: Arc::new(move || agents(&at)),
        status: Arc::new(move || inventory.sample()),
        dirty,
        numbers,
    })
}

/// What images may require. On a stock distribution the stamp is made up, and no requirement is held against it.
fn platform(layout: &Layout, facts: &HostFacts) -> Platform {
    let release = std::fs::read_to_string(layout.at("/etc/os-release")).unwrap_or_default();
    let booted = release.lines().any(|line| line.starts_with("TRITON_RELEASE="));
    Platform { live_image: booted.then(|| facts.platform_stamp.clone()), ..Platform::default() }
}

/// This agent as it lists itself.
fn own_entry(layout: &Layout) -> AgentEntry {
    let installed = installed_agents(layout).into_iter().find(|agent| agent.name == NAME);
    let entry = AgentEntry { name: NAME.to_owned(), version: ANNOUNCED_VERSION.to_owned(), image_uuid: None, uuid: None };
    installed.map_or(entry.clone(), |installed| AgentEntry { version: entry.version, ..installed })
}

/// The agents list (section 5.3). This agent is in it, with the announced version, whatever is installed (ruling 57).
fn agents(layout: &Layout) -> Vec<Value> {
    let mut list = installed_agents(layout);
    list.retain(|agent| agent.name != NAME);
    list.push(own_entry(layout));
    list.iter().filter_map(|agent| serde_json::to_value(agent).ok()).collect()
}

fn options(layout: &Layout, admin_ip: Option<Ipv4Addr>, port: Option<u16>) -> SysinfoOptions {
    SysinfoOptions { admin_ip, cn_agent_port: port, agents: vec![own_entry(layout)], source: Source::kernel() }
}

fn sysinfo_source(layout: &Layout, address: SocketAddr) -> SysinfoSource {
    let layout = layout.clone();
    let admin_ip = match address.ip() {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    Arc::new(move || collect(&layout, &options(&layout, admin_ip, Some(address.port()))).map(Sysinfo::into_map))
}

fn collect(layout: &Layout, options: &SysinfoOptions) -> Result<Sysinfo, String> {
    Sysinfo::collect(layout, options).map_err(|error| chain(&error).to_string())
}

/// Binds the admin address. It may be missing for some time after boot, and is waited for.
async fn bind(layout: &Layout, given: Option<Ipv4Addr>, port: u16) -> TcpListener {
    let mut backoff = Backoff::new(Duration::from_millis(500), 1.6, Duration::from_secs(10), 0.2);
    loop {
        match try_bind(layout, given, port).await {
            Ok(listener) => return listener,
            Err(error) => warn!(error, port, "the admin address cannot be served on yet"),
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn try_bind(layout: &Layout, given: Option<Ipv4Addr>, port: u16) -> Result<TcpListener, String> {
    let ip = match given {
        Some(ip) => IpAddr::V4(ip),
        None => {
            let layout = layout.clone();
            let collected = tokio::task::spawn_blocking(move || collect(&layout, &options(&layout, None, None))).await;
            collected.map_err(|error| error.to_string())??.admin_ip().map_err(|error| error.to_string())?
        }
    };
    if ip.is_unspecified() {
        return Err("the admin address is 0.0.0.0: this agent never listens on all addresses".to_owned());
    }
    TcpListener::bind(SocketAddr::new(ip, port)).await.map_err(|error| format!("{ip}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// cn-agent case 56
    #[test]
    fn the_agents_list_has_this_agent_at_the_announced_version_even_on_an_empty_node() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::new(root.path());
        assert_eq!(Value::from(agents(&layout)).to_string(), r#"[{"name":"cn-agent","version":"2.15.0"}]"#);
        let modules = layout.at("/opt/smartdc/agents/lib/node_modules");
        for (name, version) in [("cn-agent", "0.1.0"), ("vm-agent", "1.9.1")] {
            fs::create_dir_all(modules.join(name)).unwrap();
            fs::write(modules.join(name).join("package.json"), format!(r#"{{"name":"{name}","version":"{version}"}}"#)).unwrap();
        }
        fs::write(modules.join("cn-agent/image_uuid"), "0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10").unwrap();
        let list = agents(&layout);
        assert_eq!(list.len(), 2);
        assert_eq!((&list[1]["version"], list[1]["image_uuid"].as_str()), (&"2.15.0".into(), Some("0f1c9a3e-7a0d-4f9b-8a44-6f2f0c9b7d10")));
    }
}
