//! Replies in the shapes that Triton's clients know from restify (cn-agent.md section 2.2).

use std::time::{Duration, Instant};

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::json;
use tracing::{Instrument, info, info_span};

/// A reply that is an error: `{"code": ..., "message": ...}`. The message goes to the caller; it must hold no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestError {
    /// HTTP status.
    pub status: StatusCode,
    /// restify's `restCode`; `None` leaves `code` out (an exception in the agent itself).
    pub code: Option<&'static str>,
    /// For the caller.
    pub message: String,
}

impl RestError {
    /// An error with a code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code: Some(code), message: message.into() }
    }

    /// 404 `ResourceNotFound`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "ResourceNotFound", message)
    }

    /// 400 `InvalidContent`: the body is not JSON.
    pub fn invalid_content(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "InvalidContent", message)
    }

    /// 409 `InvalidArgument`, as restify has it.
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "InvalidArgument", message)
    }

    /// 409 `MissingParameter`, as restify has it.
    pub fn missing_parameter(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "MissingParameter", message)
    }

    /// 503 `ServiceUnavailable`.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// 500 with a message only.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: None, message: message.into() }
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let body = match self.code {
            Some(code) => json!({"code": code, "message": self.message}),
            None => json!({"message": self.message}),
        };
        (self.status, Json(body)).into_response()
    }
}

/// Reads a request's body of at most `limit` bytes within `patience`.
///
/// # Errors
/// 413 `RequestEntityTooLarge`, 408 `RequestTimeout`, or 400 when the client went away.
pub async fn read_body(body: Body, limit: usize, patience: Duration) -> Result<Bytes, RestError> {
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(RestError::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", format!("Request body size exceeds {limit} bytes")))
        }
        Ok(Err(error)) => Err(RestError::new(StatusCode::BAD_REQUEST, "BadRequest", format!("the request body broke off: {error}"))),
        Err(_) => Err(RestError::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "the request body did not arrive in time")),
    }
}

/// Who answers: the `Server` and `x-server-name` headers.
#[derive(Clone, Debug)]
pub struct Service {
    server: HeaderValue,
    hostname: HeaderValue,
}

impl Service {
    /// `server` is the `Server` header, such as `Compute Node Agent`.
    pub fn new(server: &'static str, hostname: &str) -> Self {
        let hostname = HeaderValue::from_str(hostname).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        Self { server: HeaderValue::from_static(server), hostname }
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The caller's request id (`x-request-id`, else `request-id`), or a new one. Ids that could not be logged safely
/// (longer than 128 bytes, not printable) are replaced.
pub fn request_id(headers: &HeaderMap) -> String {
    [REQUEST_ID, HeaderName::from_static("request-id")]
        .iter()
        .filter_map(|name| headers.get(name)?.to_str().ok())
        .find(|id| !id.is_empty() && id.len() <= 128)
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

/// Completes an agent's routes: 404 and 405 in restify's form, its headers on every reply, one log record per request.
pub fn finish(router: Router, service: Service) -> Router {
    router
        .route_layer(middleware::from_fn_with_state(service.clone(), routed))
        .fallback(|request: Request| async move { RestError::not_found(format!("{} does not exist", request.uri().path())) })
        .method_not_allowed_fallback(|request: Request| async move {
            let message = format!("{} is not allowed", request.method());
            RestError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowedError", message)
        })
        .layer(middleware::from_fn_with_state(service, every))
}

/// Every reply: `Server`. Errors before routing lack the rest, as upstream.
async fn every(State(service): State<Service>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::SERVER, service.server);
    response
}

async fn routed(State(service): State<Service>, mut request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let id = request_id(request.headers());
    let header = HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("invalid"));
    request.headers_mut().insert(REQUEST_ID, header.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = info_span!("request", req_id = %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let millis = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, header);
    headers.insert(HeaderName::from_static("x-response-time"), HeaderValue::from(millis));
    headers.insert(HeaderName::from_static("x-server-name"), service.hostname);
    span.in_scope(|| info!(%method, path, status = response.status().as_u16(), millis, "request"));
    response
}

#[cfg(test)]
mod tests;
