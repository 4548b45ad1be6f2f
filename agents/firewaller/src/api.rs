//! HTTP on the admin address, port 2021 (firewaller.md section 9).

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use http::{HeaderMap, StatusCode};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use triton_agent::restify::{RestError, Service, finish, request_id};
use triton_types::{InstanceUuid, RuleUuid};

use crate::{Backend, Handle, Task, TaskError, backend::on};

/// Longest wait for a rule to be stored: others may be before it.
const PATIENCE: Duration = Duration::from_secs(60);

/// What requests are answered from.
#[derive(Clone)]
struct Api {
    backend: Arc<dyn Backend>,
    handle: Handle,
}

/// The routes.
pub fn router(backend: Arc<dyn Backend>, handle: Handle, hostname: &str) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/rules/{uuid}", get(rule).put(put_rule))
        .route("/rvms/{uuid}", get(remote))
        .route("/vms/{uuid}/status", get(vm_status))
        .with_state(Api { backend, handle });
    finish(routes, Service::new("firewaller", hostname))
}

async fn status(State(api): State<Api>) -> Json<Value> {
    let (queued, recent) = api.handle.progress();
    Json(json!({"queued": queued, "recent": recent}))
}

async fn rule(State(api): State<Api>, Path(uuid): Path<String>) -> Result<Json<Value>, RestError> {
    let missing = || RestError::not_found("rule not found");
    let uuid: RuleUuid = uuid.parse().map_err(|_| missing())?;
    on(&api.backend, move |backend| backend.rule(uuid)).await.map_err(RestError::internal)?.map(Json).ok_or_else(missing)
}

async fn remote(State(api): State<Api>, Path(uuid): Path<String>) -> Result<Json<Value>, RestError> {
    let missing = || RestError::not_found("remote VM not found");
    let uuid: InstanceUuid = uuid.parse().map_err(|_| missing())?;
    on(&api.backend, move |backend| backend.remote(uuid)).await.map_err(RestError::internal)?.map(Json).ok_or_else(missing)
}

/// An instance that does not run or does not exist is not filtered: no error.
async fn vm_status(State(api): State<Api>, Path(uuid): Path<String>) -> Result<Json<Value>, RestError> {
    let Ok(uuid) = uuid.parse::<InstanceUuid>() else { return Ok(Json(json!({"running": false}))) };
    let state = move |backend: &dyn Backend| {
        let runs = backend.locals()?.iter().any(|vm| vm.uuid == uuid && vm.is_running());
        Ok(runs && backend.is_filtered(uuid)?)
    };
    let running = on(&api.backend, state).await.map_err(RestError::internal)?;
    Ok(Json(json!({"running": running})))
}

async fn put_rule(
    State(api): State<Api>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    Json(mut rule): Json<Map<String, Value>>,
) -> Result<Json<Value>, RestError> {
    rule.insert("uuid".to_owned(), json!(uuid));
    let (reply, answer) = oneshot::channel();
    if !api.handle.push(Task::Put { rule, req_id: request_id(&headers), reply }) {
        return Err(RestError::unavailable("too many tasks wait"));
    }
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(Ok(Some(rule)))) => {
            // As it was stored: with a version, if it had none.
            let stored = on(&api.backend, move |backend| backend.rule(rule.uuid).map(|stored| stored.unwrap_or_else(|| rule.to_json())));
            Ok(Json(stored.await.map_err(RestError::internal)?))
        }
        Ok(Ok(Err(TaskError::Rule(errors)))) => {
            Err(RestError::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidParameters", format!("Invalid parameters: {errors}")))
        }
        Ok(Ok(Err(error))) => Err(RestError::internal(triton_agent::chain(&error).to_string())),
        Ok(Ok(Ok(None)) | Err(_)) => Err(RestError::internal("the rule was not stored")),
        Err(_) => Err(RestError::unavailable("the rule waits for other tasks")),
    }
}
