//! The control service: the record, faults, violations and the clock, for tests in other processes and for operators of `xtask up`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{Entry, FaultRule, Violation, call::Call, error::ApiError, shared::Shared};

type Here = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(async || Json(json!({"ping": "pong"}))))
        .route("/record", get(record).delete(clear_record))
        .route("/faults", get(faults).post(add_fault).delete(clear_faults))
        .route("/violations", get(violations).delete(clear_violations))
        .route("/placement", get(placement))
        .route("/clock", post(advance))
        .with_state(shared)
}

async fn record(State(shared): Here, call: Call) -> Json<Vec<Entry>> {
    Json(shared.record.since(call.number("since").unwrap_or(0)))
}

async fn clear_record(State(shared): Here) -> StatusCode {
    shared.record.clear();
    StatusCode::NO_CONTENT
}

async fn faults(State(shared): Here) -> Json<Vec<FaultRule>> {
    Json(shared.faults.list())
}

async fn add_fault(State(shared): Here, call: Call) -> Result<StatusCode, ApiError> {
    let rule: FaultRule = serde_json::from_value(call.body).map_err(|error| ApiError::invalid_argument(error.to_string()))?;
    shared.faults.add(rule).map_err(|error| ApiError::invalid_argument(error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(shared): Here) -> StatusCode {
    shared.faults.clear();
    StatusCode::NO_CONTENT
}

async fn violations(State(shared): Here) -> Json<Vec<Violation>> {
    Json(shared.violations.list())
}

async fn clear_violations(State(shared): Here) -> StatusCode {
    shared.violations.clear();
    StatusCode::NO_CONTENT
}

/// Whether the allocator would use each server; null, or why not.
async fn placement(State(shared): Here) -> Result<Json<Value>, ApiError> {
    let servers = shared.servers()?;
    let line = |server: &Value| (server["uuid"].as_str().unwrap_or_default().to_owned(), json!(Shared::not_placeable(server)));
    Ok(Json(Value::Object(servers.iter().map(line).collect())))
}

async fn advance(State(shared): Here, call: Call) -> Result<StatusCode, ApiError> {
    let millis = call.number("advance_ms").ok_or_else(|| ApiError::invalid_argument("'advance_ms' must be a number"))?;
    shared.clock.advance(Duration::from_millis(millis));
    Ok(StatusCode::NO_CONTENT)
}
