//! Questions about instances. They take no lock and never wait for a change.

use serde_json::Value;
use triton_types::InstanceUuid;

use super::{Model, prefixed};
use crate::{TaskContext, TaskError};

/// The VM object itself, not wrapped.
pub(super) async fn machine_load(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let dni = context.params.flag("include_dni");
    model.read(&context, move |model| model.machines.load(uuid, dni)).await?.map_err(|error| prefixed("VM.load error", &error))
}

/// What `vmadm info` prints, as a string: CNAPI parses it.
pub(super) async fn machine_info(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let types: Vec<String> = match context.params.get("types") {
        Some(Value::Array(types)) => types.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect(),
        Some(Value::String(types)) => types.split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let types = if types.is_empty() { vec!["all".to_owned()] } else { types };
    let text = model.read(&context, move |model| model.machines.info(uuid, &types)).await?;
    text.map(Value::from).map_err(|error| prefixed("vmadm.info error", &error))
}
