//! Files of the node that a headnode, its setup or config-agent would have written (cn-agent.md section 6.1).

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::json;
use triton_files::{Identity, Layout};
use triton_storage::Storage;
use triton_types::{ServerUuid, StorageKind};

use super::{args::UpArgs, site, state::State};

/// Makes the root ours, or finds that it is. Returns its state and whether it is new.
pub fn claim(layout: &Layout) -> Result<(State, bool)> {
    if let Some(state) = State::load(layout)? {
        return Ok((state, false));
    }
    let root = layout.root();
    let empty = match fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        Err(e) => return Err(e).with_context(|| format!("could not look into {}", root.display())),
    };
    if !empty {
        bail!("{} holds files that `up` did not make: choose another folder with --root", root.display());
    }
    fs::create_dir_all(root).with_context(|| format!("could not create {}", root.display()))?;
    let state = State::new();
    state.save(layout)?;
    Ok((state, true))
}

/// State, identity, storage and configuration. Returns the node's uuid.
pub fn prepare(layout: &Layout, args: &UpArgs) -> Result<ServerUuid> {
    layout.prepare()?;
    let identity = Identity::load_or_create(layout)?;
    let server = identity.override_uuid.context("the node has no identity of its own")?;
    let (kind, pool) = match &args.pool {
        Some(pool) => (StorageKind::Zfs, pool.as_str()),
        None => (StorageKind::Dir, "zones"),
    };
    Storage::choose(layout, kind, pool).with_context(|| format!("could not keep instances in the pool {pool}"))?;
    let [cnapi, imgapi, vmapi, napi, fwapi] = site::SERVICES;
    let config = layout.config();
    let node_config =
        format!("datacenter_name='{}'\ndns_domain='{}'\nvmapi_domain='{vmapi}'\nfwapi_domain='{fwapi}'\n", site::DATACENTER, site::DOMAIN);
    triton_files::write_atomic(&config.join("node.config"), node_config.as_bytes(), 0o644)?;
    triton_files::write_json(&config.join("triton-setup-state.json"), &json!({"complete": true}), 0o644)?;
    let etc = layout.at("/opt/smartdc/agents/etc");
    fs::create_dir_all(&etc)?;
    let agent = json!({"cnapi": {"url": format!("http://{cnapi}")}, "no_rabbit": true, "tasklogdir": "/var/log/cn-agent/logs"});
    triton_files::write_json(&etc.join("cn-agent.config.json"), &agent, 0o644)?;
    let agent = json!({"vmapi_url": format!("http://{vmapi}"), "no_rabbit": true});
    triton_files::write_json(&etc.join("vm-agent.config.json"), &agent, 0o644)?;
    let agent = json!({"napi": {"url": format!("http://{napi}")}, "no_rabbit": true, "admin_uuid": site::OWNER, "cn_uuid": server});
    triton_files::write_json(&etc.join("net-agent.config.json"), &agent, 0o644)?;
    let sources = json!({"sources": [{"url": format!("http://{imgapi}"), "type": "imgapi"}]});
    triton_files::write_json(&layout.imgadm().join("imgadm.conf"), &sources, 0o644)?;
    Ok(server)
}
