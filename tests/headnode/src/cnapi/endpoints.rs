//! Endpoints that send tasks (cn-agent.md section 4.5).

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, get, on, post},
};
use serde_json::{Value, json};

use crate::{JsonMap, call::Call, error::ApiError, judge, shared::Shared, violations::Problem};

type Here = State<Arc<Shared>>;
type Names = Path<JsonMap>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/servers/{server_uuid}/vms", post(create))
        .route("/servers/{server_uuid}/vms/{uuid}", get(load).merge(sent(MethodFilter::DELETE, "machine_destroy")))
        .route("/servers/{server_uuid}/vms/{uuid}/start", sent(MethodFilter::POST, "machine_boot"))
        .route("/servers/{server_uuid}/vms/{uuid}/stop", sent(MethodFilter::POST, "machine_shutdown"))
        .route("/servers/{server_uuid}/vms/{uuid}/reboot", sent(MethodFilter::POST, "machine_reboot"))
        .route("/servers/{server_uuid}/vms/{uuid}/kill", sent(MethodFilter::POST, "machine_kill"))
        .route("/servers/{server_uuid}/vms/{uuid}/update", sent(MethodFilter::POST, "machine_update"))
        .route("/servers/{server_uuid}/vms/{uuid}/reprovision", sent(MethodFilter::POST, "machine_reprovision"))
        .route("/servers/{server_uuid}/vms/{uuid}/images", sent(MethodFilter::POST, "machine_create_image"))
        .route("/servers/{server_uuid}/vms/{uuid}/migrate", sent(MethodFilter::POST, "machine_migrate"))
        .route("/servers/{server_uuid}/vms/{uuid}/snapshots", sent(MethodFilter::PUT, "machine_create_snapshot"))
        .route("/servers/{server_uuid}/vms/{uuid}/snapshots/{snapshot_name}/rollback", sent(MethodFilter::PUT, "machine_rollback_snapshot"))
        .route("/servers/{server_uuid}/vms/{uuid}/snapshots/{snapshot_name}", sent(MethodFilter::DELETE, "machine_delete_snapshot"))
        .route("/servers/{server_uuid}/vms/{uuid}/proc", get(proc))
        .route("/servers/{server_uuid}/vms/{uuid}/info", get(info))
        .route("/servers/{server_uuid}/ensure-image", sent(MethodFilter::POST, "image_ensure_present"))
        .route("/servers/{server_uuid}/install-agent", sent(MethodFilter::POST, "agent_install"))
        .route("/servers/{server_uuid}/uninstall-agents", sent(MethodFilter::POST, "agents_uninstall"))
        .route("/servers/{server_uuid}/recovery-config", sent(MethodFilter::POST, "recovery_config"))
        .route("/servers/{server_uuid}/reboot", sent(MethodFilter::POST, "server_reboot"))
        .route("/servers/{server_uuid}/nics/update", sent(MethodFilter::POST, "server_update_nics"))
        .route("/servers/{server_uuid}/nop", post(nop))
        .route("/servers/{server_uuid}/images/{uuid}", get(image))
        .route("/servers/{server_uuid}/execute", post(execute))
        .route("/servers/{server_uuid}/sysinfo-refresh", post(refresh))
        .route("/servers/{server_uuid}/task-history", get(history))
        .route(
            "/servers/{server_uuid}/cn-agent/pause",
            post(async |here: Here, names: Names, call: Call| switch(here, names, call, "/pause").await),
        )
        .route(
            "/servers/{server_uuid}/cn-agent/resume",
            post(async |here: Here, names: Names, call: Call| switch(here, names, call, "/resume").await),
        )
}

/// What a task gets: every parameter of the request, with the names of the path and the request id.
fn params(names: &JsonMap, call: &Call) -> JsonMap {
    let mut params = call.params.clone();
    params.extend(names.clone());
    params.insert("x-request-id".to_owned(), Value::from(call.req_id.as_str()));
    params
}

fn server(names: &JsonMap) -> &str {
    names.get("server_uuid").and_then(Value::as_str).unwrap_or_default()
}

fn accepted(id: &str) -> Response {
    (StatusCode::ACCEPTED, Json(json!({"id": id}))).into_response()
}

/// An endpoint that answers with the id of its task.
fn sent(method: MethodFilter, task: &'static str) -> MethodRouter<Arc<Shared>> {
    on(method, async move |State(shared): Here, Path(names): Names, call: Call| -> Result<Response, ApiError> {
        let started = shared.start_task(server(&names), task, params(&names, &call), &call.req_id)?;
        Ok(accepted(&started.id))
    })
}

async fn create(State(shared): Here, Path(names): Names, call: Call) -> Result<Response, ApiError> {
    let params = shared.create_params(params(&names, &call))?;
    let started = shared.start_task(server(&names), "machine_create", params, &call.req_id)?;
    Ok(accepted(&started.id))
}

