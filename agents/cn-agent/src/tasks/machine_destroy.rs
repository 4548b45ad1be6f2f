//! Deleting an instance.

use std::{fs, io, time::SystemTime};

use serde_json::{Value, json};
use triton_types::InstanceUuid;

use super::{Model, prefixed};
use crate::{
    TaskContext, TaskError,
    guard::{GuardState, look},
};

/// Waits for a creation under way (section 3.3), then deletes. That there is no such instance is success.
pub(super) async fn machine_destroy(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    wait_for_guard(&model, &context, uuid).await?;
    let dni = context.params.flag("include_dni");
    let delete = move |model: &Model| {
        // A hidden instance is not there for callers that do not ask for it.
        model.machines.load(uuid, dni).and_then(|_| model.machines.delete(uuid))
    };
    match model.change(&context, delete).await? {
        Err(error) if !(error.is(&["VmNotFound"]) || error.message.lines().last().is_some_and(|line| line.contains(": No such zone"))) => {
            Err(prefixed("delete error", &error))
        }
        _ => Ok(json!({})),
    }
}

async fn wait_for_guard(model: &Model, context: &TaskContext, uuid: InstanceUuid) -> Result<(), TaskError> {
    let path = model.layout.provision_guard(uuid);
    let failed = |error: io::Error| TaskError::failed(format!("delete error: could not look at {}: {error}", path.display()));
    loop {
        match look(&path, SystemTime::now()).map_err(failed)? {
            GuardState::Absent => return Ok(()),
            GuardState::Stale => {
                tracing::warn!(path = %path.display(), "the guard file of a creation is ten minutes old and is removed");
                return match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
                    _ => Ok(()),
                };
            }
            GuardState::Fresh => {}
        }
        tokio::select! {
            () = tokio::time::sleep(model.guard_poll) => {}
            () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
        }
    }
}
