//! Creating an instance (cn-agent.md section 3.2).
//!
//! Order: check, guard file, image, firewall rules, vmadm create (which starts the instance), guard file away, VM object. The order of
//! tasks has already refused a second creation of the same uuid.

use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

use super::{Model, firewall::add_rules, images::ensure_present, verbatim, wanted_image};
use crate::{ProvisionGuard, TaskContext, TaskError};

/// Creates it. A failure is answered with the message alone; the instance, if there is one then, is in state `failed`.
pub(super) async fn machine_create(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    context.step("pre_check", 20, pre_check(&model, &context, uuid)).await?;
    {
        // Removed on every way out of this block, also by a panic.
        let _guard = ProvisionGuard::create(&model.layout, uuid);
        if let Some(image) = wanted_image(&context.params) {
            let image: ImageUuid = image
                .as_str()
                .ok_or_else(|| TaskError::failed("Invalid 'image_uuid' param: not a string"))?
                .parse()
                .map_err(|error| TaskError::failed(format!("Invalid 'image_uuid' param: {error}")))?;
            context.step("ensure_dataset_present", 50, ensure_present(&model, &context, image)).await?;
        }
        context.step("add_firewall_rules", 60, add_rules(&model, &context)).await?;
        if context.cancelled.is_cancelled() {
            return Err(TaskError::Cancelled);
        }
        context.step("create_machine", 100, create(&model, &context)).await?;
    }
    // The instance is there: that it cannot be loaded does not undo it.
    match model.read(&context, move |model| model.machines.load(uuid, true)).await? {
        Ok(vm) => Ok(json!({"vm": vm})),
        Err(error) => {
            tracing::warn!(%error, %uuid, "the new instance could not be loaded");
            Ok(json!({}))
        }
    }
}

/// Hidden instances count too.
async fn pre_check(model: &Model, context: &TaskContext, uuid: InstanceUuid) -> Result<(), TaskError> {
    match model.read(context, move |model| model.machines.exists(uuid)).await? {
        Ok(false) => Ok(()),
        Ok(true) => Err(TaskError::failed(format!("Machine {uuid} exists."))),
        Err(error) => Err(verbatim(&error)),
    }
}

async fn create(model: &Model, context: &TaskContext) -> Result<(), TaskError> {
    let payload = context.params.as_map().clone();
    model.change(context, move |model| model.machines.create(payload)).await?.map_err(|error| verbatim(&error))
}
