//! The node's own files on the pool: what a headnode's set-up would have left there.

use std::{fs, path::Path};

use serde_json::json;
use triton_agent::chain;
use triton_files::{Layout, steps, write_atomic, write_json};
use triton_storage::Storage;
use triton_types::StorageKind;

use super::{
    network::Network,
    pool::{POOL, run},
};

/// States that joysetup and agentsetup go through (platform.md section 6.2), as far as they mean something here.
const STATES: [&str; 5] = ["zpool_created", "datasets_setup", "configs_installed", "filesystems_setup", "setup_complete"];

/// Writes `/opt/triton/config`; what the node was told at boot is kept.
pub(crate) fn configure(layout: &Layout, network: &Network, hostname: Option<&str>) -> Result<(), String> {
    let folder = layout.at("/opt/triton/config");
    for needed in [folder.clone(), layout.at("/opt/smartdc/agents/etc"), layout.at("/opt/custom")] {
        fs::create_dir_all(&needed).map_err(|error| format!("could not create {}: {error}", needed.display()))?;
    }
    let current = layout.config();
    if !current.is_symlink() {
        run("cp", &["-a", "--update=none", &format!("{}/.", current.display()), &format!("{}/", folder.display())])?;
    }
    steps::reached("setup.config-copied");
    let text = |error: triton_files::FileError| chain(&error).to_string();
    if let Some(document) = &network.networking {
        write_json(&folder.join("triton-networking.json"), document, 0o644).map_err(text)?;
    } else if let Some(hostname) = hostname {
        rename(&folder.join("triton-networking.json"), hostname)?;
    }
    if !network.node_config.is_empty() {
        write_atomic(&folder.join("node.config"), network.node_config.as_bytes(), 0o600).map_err(text)?;
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let state = json!({
        "node_type": "computenode", "start_time": now, "current_state": "setup_complete", "seen_states": STATES, "complete": true,
        "last_updated": now,
    });
    write_json(&folder.join("triton-setup-state.json"), &state, 0o400).map_err(text)?;
    steps::reached("setup.configured");
    Ok(())
}

/// The node's name in a document that stays otherwise as it is.
fn rename(path: &Path, hostname: &str) -> Result<(), String> {
    let document: Option<serde_json::Value> = triton_files::read_json(path).map_err(|error| chain(&error).to_string())?;
    let Some(mut document) = document else { return Ok(()) };
    document["hostname"] = json!(hostname);
    write_json(path, &document, 0o644).map_err(|error| chain(&error).to_string())
}

/// From now on programs find the pool's configuration and keep instances there.
pub(crate) fn begin(layout: &Layout) -> Result<(), String> {
    run("/usr/triton/bin/system-pool", &[])?;
    layout.prepare().map_err(|error| chain(&error).to_string())?;
    Storage::choose(layout, StorageKind::Zfs, POOL).map_err(|error| chain(&error).to_string())?;
    steps::reached("setup.begun");
    Ok(())
}
