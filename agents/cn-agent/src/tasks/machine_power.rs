//! Starting, stopping, rebooting and signalling an instance (cn-agent.md section 3.1, ruling 59).

use serde_json::Value;
use triton_types::InstanceUuid;

use super::{Model, prefixed};
use crate::{Params, StopOptions, TaskContext, TaskError};

/// Starts it. An instance that runs already is success, idempotent or not: vmadm says so in words and exits 0.
pub(super) async fn machine_boot(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    update_first(&model, &context, uuid).await?;
    match model.change(&context, move |model| model.machines.start(uuid)).await? {
        Err(error) if !error.is(&["EALREADYRUNNING"]) => Err(prefixed("vmadm.start error", &error)),
        _ => model.vm_result(&context, uuid).await,
    }
}

/// Stops it. An instance that does not run is success, idempotent or not.
pub(super) async fn machine_shutdown(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let options = stop_options(&context.params)?;
    match model.change(&context, move |model| model.machines.stop(uuid, options)).await? {
        Err(error) if !error.is(&["ESRCH", "ENOTRUNNING"]) => Err(prefixed("vmadm.stop error", &error)),
        _ => model.vm_result(&context, uuid).await,
    }
}

/// Reboots it. One that does not run is an error even when `idempotent`: vmadm's refusal carries no code. `timeout` is checked and
/// not used, as upstream.
pub(super) async fn machine_reboot(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let options = StopOptions { timeout_secs: None, ..stop_options(&context.params)? };
    update_first(&model, &context, uuid).await?;
    match model.change(&context, move |model| model.machines.reboot(uuid, options)).await? {
        Err(error) => Err(prefixed("vmadm.reboot error", &error)),
        Ok(()) => model.vm_result(&context, uuid).await,
    }
}

/// Signals its init.
pub(super) async fn machine_kill(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let uuid: InstanceUuid = context.params.id("uuid")?;
    let signal = match context.params.get("signal") {
        None => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(other) => Some(other.to_string()),
    };
    match model.change(&context, move |model| model.machines.kill(uuid, signal.as_deref())).await? {
        Err(error) if !(context.params.flag("idempotent") && error.is(&["ESRCH", "ENOTRUNNING"])) => {
            Err(prefixed("vmadm.kill error", &error))
        }
        _ => model.vm_result(&context, uuid).await,
    }
}

async fn update_first(model: &Model, context: &TaskContext, uuid: InstanceUuid) -> Result<(), TaskError> {
    let Some(Value::Object(update)) = context.params.get("update") else { return Ok(()) };
    let update = update.clone();
    if update.is_empty() {
        return Ok(());
    }
    model.change(context, move |model| model.machines.update(uuid, update)).await?.map_err(|error| prefixed("vmadm.update error", &error))
}

fn stop_options(params: &Params) -> Result<StopOptions, TaskError> {
    let timeout_secs = match params.get("timeout") {
        None => None,
        Some(value) => {
            let number = match value {
                // A fraction of a second is rounded up: 0 would mean "at once".
                Value::Number(number) => number.as_f64().filter(|n| *n >= 0.0).map(|n| n.ceil() as u64),
                Value::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
                _ => None,
            };
            Some(number.ok_or_else(|| TaskError::failed(format!("Invalid type: \"{}\" for timeout", type_of(value))))?)
        }
    };
    Ok(StopOptions { force: params.flag("force"), timeout_secs })
}

/// The word of JavaScript's `typeof`.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Null | Value::Array(_) | Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// cn-agent case 36
    #[test]
    fn a_timeout_is_a_number_of_seconds_or_its_digits() {
        let seconds =
            |value: Value| stop_options(&Params::new(json!({"timeout": value}))).map(|o| o.timeout_secs).map_err(|e| e.to_string());
        assert_eq!(seconds(json!("30")), Ok(Some(30)));
        assert_eq!(seconds(json!(30)), Ok(Some(30)));
        assert_eq!(seconds(json!(0)), Ok(Some(0)));
        assert_eq!(seconds(json!(0.5)), Ok(Some(1)));
        assert_eq!(seconds(json!(null)), Ok(None));
        assert_eq!(seconds(json!({})), Err("Invalid type: \"object\" for timeout".into()));
        assert_eq!(seconds(json!("soon")), Err("Invalid type: \"string\" for timeout".into()));
        assert_eq!(seconds(json!(true)), Err("Invalid type: \"boolean\" for timeout".into()));
        assert_eq!(seconds(json!(-1)), Err("Invalid type: \"number\" for timeout".into()));
    }
}
