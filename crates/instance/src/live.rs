//! What of a change reaches a running guest at once (column L of instances.md section 2.2; ruling 42).

use std::collections::BTreeMap;

use triton_cgroup::CgroupLayout;
use triton_types::{InstanceUuid, MachineFile, VmConfig};
use triton_vmspec::{Change, Effect};

use crate::{
    InstanceError, Instances,
    boot::BootFiles,
    error::chain_text,
    guest_mounts,
    launch::monitor_program,
    spec::{self, Host},
    update::UpdateOutcome,
};

/// Files of a payload's group whose limit is absent from a config when there is none, and what says so to the kernel.
const UNLIMITED: [(&str, &str); 4] = [("memory.max", "max"), ("memory.swap.max", "max"), ("pids.max", "max"), ("cpu.weight", "100")];
/// The same on a hybrid machine.
const UNLIMITED_V1: [(&str, &str); 4] =
    [("memory.limit_in_bytes", "-1"), ("memory.memsw.limit_in_bytes", "-1"), ("pids.max", "max"), ("cpu.shares", "1024")];

impl Instances {
    /// Applies `changes` to the guest that runs with init `pid`, as far as that can be. What cannot be is said in the outcome;
    /// nothing here makes the update fail, for it is stored already (instances.md section 7.1).
    pub(crate) fn apply_live(&self, old: &VmConfig, file: &MachineFile, changes: &[Change], pid: i32, outcome: &mut UpdateOutcome) {
        let limits = changes.iter().any(|change| matches!(change, Change::Memory | Change::CpuCap | Change::CpuShares | Change::Lwps));
        let limited = limits && outcome.warn("limits", &self.apply_limits(file));
        if changes.contains(&Change::Memory) && old.max_locked_memory != file.config.max_locked_memory {
            outcome.warn("max_locked_memory", &self.apply_locked_memory(file));
        }
        let links_change = changes.iter().any(|c| matches!(c, Change::NicsAdded(_) | Change::NicsRemoved(_) | Change::NicsChanged(_)));
        for change in changes {
            let word = word(change);
            let applied =
                match change {
                    Change::Memory | Change::CpuCap | Change::CpuShares | Change::Lwps => limited,
                    Change::Tmpfs { resize: true } => outcome
                        .warn("tmpfs", &guest_mounts::resize_tmp(pid, file.config.tmpfs.unwrap_or(0)).map_err(|error| error.to_string())),
                    // What a link may send, while the link itself stays as it is.
                    Change::NicFilters(_) if !links_change => outcome
                        .warn("anti-spoofing", &crate::guard::protect(&self.layout, &file.config).map_err(|error| chain_text(&error))),
                    Change::Routes if !links_change => {
                        outcome.warn("routes", &crate::live_routes::follow(pid, old, &file.config).map_err(|error| chain_text(&error)))
                    }
                    // Links and addresses are made at boot, and what rests on them.
                    Change::Routes | Change::NicFilters(_) => false,
                    // ZFS writes from threads of the kernel: the weight is stored and shown (section 7.1).
                    Change::IoPriority | Change::Firewall => continue,
                    other => match other.effect() {
                        Effect::Stored => continue,
                        Effect::Live => true,
                        Effect::NextBoot => false,
                    },
                };
            let list = if applied { &mut outcome.applied } else { &mut outcome.next_boot };
            if !list.contains(&word) {
                list.push(word);
            }
        }
    }

    /// Writes the limits of the configuration to the payload's group.
    fn apply_limits(&self, file: &MachineFile) -> Result<(), String> {
        let uuid = file.config.uuid;
        let legacy = self.cgroups.layout() == CgroupLayout::Hybrid;
        let wanted = self.limits_of(file, legacy).map_err(|error| chain_text(&error))?;
        let group = format!("{}/payload", self.cgroup(uuid));
        if let (Some(limit), Ok(used)) = (wanted.get("memory.max"), self.cgroups.get(&group, "memory.current"))
            && let (Ok(limit), Ok(used)) = (limit.parse::<u64>(), used.trim().parse::<u64>())
            && used > limit
        {
            tracing::warn!(vm_uuid = %uuid, used, limit, "the new memory limit is below what the guest uses: its processes may be killed");
        }
        let mut failures = BTreeMap::new();
        // In v1 the order in which memory and memory with swap must be written depends on which grows: so twice.
        for _ in 0..2 {
            failures.clear();
            for (name, value) in &wanted {
                // A hybrid machine has each file in one of its hierarchies only; swap may not be counted at all.
                if self.cgroups.get(&group, name).is_err() {
                    continue;
                }
                if let Err(error) = self.cgroups.set(&group, name, value) {
                    failures.insert(name.clone(), chain_text(&error));
                }
            }
            if failures.is_empty() {
                return Ok(());
            }
        }
        Err(failures.into_values().collect::<Vec<_>>().join("; "))
    }

