//! Changing the properties of an instance that does not run.

use triton_types::{InstanceUuid, JsonMap, Lifecycle};

use crate::{InstanceError, Instances, instances::PATIENCE, world::NodeWorld};

impl Instances {
    /// Applies an update payload to a stopped instance, all of it or nothing (instances.md section 2.8). Identity fields of
    /// the payload are ignored.
    ///
    /// # Errors
    /// [`InstanceError::Payload`]; [`InstanceError::WrongState`] when it runs: properties of a running instance cannot be changed yet.
    pub fn update(&self, uuid: InstanceUuid, payload: JsonMap) -> Result<(), InstanceError> {
        let _lock = self.lock(uuid, "update", PATIENCE)?;
        let mut machine = self.machines.read(uuid)?;
        let _claims = self.claim(uuid)?;
        let updated = triton_vmspec::update(&machine.file.config, payload, &NodeWorld::new(self))?;
        for warning in &updated.warnings {
            tracing::warn!(vm_uuid = %uuid, %warning, "payload");
        }
        if updated.changes.is_empty() {
            return Ok(());
        }
        let (_, presence) = self.run_of(uuid);
        if presence.has_init() || machine.file.lifecycle != Lifecycle::Installed {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(format!("Cannot update vm in state \"{state}\", must be \"stopped\".")));
        }
        if updated.config.quota != machine.file.config.quota {
            let mib = updated.config.quota.as_ref().and_then(triton_types::Quota::mib);
            self.storage.set_quota(uuid, mib).map_err(InstanceError::step("set the quota of", uuid))?;
        }
        if updated.config.indestructible_zoneroot != machine.file.config.indestructible_zoneroot {
            let protect = updated.config.indestructible_zoneroot;
            self.storage.set_indestructible(uuid, protect).map_err(InstanceError::step("protect", uuid))?;
        }
        machine.file.config = updated.config;
        self.machines.write_documents(&machine.file)?;
        self.machines.write(&machine.file)?;
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))
    }
}
