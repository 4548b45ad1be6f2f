//! Why a request failed.

use std::{error::Error, time::Duration};

use http::{Method, StatusCode};

use crate::UrlError;

/// A request that did not get what it asked for.
#[derive(Debug, thiserror::Error)]
#[error("{method} {url} failed")]
pub struct HttpError {
    /// The method.
    pub method: Method,
    /// The whole URL.
    pub url: String,
    /// Why.
    pub source: Box<HttpFailure>,
}

/// The reason of an [`HttpError`].
#[derive(Debug, thiserror::Error)]
pub enum HttpFailure {
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No connection: name, route, or nobody listens.
    #[error("no connection")]
    Connect(#[source] Box<dyn Error + Send + Sync>),
    /// No reply, or no more of it, in this time.
    #[error("nothing came for {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection broke off, or what came was not HTTP.
    #[error("the connection broke off")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// The reply is larger than allowed.
    #[error("the reply is larger than {0} bytes")]
    TooLarge(usize),
    /// The server said no. Code and message are the server's words, cut to a bounded length.
    #[error("status {}, {code}: {message}", status.as_u16())]
    Status {
        /// HTTP status.
        status: StatusCode,
        /// `code` of the body, `(none)` without one.
        code: String,
        /// `message` of the body.
        message: String,
    },
    /// The reply is not what the API promises.
    #[error("the reply is not as the API has it: {0}")]
    Unexpected(String),
}

impl HttpError {
    /// The status, if there was a reply that says no.
    pub fn status(&self) -> Option<StatusCode> {
        match &*self.source {
            HttpFailure::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// The server's `code`, if there was a reply that says no.
    pub fn rest_code(&self) -> Option<&str> {
        match &*self.source {
            HttpFailure::Status { code, .. } => Some(code),
            _ => None,
        }
    }

    /// 404 `ResourceNotFound`: the thing, not the service, is missing.
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(StatusCode::NOT_FOUND)
    }

    /// True when the same request may succeed later without anything being changed here.
    pub fn is_transient(&self) -> bool {
        match &*self.source {
            HttpFailure::Connect(_) | HttpFailure::Timeout(_) | HttpFailure::Broken(_) => true,
            HttpFailure::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS || *status == StatusCode::REQUEST_TIMEOUT
            }
            HttpFailure::Url(_) | HttpFailure::TooLarge(_) | HttpFailure::Unexpected(_) => false,
        }
    }

    /// The failure for a reply with an error status.
    pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> HttpFailure {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let word = |key: &str, max: usize| value[key].as_str().map(|text| text.chars().take(max).collect::<String>());
        HttpFailure::Status {
            status,
            code: word("code", 100).unwrap_or_else(|| "(none)".to_owned()),
            // cn-agent's failed tasks have `error` alone.
            message: word("message", 1000)
                .or_else(|| word("error", 1000))
                .unwrap_or_else(|| String::from_utf8_lossy(body).chars().take(200).collect()),
        }
    }
}