    /// Gives every process of the guest its limit of locked memory; those that begin later inherit it.
    fn apply_locked_memory(&self, file: &MachineFile) -> Result<(), String> {
        let Some(mib) = file.config.max_locked_memory.filter(|_| spec::may_raise_limits()) else { return Ok(()) };
        let group = format!("{}/payload", self.cgroup(file.config.uuid));
        let bytes = mib.saturating_mul(1 << 20);
        // Twice, for those that were being made meanwhile by one that had the old limit still.
        for _ in 0..2 {
            for pid in self.cgroups.pids(&group).map_err(|error| chain_text(&error))? {
                triton_process::limit_locked_memory(pid, bytes).map_err(|error| format!("process {pid}: {error}"))?;
            }
        }
        Ok(())
    }

    /// Files of the payload's group and their values, as the next boot would set them.
    fn limits_of(&self, file: &MachineFile, legacy: bool) -> Result<BTreeMap<String, String>, InstanceError> {
        let uuid: InstanceUuid = file.config.uuid;
        let files = BootFiles::of(&self.layout, uuid)?;
        let host = Host::look(&self.layout, &monitor_program(), legacy);
        let spec = spec::container(file, &files, &host, None).map_err(InstanceError::step("describe the container of", uuid))?;
        let text = triton_lxc::render(&spec).map_err(InstanceError::step("render the config of", uuid))?;
        Ok(limits_in(&text, legacy))
    }
}

/// The limits that a container's config sets, and the absence of those that it does not.
fn limits_in(config: &str, legacy: bool) -> BTreeMap<String, String> {
    let none: &[(&str, &str)] = if legacy { &UNLIMITED_V1 } else { &UNLIMITED };
    let mut limits: BTreeMap<String, String> = none.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for line in config.lines() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let prefix = if legacy { "lxc.cgroup." } else { "lxc.cgroup2." };
        let controllers = ["cpu.", "memory.", "pids.", "io."];
        if let Some(name) = key.strip_prefix(prefix).filter(|name| controllers.iter().any(|start| name.starts_with(start))) {
            limits.insert(name.to_owned(), value.to_owned());
        }
    }
    limits
}

/// The name of a change for people.
fn word(change: &Change) -> &'static str {
    match change {
        Change::Memory => "memory",
        Change::CpuCap => "cpu_cap",
        Change::CpuShares => "cpu_shares",
        Change::Lwps => "max_lwps",
        Change::IoPriority => "zfs_io_priority",
        Change::Tmpfs { .. } => "tmpfs",
        Change::Quota => "quota",
        Change::Dataset => "dataset properties",
        Change::Indestructible => "protection",
        Change::Firewall => "firewall_enabled",
        Change::Resolvers { .. } => "resolvers",
        Change::Metadata => "metadata",
        Change::Tags => "tags",
        Change::Routes => "routes",
        Change::NicsAdded(_) | Change::NicsRemoved(_) | Change::NicsChanged(_) => "nics",
        Change::NicFilters(_) => "anti-spoofing of nics",
        Change::Filesystems => "filesystems",
        Change::Boot => "boot settings",
        Change::Stored => "stored properties",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// instances case 29
    #[test]
    fn a_limit_that_went_is_written_as_none() {
        let config = "lxc.cgroup2.cpu.max = max 100000\nlxc.cgroup2.memory.max = 1048576\nlxc.cgroup.memory.limit_in_bytes = 1048576\n\
                      lxc.cgroup.dir.container = triton/x\nlxc.cgroup2.devices.allow = c 1:3 rwm\n";
        let v2 = limits_in(config, false);
        assert_eq!((v2["cpu.max"].as_str(), v2["memory.max"].as_str(), v2["pids.max"].as_str()), ("max 100000", "1048576", "max"));
        assert!(!v2.contains_key("devices.allow") && !v2.contains_key("memory.limit_in_bytes"));
        let v1 = limits_in(config, true);
        assert_eq!((v1["memory.limit_in_bytes"].as_str(), v1["memory.memsw.limit_in_bytes"].as_str()), ("1048576", "-1"));
    }
}
