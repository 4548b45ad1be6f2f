//! `nop`, `sleep` and `server_sysinfo` (cn-agent.md sections 3.9 and 3.15).

use std::time::Duration;

use serde_json::{Value, json};

use super::Model;
use crate::{TaskContext, TaskError};

/// A number that may be written as a string; negative ones and nonsense are 0, as for upstream's timers.
fn number(value: &Value) -> f64 {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|n: &f64| n.is_finite() && *n > 0.0).unwrap_or(0.0)
}

async fn wait(context: &TaskContext, seconds: f64) -> Result<(), TaskError> {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    tokio::select! {
        () = tokio::time::sleep(duration) => Ok(()),
        () = context.cancelled.cancelled() => Err(TaskError::Cancelled),
    }
}

/// Sleeps `sleep` seconds, then fails with `error` if there is one.
pub(super) async fn nop(context: TaskContext) -> Result<Value, TaskError> {
    wait(&context, context.params.get("sleep").map_or(0.0, number)).await?;
    match context.params.get("error") {
        None => Ok(json!({})),
        Some(Value::String(text)) if text.is_empty() => Ok(json!({})),
        Some(Value::String(text)) => Err(TaskError::failed(text.clone())),
        Some(other) => Err(TaskError::failed(other.to_string())),
    }
}

/// Sleeps `timeout` milliseconds, 5000 without it.
pub(super) async fn sleep(context: TaskContext) -> Result<Value, TaskError> {
    wait(&context, context.params.get("timeout").map_or(5000.0, number) / 1000.0).await?;
    Ok(json!({}))
}

/// The sysinfo document, collected now.
pub(super) async fn server_sysinfo(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    match model.read(&context, |model| (model.sysinfo)()).await? {
        Ok(sysinfo) => Ok(json!({"sysinfo": sysinfo})),
        Err(error) => Err(TaskError::failed(error)),
    }
}
