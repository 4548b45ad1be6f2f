//! Error replies in the form of the headnode's services: `{"code":…,"message":…}`.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    errors: Vec<Value>,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), errors: Vec::new() }
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    pub(crate) fn invalid_content(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidContent", message)
    }

    pub(crate) fn request_expired() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RequestExpired", "Date header is too old")
    }

    pub(crate) fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "InvalidArgument", message)
    }

    pub(crate) fn precondition(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
    }

    pub(crate) fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", "the request body is too large")
    }

    /// One refused field of a request to VMAPI.
    pub(crate) fn validation(field: &str, message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::CONFLICT, "ValidationFailed", "Invalid VM parameters");
        error.errors.push(json!({"field": field, "code": "Invalid", "message": message.into()}));
        error
    }

    /// Refused fields of a request to NAPI.
    pub(crate) fn invalid_parameters(errors: Vec<Value>) -> Self {
        let missing = errors.iter().all(|error| error["code"] == "MissingParameter");
        let message = if missing { "Missing parameters" } else { "Invalid parameters" };
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "InvalidParameters", message) }
    }

    /// No address is left.
    pub(crate) fn subnet_full() -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "SubnetFull", "No more free IPs on network")
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({"code": self.code, "message": self.message});
        if !self.errors.is_empty() {
            body["errors"] = Value::Array(self.errors);
        }
        (self.status, Json(body)).into_response()
    }
}

impl From<rusqlite::Error> for ApiError {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(format!("database: {error}"))
    }
}
