//! Changing an instance: properties, snapshots, another image (cn-agent.md sections 3.1 and 3.4).

use serde_json::{Value, json};
use triton_types::{ImageUuid, InstanceUuid};

use super::{Model, images::ensure_present, prefixed, wanted_image};
use crate::{MachineError, ProvisionGuard, StopOptions, TaskContext, TaskError};

/// Applies all parameters as an update. When NICs came or went, a running instance is rebooted, which makes them live; the answer is
/// the instance as it was before that.
pub(super) async fn machine_update(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let update = context.params.as_map().clone();
    let reboots = ["add_nics", "remove_nics"].iter().any(|key| update.contains_key(*key));
    model
        .change(&context, move |model| model.machines.update(uuid, update))
        .await?
        .map_err(|error| prefixed("vmadm.update error", &error))?;
    let result = model.vm_result(&context, uuid).await?;
    if reboots && result["vm"]["state"] == "running" {
        let reboot = model.change(&context, move |model| model.machines.reboot(uuid, StopOptions::default())).await?;
        reboot.map_err(|error| prefixed("vmadm.reboot error", &error))?;
    }
    Ok(result)
}

/// Makes a snapshot.
pub(super) async fn machine_create_snapshot(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let (uuid, name) = snapshot(&context)?;
    let result = model.change(&context, move |model| model.machines.create_snapshot(uuid, &name)).await?;
    result.map_err(|error| prefixed("vmadm.create_snapshot error", &error))?;
    model.vm_result(&context, uuid).await
}

/// Puts an instance back to a snapshot.
pub(super) async fn machine_rollback_snapshot(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let (uuid, name) = snapshot(&context)?;
    let result = model.change(&context, move |model| model.machines.rollback_snapshot(uuid, &name)).await?;
    result.map_err(|error| prefixed("vmadm.rollback_snapshot error", &error))?;
    model.vm_result(&context, uuid).await
}

/// Destroys a snapshot. That there is none of that name is success.
pub(super) async fn machine_delete_snapshot(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let (uuid, name) = snapshot(&context)?;
    match model.change(&context, move |model| model.machines.delete_snapshot(uuid, &name)).await? {
        Err(error) if !error.message.contains("No snapshot named") => Err(prefixed("vmadm.delete_snapshot error", &error)),
        _ => model.vm_result(&context, uuid).await,
    }
}

fn snapshot(context: &TaskContext) -> Result<(InstanceUuid, String), TaskError> {
    let uuid = context.params.id("uuid")?;
    match context.params.get("snapshot_name") {
        Some(Value::String(name)) => Ok((uuid, name.clone())),
        Some(_) => Err(TaskError::failed("Invalid 'snapshot_name' param: not a string")),
        None => Err(TaskError::failed("Required 'snapshot_name' param not found")),
    }
}

/// Gives an instance another image, which is imported first.
pub(super) async fn machine_reprovision(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let dni = context.params.flag("include_dni");
    match model.read(&context, move |model| model.machines.load(uuid, dni)).await? {
        Err(error) if error.is(&["VmNotFound"]) => {
            return Err(TaskError::Failed { message: format!("VM {uuid} does not exist."), rest_code: error.rest_code() });
        }
        Err(error) => return Err(prefixed("vmadm.load error", &error)),
        Ok(_) => {}
    }
    {
        // Removed on every way out of this block, also by a panic.
        let _guard = ProvisionGuard::create(&model.layout, uuid);
        let mut payload = context.params.as_map().clone();
        if let Some(wanted) = wanted_image(&context.params) {
            let image: ImageUuid = wanted.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
                let message = "Invalid 'image_uuid' param: not a uuid".to_owned();
                prefixed("vmadm.reprovision error", &MachineError::new(message, None))
            })?;
            ensure_present(&model, &context, image).await?;
            payload.insert("image_uuid".to_owned(), json!(image));
        }
        let result = model.change(&context, move |model| model.machines.reprovision(uuid, &payload)).await?;
        result.map_err(|error| prefixed("vmadm.reprovision error", &error))?;
    }
    model.vm_result(&context, uuid).await
}
