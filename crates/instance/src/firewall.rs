//! The Cloud Firewall of an instance: in force before a link is up, following its tags, addresses and owner, gone with it
//! (firewaller.md sections 10.1 and 12.6).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use triton_files::{FileError, Layout, read_json, write_json_volatile};
use triton_firewall::{Firewall, FirewallError, LocalVm, Port};
use triton_fwrule::VmFacts;
use triton_nictag::NicTags;
use triton_types::{InstanceUuid, JsonMap, Lifecycle, Nic, NicAddress, RunPhase, VmConfig};

use crate::{Machines, RunStates, error::chain_text, names::host_link};

/// Where what was last known of each instance is kept: an instance that cannot be read stays filtered as it was (ruling 1).
const KNOWN: &str = "/run/triton/firewall-known.json";
/// How many ports of a tag's first bridges are surely full before another bridge is used.
const PORTS_OF_BRIDGE: usize = 900;

/// What the firewall needs to know of an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    uuid: InstanceUuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner_uuid: Option<String>,
    tags: JsonMap,
    nics: Vec<Nic>,
    firewall_enabled: bool,
    state: String,
}

/// All instances of this node as the firewall sees them.
///
/// # Errors
/// When the store of instances is not there, or there is an instance of which nothing is known: nothing is compiled without it.
pub fn local_vms(layout: &Layout) -> Result<Vec<LocalVm>, String> {
    let tags = NicTags::load(layout).map_err(|error| chain_text(&error))?;
    let all = known(layout)?;
    let mut nics_of: BTreeMap<String, usize> = BTreeMap::new();
    for nic in all.iter().flat_map(|vm| &vm.nics) {
        if let Some(bridge) = tags.bridge(&nic.nic_tag) {
            *nics_of.entry(bridge).or_default() += 1;
        }
    }
    let bridges = |first: &str| {
        let further = nics_of.get(first).copied().unwrap_or(0) / PORTS_OF_BRIDGE + 1;
        let named = (1..=further).map(|number| format!("{first}-{number}"));
        std::iter::once(first.to_owned()).chain(named).collect::<Vec<_>>()
    };
    all.iter().map(|vm| local_vm(vm, &tags, &bridges)).collect()
}

fn local_vm(vm: &Known, tags: &NicTags, bridges: &impl Fn(&str) -> Vec<String>) -> Result<LocalVm, String> {
    let object = match serde_json::to_value(vm).map_err(|error| error.to_string())? {
        serde_json::Value::Object(object) => object,
        other => return Err(format!("an instance is described by {other}")),
    };
    let ports = vm.nics.iter().map(|nic| Port {
        link: host_link(vm.uuid, &nic.interface),
        // Untagged frames are of VLAN 1 on the bridge (ruling 19).
        networks: tags
            .bridge(&nic.nic_tag)
            .map(|first| bridges(&first).into_iter().map(|bridge| (bridge, nic.vlan_id.filter(|vlan| *vlan != 0).unwrap_or(1))).collect())
            .unwrap_or_default(),
        dhcp: nic.ips.contains(&NicAddress::Dhcp),
        addrconf: nic.ips.contains(&NicAddress::Addrconf),
    });
    Ok(LocalVm { facts: VmFacts::from_object(&object)?, ports: ports.collect() })
}

fn known(layout: &Layout) -> Result<Vec<Known>, String> {
    let (machines, runs) = (Machines::new(layout), RunStates::new(layout));
    let path = layout.at(KNOWN);
    let before: BTreeMap<InstanceUuid, Known> = read_json(&path)
        .unwrap_or_else(|error: FileError| {
            tracing::warn!(error = %chain_text(&error), "what was last known of instances is not");
            None
        })
        .unwrap_or_default();
    let mut all = BTreeMap::new();
    for uuid in machines.uuids().map_err(|error| chain_text(&error))? {
        let known = match machines.read(uuid) {
            // Others' creations are under way, or failed: they have no links (section 10.1).
            Ok(machine) if machine.file.lifecycle == Lifecycle::Provisioning => continue,
            Ok(machine) => {
                let config = machine.file.config;
                let running = matches!(runs.find(uuid), Ok(Some(run)) if run.phase == RunPhase::Running);
                let state = if running { "running" } else { "stopped" }.to_owned();
                let (owner_uuid, tags, nics) = (config.owner_uuid, config.tags, config.nics);
                Known { uuid, owner_uuid, tags, nics, firewall_enabled: config.firewall_enabled, state }
            }
            // Gone meanwhile.
            Err(_) if !machines.exists(uuid) => continue,
            Err(error) => match before.get(&uuid) {
                Some(known) => {
                    tracing::warn!(vm_uuid = %uuid, error = %chain_text(&error), "it is filtered as it was last known");
                    known.clone()
                }
                None => {
                    tracing::error!(vm_uuid = %uuid, error = %chain_text(&error), "nothing is known of it: it is neither filtered nor a peer, and cannot start");
                    continue;
                }
            },
        };
        all.insert(uuid, known);
    }
    if all != before
        && let Err(error) = write_json_volatile(&path, &all, 0o600)
    {
        tracing::warn!(error = %chain_text(&error), "what is known of instances is not kept");
    }
    Ok(all.into_values().collect())
}

/// Puts the firewall of an instance in force before its links are there. Costs one question of the kernel when it is, as after a reboot of
/// the guest: the links of all instances that exist are judged, running or not.
///
/// # Errors
/// No link may then go up.
pub(crate) fn protect(layout: &Layout, config: &VmConfig) -> Result<(), String> {
    if !config.firewall_enabled || config.nics.is_empty() {
        return Ok(());
    }
    let links: Vec<String> = config.nics.iter().map(|nic| host_link(config.uuid, &nic.interface)).collect();
    let put = || -> Result<(), FirewallError> {
        let mut firewall = Firewall::open(layout)?;
        if !firewall.filter().covers(&links)? {
            firewall.converge(|| local_vms(layout))?;
        }
        Ok(())
    };
    put().map_err(|error| chain_text(&error))
}

/// Follows a change of an instance: tags, addresses, owner, firewall, existence. `filtered` says whether its own firewall is enabled: if not,
/// and while nobody's is in force, there is nothing to do, and it costs one question of the kernel.
///
/// # Errors
/// What was in force still is; the next change and the firewall's agent try again.
pub fn follow(layout: &Layout, filtered: bool) -> Result<(), FirewallError> {
    let mut firewall = match Firewall::open(layout) {
        Ok(firewall) => firewall,
        // Nothing can be in force here, and nothing must.
        Err(_) if !filtered => return Ok(()),
        Err(error) => return Err(error),
    };
    if filtered || firewall.filter().backend()?.is_some() {
        firewall.converge(|| local_vms(layout))?;
    }
    Ok(())
}

/// As [`follow`], for what is done already and cannot fail any more.
pub(crate) fn follow_quietly(layout: &Layout, uuid: InstanceUuid, filtered: bool) {
    if let Err(error) = follow(layout, filtered) {
        tracing::warn!(vm_uuid = %uuid, error = %chain_text(&error), "the firewall does not follow a change of an instance");
    }
}
