//! One HTTP client for all services: deadlines, bounded replies, Triton's headers.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use serde_json::Value;

use crate::{BaseUrl, HttpError, HttpFailure, Names};

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// For the TCP connection.
    pub connect_timeout: Duration,
    /// For a whole request with its reply; for a stream, until its head has come.
    pub request_timeout: Duration,
    /// Longest silence inside a stream.
    pub stall_timeout: Duration,
    /// Largest reply, in bytes; streams have no limit here.
    pub max_reply: usize,
    /// Idle connections kept per service; 0 closes each after its reply (cn-agent.md section 5).
    pub idle_connections: usize,
    /// `User-Agent`.
    pub user_agent: String,
    /// How names of services are looked up.
    pub names: Names,
}

impl HttpOptions {
    /// The contract's times (5 s and 5 s), no kept connections, replies up to 16 MiB.
    pub fn new(user_agent: impl Into<String>) -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            stall_timeout: Duration::from_secs(60),
            max_reply: 16 << 20,
            idle_connections: 0,
            user_agent: user_agent.into(),
            names: Names::system(),
        }
    }
}

/// A request to be made.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// Method.
    pub method: Method,
    /// Path below the service's URL, encoded.
    pub path: String,
    /// Query, not yet encoded.
    pub query: Vec<(&'a str, String)>,
    /// JSON body.
    pub body: Option<Bytes>,
    /// `x-request-id`; a new one when absent.
    pub request_id: Option<String>,
    /// First byte that is wanted (`Range`).
    pub offset: u64,
    /// Only if the thing still is of this version (`If-Match`).
    pub if_match: Option<String>,
    /// The version of the API that is wanted; any when absent.
    pub accept_version: Option<&'static str>,
}

impl Call<'_> {
    /// A request without body or query.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), query: Vec::new(), body: None, request_id: None, offset: 0, if_match: None, accept_version: None }
    }
}

/// A reply read whole.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status, always a success.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// What is sent: JSON, or a file on its way.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A client. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpConnector<Names>, Body>,
    options: HttpOptions,
    user_agent: HeaderValue,
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("options", &self.options).finish_non_exhaustive()
    }
}

impl HttpClient {
    /// A client; nothing is connected yet. To be used inside a tokio runtime.
    pub fn new(options: HttpOptions) -> Self {
        let mut connector = HttpConnector::new_with_resolver(options.names.clone());
        connector.set_connect_timeout(Some(options.connect_timeout));
        connector.set_nodelay(true);
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(options.idle_connections)
            .pool_idle_timeout(Duration::from_secs(30))
            .http1_max_buf_size(64 << 10)
            .build(connector);
        let user_agent = HeaderValue::from_str(&options.user_agent).unwrap_or_else(|_| HeaderValue::from_static("triton-linux-cn"));
        Self { client, options, user_agent }
    }

    /// The options that it was made with.
    pub fn options(&self) -> &HttpOptions {
        &self.options
    }

