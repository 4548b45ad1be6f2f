//! Images (cn-agent.md section 3.7).

use std::sync::{Arc, PoisonError};

use serde_json::{Value, json};
use triton_types::ImageUuid;

use super::{Model, verbatim, wanted_pool};
use crate::{MachineError, TaskContext, TaskError};

/// Imports an image unless it is installed.
pub(super) async fn image_ensure_present(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let image: ImageUuid = context.params.id("image_uuid")?;
    ensure_present(&model, &context, image).await?;
    Ok(json!({}))
}

/// Makes sure that `image` is installed. Requests for one image take turns, so that the second finds it installed; requests of other
/// processes meet at the image's lock file.
pub(super) async fn ensure_present(model: &Model, context: &TaskContext, image: ImageUuid) -> Result<(), TaskError> {
    if is_installed(model, context, image).await? {
        return Ok(());
    }
    let mutex = model.imports.lock().unwrap_or_else(PoisonError::into_inner).entry(image).or_default().clone();
    let result = async {
        let _turn = tokio::select! {
            turn = mutex.lock() => turn,
            () = context.cancelled.cancelled() => return Err(TaskError::Cancelled),
        };
        if is_installed(model, context, image).await? {
            return Ok(());
        }
        let pool = wanted_pool(&context.params).map(str::to_owned);
        let (id, cancelled) = (context.request_id.clone(), context.cancelled.clone());
        let import = move |model: &Model| model.images.import(image, pool.as_deref(), &id, &cancelled);
        model.change(context, import).await?.map_err(|error| verbatim(&error))
    }
    .await;
    // The entry goes with its last user: this function and the map hold one reference each.
    let mut imports = model.imports.lock().unwrap_or_else(PoisonError::into_inner);
    if Arc::strong_count(&mutex) <= 2 {
        imports.remove(&image);
    }
    result
}

async fn is_installed(model: &Model, context: &TaskContext, image: ImageUuid) -> Result<bool, TaskError> {
    let found = model.read(context, move |model| model.images.get(image)).await?;
    found.map(|manifest| manifest.is_some()).map_err(|error| verbatim(&error))
}

/// The manifest of an installed image.
pub(super) async fn image_get(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let image: ImageUuid = context.params.id("uuid")?;
    let missing = || MachineError::new(format!("imgadm get: error (ActiveImageNotFound): image {image} is not installed"), None);
    let found = model.read(&context, move |model| model.images.get(image)).await?.and_then(|manifest| manifest.ok_or_else(missing));
    found.map_err(|error| {
        let text = format!("error getting image {image}:\n    cmd: imgadm get {image}\n    stderr: {}", error.message);
        TaskError::failed(format!("Image.get error: {text}"))
    })
}
