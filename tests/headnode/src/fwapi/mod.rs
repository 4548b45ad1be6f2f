//! FWAPI: rules, what concerns a node of them, and events over FAST (firewaller.md sections 3 and 7).

mod fast;
mod language;
mod resolve;
mod rules;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
pub(crate) use fast::{FastHub, serve};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{call::Call, error::ApiError, shared::Shared};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(ping))
        .route("/rules", get(rules::list).post(rules::create))
        .route("/rules/{uuid}", get(rules::show).put(rules::update).delete(rules::remove))
        .route("/resolve", post(resolve::resolve))
        .route("/updates", post(updates))
        .with_state(shared)
}

async fn ping(State(shared): State<Arc<Shared>>, call: Call) -> Json<Value> {
    let mut answer = json!({"healthy": true, "status": "OK", "services": {"fast": "online", "moray": "online", "ufds": "online"}});
    if call.flag("agents") {
        let id = Uuid::new_v4().to_string();
        shared.fast.publish(&json!({"name": "ping", "req_id": call.req_id, "server_id": "fwapi0", "value": {"ping_id": id}}));
        answer["agents"] = json!({"connected": shared.fast.clients(), "ping_id": id});
    }
    Json(answer)
}

/// `POST /updates`: what workflows say of instances, passed on to every agent.
async fn updates(State(shared): State<Arc<Shared>>, call: Call) -> Result<Response, ApiError> {
    let kind = call.text("type").unwrap_or_default().to_owned();
    if !["sync", "vm.add", "vm.update", "vm.delete"].contains(&kind.as_str()) {
        return Err(invalid("type", "Invalid type"));
    }
    if kind != "sync" {
        for field in ["uuid", "owner_uuid", "server_uuid"] {
            call.text(field).filter(|text| crate::call::uuid(text).is_some()).ok_or_else(|| invalid(field, "Invalid UUID"))?;
        }
    }
    let id = shared.announce(&kind, &Value::Object(call.params));
    Ok((StatusCode::ACCEPTED, Json(json!({"update_uuid": id}))).into_response())
}

impl Shared {
    /// Pushes an event to everybody who is connected now; returns its request id. FWAPI keeps none for those who are not.
    pub(crate) fn announce(&self, name: &str, value: &Value) -> String {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let req_id = Uuid::new_v4().to_string();
        self.fast.publish(&json!({"id": id, "name": name, "req_id": req_id, "server_id": "fwapi0", "value": value}));
        req_id
    }
}

fn invalid(field: &str, message: &str) -> ApiError {
    ApiError::invalid_parameters(vec![json!({"field": field, "code": "InvalidParameter", "message": message})])
}

/// A reply with the id of the update that it caused.
fn with_update(status: StatusCode, id: &str, body: Option<Value>) -> Response {
    let mut response = match body {
        Some(body) => (status, Json(body)).into_response(),
        None => status.into_response(),
    };
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HeaderName::from_static("x-update-id"), value);
    }
    response
}