impl Shared {
    /// CNAPI's additions to a `machine_create`, and its one demand: the image's manifest with its files (cn-agent.md section 3.2).
    pub(crate) fn create_params(&self, mut params: JsonMap) -> Result<JsonMap, ApiError> {
        if params.get("uuid").and_then(Value::as_str).is_none_or(|text| crate::call::uuid(text).is_none()) {
            return Err(ApiError::invalid_argument("'uuid' must be a uuid"));
        }
        let image = params.get("image").cloned().unwrap_or_default();
        let Some(file) = image["files"].get(0) else {
            return Err(ApiError::invalid_argument("'image.files' must have at least one file"));
        };
        let url = format!("{}/images/{}/file", self.imgapi_url, image["uuid"].as_str().unwrap_or_default());
        params.insert("dataset_url".to_owned(), Value::from(url));
        if let Some(compression) = file.get("compression") {
            params.insert("dataset_url_compression".to_owned(), compression.clone());
        }
        Ok(params)
    }
}

async fn load(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    let value = shared.call_task(server(&names), "machine_load", params(&names, &call), &call.req_id, shared.limits.load).await?;
    if value["uuid"] != names["uuid"] {
        let problem = Problem::new("machine_load", format!("the VM object itself is needed, not {value}"));
        shared.violations.add(&shared.clock.iso(), Some(server(&names)), "task-reply", [problem]);
    }
    Ok(Json(value))
}

async fn proc(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    shared.call_task(server(&names), "machine_proc", params(&names, &call), &call.req_id, shared.limits.proc).await.map(Json)
}

async fn info(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    let mut params = params(&names, &call);
    params.insert("types".to_owned(), json!(call.text("info").unwrap_or("all").split(',').collect::<Vec<_>>()));
    let value = shared.call_task(server(&names), "machine_info", params, &call.req_id, shared.limits.info).await?;
    // The task answers with a string of JSON.
    let text = value.as_str().ok_or_else(|| ApiError::internal("machine_info: the reply is not a string"))?;
    serde_json::from_str(text).map(Json).map_err(|error| ApiError::internal(format!("machine_info: {error}")))
}

async fn image(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    shared.call_task(server(&names), "image_get", params(&names, &call), &call.req_id, shared.limits.task).await.map(Json)
}

async fn nop(State(shared): Here, Path(names): Names, call: Call) -> Result<Response, ApiError> {
    let mut params = params(&names, &call);
    if params.contains_key("sleep") {
        params.insert("sleep".to_owned(), json!(call.number("sleep").unwrap_or(0)));
    }
    let started = shared.start_task(server(&names), "nop", params, &call.req_id)?;
    Ok(accepted(&started.id))
}

async fn execute(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    if !shared.features.command_execute {
        return Err(ApiError::precondition("useCnAgentCommandExecute is false, and ur-agent is not spoken to"));
    }
    if call.text("script").is_none_or(str::is_empty) {
        return Err(ApiError::invalid_argument("'script' is required"));
    }
    let limit = shared.limits.task;
    let result = shared.call_task(server(&names), "command_execute", params(&names, &call), &call.req_id, limit).await?;
    let missing = ["err", "exitCode", "signal", "stderr", "stdout"].into_iter().filter(|key| result.get(*key).is_none());
    let problems = missing.map(|key| Problem::new(format!("command_execute: {key}"), "all five keys are always there"));
    shared.violations.add(&shared.clock.iso(), Some(server(&names)), "task-reply", problems);
    if call.flag("json") || (result["err"].is_null() && result["exitCode"] == 0) {
        return Ok(Json(result));
    }
    Err(ApiError::internal(result["err"]["message"].as_str().unwrap_or("the script failed")))
}

async fn refresh(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    let value = shared.call_task(server(&names), "server_sysinfo", params(&names, &call), &call.req_id, shared.limits.task).await?;
    if value["sysinfo"]["UUID"].as_str().and_then(crate::call::uuid).is_none() {
        return Err(ApiError::internal("server_sysinfo: the reply has no sysinfo with a UUID"));
    }
    shared.store_sysinfo(server(&names), &value["sysinfo"])?;
    Ok(Json(value))
}

/// How long the headnode waits for an answer that needs no work.
const SHORT: Duration = Duration::from_secs(60);

async fn history(State(shared): Here, Path(names): Names, call: Call) -> Result<Json<Value>, ApiError> {
    let record = shared.server(server(&names))?;
    let reply = shared.ask_agent(&record, "GET", "/history", None, &call.req_id, SHORT).await.map_err(ApiError::internal)?;
    let body: Value = serde_json::from_slice(&reply.body).map_err(|error| ApiError::internal(format!("history: {error}")))?;
    shared.violations.add(&shared.clock.iso(), Some(server(&names)), "history", judge::history(&body));
    if !body.is_array() {
        return Err(ApiError::internal("history: the agent's reply is not an array"));
    }
    Ok(Json(body))
}

async fn switch(State(shared): Here, Path(names): Names, call: Call, path: &str) -> Result<StatusCode, ApiError> {
    let record = shared.server(server(&names))?;
    let reply = shared.ask_agent(&record, "POST", path, None, &call.req_id, SHORT).await.map_err(ApiError::internal)?;
    match reply.status {
        StatusCode::NO_CONTENT => Ok(StatusCode::NO_CONTENT),
        other => Err(ApiError::internal(format!("cn-agent answered {} to {path}", other.as_u16()))),
    }
}
