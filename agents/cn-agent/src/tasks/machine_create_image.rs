//! Making an image of an instance and publishing it (cn-agent.md section 3.6).

use serde_json::{Value, json};
use triton_types::{InstanceUuid, JsonMap};

use super::Model;
use crate::{ImageRequest, MachineError, TaskContext, TaskError};

/// Makes an image of a stopped instance and gives it to the image server at `imgapi_url`. A failure is told as the JSON text of an object
/// with `code` and `message`, which callers read back.
pub(super) async fn machine_create_image(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let request = request(&context)?;
    let cancelled = context.cancelled.clone();
    let result = model.change(&context, move |model| model.images.create(uuid, &request, &cancelled)).await?;
    result.map(|()| json!({})).map_err(|error| TaskError::failed(as_json(&error)))
}

fn request(context: &TaskContext) -> Result<ImageRequest, TaskError> {
    let params = &context.params;
    let missing = |key: &str| TaskError::failed(format!("Required '{key}' param not found"));
    let manifest: JsonMap = match params.get("manifest") {
        Some(Value::Object(manifest)) => manifest.clone(),
        Some(_) => return Err(TaskError::failed("Invalid 'manifest' param: not an object")),
        None => return Err(missing("manifest")),
    };
    let max_origin_depth = match params.get("max_origin_depth") {
        None | Some(Value::Null) => None,
        Some(depth) => {
            let number = depth.as_u64().or_else(|| depth.as_str()?.parse().ok()).and_then(|depth| usize::try_from(depth).ok());
            Some(number.ok_or_else(|| TaskError::failed("Invalid 'max_origin_depth' param: not a number"))?)
        }
    };
    Ok(ImageRequest {
        compression: params.text("compression").unwrap_or("none").to_owned(),
        imgapi_url: params.text("imgapi_url").ok_or_else(|| missing("imgapi_url"))?.to_owned(),
        manifest,
        incremental: params.flag("incremental"),
        max_origin_depth,
        prepare_script: params.text("prepare_image_script").map(str::to_owned),
        request_id: context.request_id.clone(),
    })
}

fn as_json(error: &MachineError) -> String {
    json!({"message": error.message, "code": error.code.as_deref().unwrap_or("InternalError")}).to_string()
}
