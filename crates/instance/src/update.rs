//! Changing the properties of an instance, running or not (instances.md sections 2.2 to 2.9).

use triton_files::steps;
use triton_types::{InstanceUuid, JsonMap, Lifecycle, MachineFile};
use triton_vmspec::Change;

use crate::{InstanceError, Instances, error::chain_text, instances::PATIENCE, settle::StorageChange, world::NodeWorld};

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateOutcome {
    /// What differs from before; empty when the payload changed nothing.
    pub changes: Vec<Change>,
    /// What reached the running guest at once, in words. Empty for an instance that does not run.
    pub applied: Vec<&'static str>,
    /// What the running guest gets at its next boot, in words (ruling 42).
    pub next_boot: Vec<&'static str>,
    /// What was ignored, corrected, or could not be applied at once.
    pub warnings: Vec<String>,
}

impl UpdateOutcome {
    /// NICs came or went: cn-agent then reboots a running instance (instances.md section 2.4).
    pub fn nics_came_or_went(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::NicsAdded(_) | Change::NicsRemoved(_)))
    }

    /// Notes why `what` was not applied; true if it was.
    pub(crate) fn warn(&mut self, what: &str, result: &Result<(), String>) -> bool {
        if let Err(reason) = result {
            self.warnings.push(format!("{what} could not be applied to the running instance: {reason}"));
        }
        result.is_ok()
    }
}

/// Whether the firewall of this instance or of others may depend on it. Owners are among [`Change::Stored`].
fn concerns_firewall(change: &Change) -> bool {
    use Change::{Firewall, NicsAdded, NicsChanged, NicsRemoved, Stored, Tags};
    matches!(change, Firewall | Tags | Stored | NicsAdded(_) | NicsRemoved(_) | NicsChanged(_))
}

/// True if a NIC may get a MAC or an address that it did not have.
fn takes_addresses(payload: &JsonMap) -> bool {
    const TAKING: [&str; 7] = ["ip", "ips", "netmask", "nic_tag", "vlan_id", "vrrp_vrid", "vrrp_primary_ip"];
    let nics = payload.get("update_nics").and_then(serde_json::Value::as_array).into_iter().flatten();
    payload.contains_key("add_nics") || nics.into_iter().any(|nic| TAKING.iter().any(|key| nic.get(key).is_some()))
}

impl Instances {
    /// Applies an update payload, all of it or nothing (instances.md section 2.8), and to a running guest what can be applied
    /// while it runs. Identity fields of the payload are ignored. Killed at any point, the instance is as before or as after,
    /// and the next change or [`Instances::recover`] completes what is left to do.
    ///
    /// # Errors
    /// [`InstanceError::Payload`], or what storage refused, with nothing changed; [`InstanceError::WrongState`] when its creation
    /// failed or it is being deleted.
    pub fn update(&self, uuid: InstanceUuid, payload: JsonMap) -> Result<UpdateOutcome, InstanceError> {
        let _lock = self.lock(uuid, "update", PATIENCE)?;
        self.heal(uuid)?;
        let machine = self.machines.read(uuid)?;
        let protection = payload.contains_key("indestructible_zoneroot");
        // What no two instances may share is chosen and recorded under one lock.
        let claims = takes_addresses(&payload).then(|| self.claim(uuid)).transpose()?;
        let updated = triton_vmspec::update(&machine.file.config, payload, &NodeWorld::new(self))?;
        if machine.file.lifecycle != Lifecycle::Installed {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(format!("Cannot update vm in state \"{state}\".")));
        }
        for warning in &updated.warnings {
            tracing::warn!(vm_uuid = %uuid, %warning, "payload");
        }
        let mut outcome = UpdateOutcome { changes: updated.changes, warnings: updated.warnings, ..UpdateOutcome::default() };
        if outcome.changes.is_empty() && !protection {
            return Ok(outcome);
        }
        steps::reached("update.checked");
        let new = MachineFile { config: updated.config, ..machine.file.clone() };
        self.make_volumes(&new)?;
        let properties = outcome.changes.iter().any(|change| matches!(change, Change::Quota | Change::Dataset));
        self.store(&machine.file, &new, StorageChange { properties, protection })?;
        drop(claims);
        steps::reached("update.stored");
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))?;
        steps::reached("update.announced");
        self.follow_up(&machine.file, &new, &mut outcome);
        if outcome.changes.iter().any(concerns_firewall)
            && let Err(error) = crate::firewall::follow(&self.layout, new.config.firewall_enabled)
        {
            tracing::error!(vm_uuid = %uuid, error = %chain_text(&error), "the firewall does not follow an update");
            outcome.warnings.push(format!("the firewall could not follow: {}", chain_text(&error)));
        }
        Ok(outcome)
    }

    /// Everything that follows from a stored change: the guest's files, its seed, its limits. None of it makes the update fail.
    fn follow_up(&self, old: &MachineFile, new: &MachineFile, outcome: &mut UpdateOutcome) {
        let uuid = new.config.uuid;
        if let Err(error) = self.refresh_root(&old.config, new) {
            tracing::warn!(vm_uuid = %uuid, error = %chain_text(&error), "files of the guest do not follow an update");
            outcome.warnings.push(chain_text(&error));
        }
        steps::reached("update.files");
        let (run, presence) = self.run_of(uuid);
        if let Some(init) = run.init.filter(|_| presence.has_init()) {
            let changes = outcome.changes.clone();
            self.apply_live(&old.config, new, &changes, init.pid, outcome);
            steps::reached("update.live");
        }
    }
}
