//! NAPI: NICs, networks, NIC tags, aggregations and the changefeed, as strict as the real one (net-agent.md sections 3 and 6).

mod aggregations;
mod feed;
mod networks;
mod nics;

use std::sync::Arc;

use axum::{
    Json, Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
pub(crate) use feed::FeedHub;
use serde_json::{Value, json};

use crate::{JsonMap, error::ApiError, shared::Shared};

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(async || Json(json!({"status": "OK"}))))
        .route("/nics", get(nics::list).post(nics::create))
        .route("/nics/{mac}", get(nics::show).put(nics::update).delete(nics::remove))
        .route("/networks", get(networks::list).post(networks::create))
        .route("/networks/{uuid}", get(networks::show).put(networks::update).delete(networks::remove))
        .route("/nic_tags", get(networks::tags).post(networks::create_tag))
        .route("/nic_tags/{name}", get(networks::show_tag).delete(networks::remove_tag))
        .route("/aggregations", get(aggregations::list).post(aggregations::create))
        .route("/aggregations/{id}", get(aggregations::show).delete(aggregations::remove))
        .route("/changefeeds", get(feed::changefeeds))
        .with_state(shared)
}

/// Where a stored document keeps its version; never shown.
const VERSION: &str = "_version";

/// Gives a document a new version.
fn stamp(document: &mut Value) {
    document[VERSION] = json!(format!("{:08X}", rand::random::<u32>()));
}

fn version(document: &Value) -> &str {
    document[VERSION].as_str().unwrap_or_default()
}

/// An object as it is shown.
fn shown(document: &Value) -> Value {
    let mut document = document.clone();
    if let Some(map) = document.as_object_mut() {
        map.remove(VERSION);
    }
    document
}

/// A reply with the version in its `Etag`.
fn tagged(document: &Value, body: Value) -> Response {
    let tag = HeaderValue::from_str(version(document)).unwrap_or_else(|_| HeaderValue::from_static("0"));
    ([(header::ETAG, tag)], Json(body)).into_response()
}

/// `If-Match`, if there is one, names this version.
fn check_version(headers: &HeaderMap, document: &Value) -> Result<(), ApiError> {
    match headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()) {
        Some(tag) if tag != "*" && tag != version(document) => {
            Err(ApiError::precondition(format!("if-match '{tag}' didn't match etag '{}'", version(document))))
        }
        _ => Ok(()),
    }
}

fn deleted() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The fields of a request that NAPI refuses, gathered: it names all of them.
#[derive(Default)]
struct Refusals(Vec<Value>);

impl Refusals {
    fn add(&mut self, field: &str, code: &'static str, message: &str) {
        self.0.push(json!({"field": field, "code": code, "message": message}));
    }

    fn missing(&mut self, field: &str) {
        self.add(field, "MissingParameter", "Missing parameter");
    }

    fn invalid(&mut self, field: &str, message: &str) {
        self.add(field, "InvalidParameter", message);
    }

    fn check(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid_parameters(self.0)) }
    }
}

/// Names of the top-level fields in which two objects differ.
fn differing(old: &Value, new: &Value) -> Vec<String> {
    let empty = JsonMap::new();
    let (old, new) = (old.as_object().unwrap_or(&empty), new.as_object().unwrap_or(&empty));
    let keys = new.keys().chain(old.keys().filter(|key| !new.contains_key(*key)));
    keys.filter(|key| !["modified_timestamp"].contains(&key.as_str()) && old.get(*key) != new.get(*key)).cloned().collect()
}