    /// Makes a request and reads the reply.
    ///
    /// # Errors
    /// Also for every status that is not a success.
    pub async fn call(&self, base: &BaseUrl, call: Call<'_>) -> Result<Reply, HttpError> {
        let uri = uri_of(base, &call);
        let method = call.method.clone();
        let exchange = async {
            let response = self.send(&uri, call).await?;
            let (parts, body) = response.into_parts();
            let body = self.read(body).await?;
            if !parts.status.is_success() {
                return Err(HttpError::refusal(parts.status, &body));
            }
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        let limit = self.options.request_timeout;
        let result = tokio::time::timeout(limit, exchange).await.unwrap_or(Err(HttpFailure::Timeout(limit)));
        result.map_err(|failure| HttpError { method, url: uri.to_string(), source: Box::new(failure) })
    }

    /// Makes a request whose reply is read piece by piece.
    ///
    /// # Errors
    /// Also for every status that is not a success.
    pub async fn stream(&self, base: &BaseUrl, call: Call<'_>) -> Result<Stream, HttpError> {
        let uri = uri_of(base, &call);
        let method = call.method.clone();
        let limit = self.options.request_timeout;
        let exchange = async {
            let response = self.send(&uri, call).await?;
            let (parts, body) = response.into_parts();
            if !parts.status.is_success() {
                return Err(HttpError::refusal(parts.status, &self.read(body).await?));
            }
            Ok((parts, body))
        };
        let result = tokio::time::timeout(limit, exchange).await.unwrap_or(Err(HttpFailure::Timeout(limit)));
        match result {
            Ok((parts, body)) => Ok(Stream {
                status: parts.status,
                headers: parts.headers,
                body,
                stall: self.options.stall_timeout,
                method,
                url: uri.to_string(),
            }),
            Err(failure) => Err(HttpError { method, url: uri.to_string(), source: Box::new(failure) }),
        }
    }

    /// Sends `length` bytes as the body of a request and reads the reply. The request has no deadline as a whole: it fails
    /// when the server takes nothing for [`HttpOptions::stall_timeout`], as `body` tells it by its own error.
    ///
    /// # Errors
    /// Also for every status that is not a success.
    pub(crate) async fn upload(&self, base: &BaseUrl, call: Call<'_>, length: u64, body: Body) -> Result<Reply, HttpError> {
        let uri = uri_of(base, &call);
        let method = call.method.clone();
        let exchange = async {
            let request = self
                .request(&uri, &call)
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .header(header::CONTENT_LENGTH, length)
                .body(body)
                .map_err(|error| HttpFailure::Unexpected(error.to_string()))?;
            let (parts, body) = self.exchange(request).await?.into_parts();
            let body = self.read(body).await?;
            if !parts.status.is_success() {
                return Err(HttpError::refusal(parts.status, &body));
            }
            Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        exchange.await.map_err(|failure| HttpError { method, url: uri.to_string(), source: Box::new(failure) })
    }

    /// The head of a request.
    fn request(&self, uri: &Uri, call: &Call<'_>) -> http::request::Builder {
        let id = call.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        Request::builder()
            .method(call.method.clone())
            .uri(uri.clone())
            .header(header::USER_AGENT, self.user_agent.clone())
            .header("accept-version", call.accept_version.unwrap_or("*"))
            .header("x-request-id", HeaderValue::from_str(&id).unwrap_or_else(|_| HeaderValue::from_static("invalid")))
    }

    async fn exchange(&self, request: Request<Body>) -> Result<Response<Incoming>, HttpFailure> {
        self.client.request(request).await.map_err(|error| match error.is_connect() {
            true => HttpFailure::Connect(Box::new(error)),
            false => HttpFailure::Broken(Box::new(error)),
        })
    }

    async fn send(&self, uri: &Uri, call: Call<'_>) -> Result<Response<Incoming>, HttpFailure> {
        let mut request = self.request(uri, &call);
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json").header(header::ACCEPT, "application/json");
        }
        if let Some(tag) = call.if_match.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            request = request.header(header::IF_MATCH, tag);
        }
        if call.offset > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", call.offset));
        }
        let body = Full::new(call.body.unwrap_or_default()).map_err(|never| match never {}).boxed_unsync();
        self.exchange(request.body(body).map_err(|error| HttpFailure::Unexpected(error.to_string()))?).await
    }

    async fn read(&self, body: Incoming) -> Result<Bytes, HttpFailure> {
        match Limited::new(body, self.options.max_reply).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(HttpFailure::TooLarge(self.options.max_reply)),
            Err(error) => Err(HttpFailure::Broken(error)),
        }
    }
}

fn uri_of(base: &BaseUrl, call: &Call<'_>) -> Uri {
    let query: Vec<(&str, &str)> = call.query.iter().map(|(key, value)| (*key, value.as_str())).collect();
    base.join(&call.path, &query)
}

/// A reply that is read piece by piece.
#[derive(Debug)]
pub struct Stream {
    /// Status, always a success.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    body: Incoming,
    stall: Duration,
    method: Method,
    url: String,
}

impl Stream {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks off or is silent for too long.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let failure = match tokio::time::timeout(self.stall, self.body.frame()).await {
                Ok(None) => return Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Ok(Some(data)),
                    Err(_trailers) => continue,
                },
                Ok(Some(Err(error))) => HttpFailure::Broken(Box::new(error)),
                Err(_) => HttpFailure::Timeout(self.stall),
            };
            return Err(self.error(failure));
        }
    }

    pub(crate) fn error(&self, failure: HttpFailure) -> HttpError {
        HttpError { method: self.method.clone(), url: self.url.clone(), source: Box::new(failure) }
    }
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self, method: &Method, url: &impl ToString) -> Result<Value, HttpError> {
        serde_json::from_slice(&self.body).map_err(|error| HttpError {
            method: method.clone(),
            url: url.to_string(),
            source: Box::new(HttpFailure::Unexpected(format!("not JSON: {error}"))),
        })
    }
}
