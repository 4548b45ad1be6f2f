//! One request as restify hands it to a handler: query and body in one map of parameters.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::HeaderMap,
};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::{JsonMap, error::ApiError};

/// Most bytes of a request's body.
pub(crate) const BODY_LIMIT: usize = 16 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Query and body; a query parameter wins. Values of the query are strings.
    pub params: JsonMap,
    /// The body alone, null when there is none.
    pub body: Value,
    pub headers: HeaderMap,
    /// The caller's request id, or a new one.
    pub req_id: String,
}

impl Call {
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.params.get(key).and_then(Value::as_str)
    }

    /// True for `true` and `"true"`.
    pub(crate) fn flag(&self, key: &str) -> bool {
        self.params.get(key).is_some_and(|value| value == &Value::Bool(true) || value.as_str() == Some("true"))
    }

    /// A number, or a string of one.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        let value = self.params.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    }
}

impl<S: Send + Sync> FromRequest<S> for Call {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        let bytes = body.collect().await.map_err(|_| ApiError::invalid_content("the body ended early"))?.to_bytes();
        let kind = parts.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or("application/json");
        let is_json = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json");
        let body = if bytes.is_empty() || !is_json {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).map_err(|error| ApiError::invalid_content(format!("Invalid JSON: {error}")))?
        };
        let mut params = body.as_object().cloned().unwrap_or_default();
        let query: Vec<(String, String)> = serde_urlencoded::from_str(parts.uri.query().unwrap_or_default())
            .map_err(|error| ApiError::invalid_content(format!("Invalid query: {error}")))?;
        params.extend(query.into_iter().map(|(key, value)| (key, Value::String(value))));
        let given = ["x-request-id", "request-id"].iter().find_map(|name| parts.headers.get(*name)?.to_str().ok());
        let req_id = given.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        Ok(Self { params, body, req_id, headers: parts.headers })
    }
}

/// A uuid in the one form that Triton uses: lower case, with hyphens.
pub(crate) fn uuid(text: &str) -> Option<uuid::Uuid> {
    let parsed = uuid::Uuid::try_parse(text).ok()?;
    (text.len() == 36 && !text.bytes().any(|b| b.is_ascii_uppercase())).then_some(parsed)
}

/// As [`uuid()`], or the refusal of a request for it.
pub(crate) fn path_uuid(text: &str, what: &str) -> Result<uuid::Uuid, ApiError> {
    uuid(text).ok_or_else(|| ApiError::not_found(format!("{what} {text:?} not found")))
}
