//! The HTTP server that CNAPI talks to (cn-agent.md section 2). Knows requests and replies; tasks are the [`Runner`]'s matter.

mod request;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{StatusCode, header};
use serde_json::{Value, json};
use triton_agent::{
    http::ServerLimits,
    restify::{self, RestError, Service},
};
use triton_types::ServerUuid;

use crate::{ANNOUNCED_VERSION, Admission, NAME, Runner, TaskName};

/// Largest request body. Docker builds, the largest tasks, are several MiB (section 2.2).
pub const LARGEST_BODY: usize = 16 << 20;

/// Limits of the server: a connection may be idle as long as a task may take and five minutes more (section 2.5).
pub fn limits(task_timeout: Duration) -> ServerLimits {
    ServerLimits {
        body: LARGEST_BODY,
        header_timeout: task_timeout + Duration::from_secs(300),
        connections: 1024,
        drain: Duration::from_secs(5),
    }
}

#[derive(Clone)]
struct Server {
    runner: Arc<Runner>,
    uuid: ServerUuid,
}

/// The routes of the agent of node `uuid`.
pub fn router(runner: Arc<Runner>, uuid: ServerUuid, hostname: &str) -> Router {
    let routes = Router::new()
        .route("/tasks", post(tasks))
        .route("/history", get(history))
        .route("/pause", post(|State(server): State<Server>| async move { switch(&server, true) }))
        .route("/resume", post(|State(server): State<Server>| async move { switch(&server, false) }))
        .route("/ping", get(ping))
        .with_state(Server { runner, uuid });
    restify::finish(routes, Service::new("Compute Node Agent", hostname)).layer(middleware::from_fn(without_route_headers))
}

/// Marks a reply that upstream gives before a route is reached.
#[derive(Clone)]
struct BeforeRouting;

/// Replies given before routing lack three headers (section 2.2).
async fn without_route_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if response.extensions_mut().remove::<BeforeRouting>().is_some() {
        for name in ["x-request-id", "x-response-time", "x-server-name"] {
            response.headers_mut().remove(name);
        }
    }
    response
}

fn before_routing(error: RestError) -> Response {
    let mut response = error.into_response();
    response.extensions_mut().insert(BeforeRouting);
    response
}

fn switch(server: &Server, paused: bool) -> StatusCode {
    server.runner.set_paused(paused);
    StatusCode::NO_CONTENT
}

async fn ping(State(server): State<Server>) -> Json<Value> {
    Json(json!({"name": NAME, "version": ANNOUNCED_VERSION, "server_uuid": server.uuid, "paused": server.runner.is_paused()}))
}

async fn history(State(server): State<Server>) -> Response {
    Json(server.runner.history().entries()).into_response()
}

/// `POST /tasks`: the checks in the order of section 2.3.
async fn tasks(State(server): State<Server>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let request_id = restify::request_id(&head.headers);
    let fields = match request::fields(&head, body).await {
        Ok(fields) => fields,
        Err(error) => return before_routing(error),
    };
    let own = server.uuid.to_string();
    let addressed = head.headers.get("x-server-uuid").is_none_or(|uuid| uuid.as_bytes().eq_ignore_ascii_case(own.as_bytes()));
    let unavailable = |message: &str| RestError::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailableError", message).into_response();
    match server.runner.admission() {
        _ if !addressed => return StatusCode::NOT_FOUND.into_response(),
        Admission::Starting => return StatusCode::NOT_FOUND.into_response(),
        Admission::Paused => return unavailable("CN Agent is not accepting tasks for maintenance"),
        Admission::Stopping => return unavailable("CN Agent is shutting down"),
        Admission::Full => return unavailable("CN Agent is running too many tasks"),
        Admission::Open => {}
    }
    let Some(task) = fields.get("task") else { return RestError::invalid_argument("Missing key 'task'").into_response() };
    let Some(params) = fields.get("params") else { return RestError::invalid_argument("Missing key 'params'").into_response() };
    let task = task.as_str().map_or_else(|| task.to_string(), str::to_owned);
    let Ok(name) = task.parse::<TaskName>() else {
        let shown: String = task.chars().take(128).collect();
        return RestError::not_found(format!("Unknown task, '{shown}'")).into_response();
    };
    let echo = params.get("req_id").cloned();
    let (status, mut reply) = match server.runner.run(name, params.clone(), request_id).await {
        Ok(value) => (StatusCode::OK, value),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, Value::Object(error.body())),
    };
    if let (Some(id), Value::Object(map)) = (echo, &mut reply) {
        map.insert("req_id".to_owned(), id);
    }
    (status, [(header::CONTENT_TYPE, "application/json")], reply.to_string()).into_response()
}
