//! Handing an instance's firewall rules to firewaller before the instance starts (cn-agent.md section 3.2, step 6; ruling 56).

use std::{sync::Arc, time::Duration};

use http::Method;
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinSet};
use triton_agent::chain;
use triton_headnode::{Call, HttpClient, HttpOptions};

use super::Model;
use crate::{TaskContext, TaskError};

/// Rules that are sent at once.
const AT_ONCE: usize = 8;
/// How long firewaller may take for one rule.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts every rule of `firewall_rules`; they are never skipped silently, and any failure fails the task.
pub(super) async fn add_rules(model: &Model, context: &TaskContext) -> Result<(), TaskError> {
    let rules = match context.params.get("firewall_rules") {
        None => return Ok(()),
        Some(Value::Array(rules)) => rules,
        Some(_) => return Err(TaskError::failed("firewall_rules is not an array")),
    };
    let client = HttpClient::new(HttpOptions { request_timeout: PATIENCE, ..HttpOptions::new(crate::NAME) });
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let mut puts = JoinSet::new();
    for rule in rules {
        let uuid = rule.get("uuid").and_then(Value::as_str).and_then(|uuid| uuid.parse::<uuid::Uuid>().ok());
        let Some(uuid) = uuid else { return Err(TaskError::failed("a firewall rule has no uuid")) };
        let mut call = Call::new(Method::PUT, format!("/rules/{uuid}"));
        call.body = Some(rule.to_string().into());
        call.request_id = Some(context.request_id.clone());
        let (client, base, slots) = (client.clone(), model.firewaller.clone(), slots.clone());
        puts.spawn(async move {
            let _slot = slots.acquire().await;
            let put = client.call(&base, call).await;
            put.map_err(|error| TaskError::failed(format!("firewall rule {uuid} could not be added: {}", chain(&error))))
        });
    }
    while let Some(put) = puts.join_next().await {
        put.map_err(|_| TaskError::Crashed(context.name))??;
    }
    Ok(())
}
