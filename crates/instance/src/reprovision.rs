//! Another image for an instance that keeps its identity, NICs, metadata and limits (instances.md section 6.8).
//!
//! `<uuid>.reprovision` beside the machine file names the image from before the first effect until after the last one. Whoever
//! takes the instance's lock next completes what was interrupted; the guest is started by [`Instances::recover`], or by
//! whoever starts it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use triton_files::{read_json, remove_if_present, steps, write_json};
use triton_types::{ImageType, ImageUuid, InstanceUuid, JsonMap, Lifecycle};
use triton_vmspec::{ImageStatus, PayloadError, World};

use crate::{InstanceError, Instances, StopOptions, guest_root::clone_options, instances::PATIENCE, world::NodeWorld};

/// What is being done.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Plan {
    format: u32,
    image_uuid: ImageUuid,
}

/// The action that holds the lock meanwhile: readers then show the state `provisioning`.
pub(crate) const ACTION: &str = "reprovision";

impl Instances {
    fn plan_path(&self, uuid: InstanceUuid) -> PathBuf {
        self.machines.side_path(uuid, ACTION)
    }

    /// True while an instance has a reprovisioning that is not complete.
    pub(crate) fn is_reprovisioning(&self, uuid: InstanceUuid) -> bool {
        self.plan_path(uuid).exists()
    }

    /// Replaces the instance's root by that of the image which `payload` names, and starts it, whatever it did before. Its
    /// snapshots go with the old root. `autoboot` stays (ruling 40).
    ///
    /// # Errors
    /// With nothing changed: no `image_uuid`, an image that is not installed or of the wrong type, protection, a wrong state.
    /// Later: the step that failed; the next change of the instance tries again.
    pub fn reprovision(&self, uuid: InstanceUuid, payload: &JsonMap) -> Result<(), InstanceError> {
        let image = payload.get("image_uuid").ok_or(InstanceError::NoImageInPayload)?;
        let invalid = || InstanceError::Payload(PayloadError::InvalidValues(vec!["image_uuid".to_owned()]));
        let image: ImageUuid = image.as_str().and_then(|text| text.parse().ok()).ok_or_else(invalid)?;
        let _lock = self.lock(uuid, ACTION, PATIENCE)?;
        self.heal(uuid)?;
        let machine = self.machines.read(uuid)?;
        if machine.file.lifecycle != Lifecycle::Installed {
            let state = self.state_word(&machine);
            return Err(InstanceError::WrongState(format!("Cannot reprovision vm in state \"{state}\".")));
        }
        let world = NodeWorld::new(self);
        let fits = match (machine.file.config.docker, world.image(&image)) {
            (false, ImageStatus::Installed(ImageType::LxDataset | ImageType::Lxd)) => true,
            // One with an init does not become one without, nor the other way round.
            (true, ImageStatus::Installed(ImageType::Docker)) => world.image_process(&image).is_some(),
            _ => false,
        };
        if !fits {
            return Err(invalid());
        }
        if self.storage.indestructible(uuid).unwrap_or(machine.file.config.indestructible_zoneroot) {
            return Err(InstanceError::Protected("indestructible_zoneroot is set, cannot reprovision".to_owned()));
        }
        crate::boot::check_tags(&self.layout, &machine.file.config)?;
        steps::reached("reprovision.checked");
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))?;
        self.halt(uuid, StopOptions::default())?;
        steps::reached("reprovision.halted");
        write_json(&self.plan_path(uuid), &Plan { format: 1, image_uuid: image }, 0o600)?;
        steps::reached("reprovision.planned");
        self.finish_reprovision(uuid)?;
        self.boot(&self.machines.read(uuid)?)
    }

    /// Does all of a reprovisioning that has a plan, from wherever it was interrupted, but the start. The caller holds the lock
    /// and nothing runs.
    pub(crate) fn finish_reprovision(&self, uuid: InstanceUuid) -> Result<(), InstanceError> {
        let Some(plan) = read_json::<Plan>(&self.plan_path(uuid))? else { return Ok(()) };
        let old = self.machines.read(uuid)?.file;
        self.storage
            .replace_root(uuid, plan.image_uuid, &clone_options(&old.config))
            .map_err(InstanceError::step("replace the root of", uuid))?;
        steps::reached("reprovision.replaced");
        let mut new = old.clone();
        new.config.image_uuid = Some(plan.image_uuid);
        if new.config.docker {
            let world = NodeWorld::new(self);
            let before = old.config.image_uuid.and_then(|image| world.image_process(&image)).unwrap_or_default();
            // The image cannot go while it is an instance's; without its manifest the instance keeps the process that it had.
            let after = world.image_process(&plan.image_uuid).unwrap_or_else(|| before.clone());
            triton_vmspec::docker::renew(&mut new.config, &before, &after);
        }
        self.own_root(&mut new)?;
        steps::reached("reprovision.owned");
        self.fill_root(&new)?;
        steps::reached("reprovision.filled");
        self.storage.make_durable(uuid).map_err(InstanceError::step("make durable", uuid))?;
        self.machines.commit(&old, &new)?;
        steps::reached("reprovision.stored");
        remove_if_present(&self.plan_path(uuid))?;
        steps::reached("reprovision.done");
        self.runs.bump(uuid).map_err(InstanceError::step("announce a change of", uuid))
    }
}
