//! An agent's own numbers and state, served on a unix socket that only root reads: `<root>/run/triton/<agent>.metrics`.
//!
//! `GET /metrics` is OpenMetrics text, `GET /status` a JSON document for the agent's `status` verb. Labels must be bounded:
//! nothing that grows with time or comes from a guest.

use std::{
    fs, io,
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{Json, Router, http::header, response::IntoResponse, routing::get};
use prometheus_client::registry::Registry;
use serde_json::Value;
use triton_files::{FileError, Layout};

use crate::http::{ServerLimits, serve};

/// The registry of an agent's numbers. Clones share it.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
}

impl Metrics {
    /// An empty registry whose names begin with `prefix` (`cn_agent`).
    pub fn new(prefix: &str) -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix(prefix))) }
    }

    /// Registers what `add` adds; for the start of an agent.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All numbers as OpenMetrics text.
    pub fn text(&self) -> String {
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &registry) {
            Ok(()) => text,
            Err(error) => format!("# could not be written: {error}\n# EOF\n"),
        }
    }
}

/// Gives the agent's status, quickly and without waiting for anything.
pub type StatusSource = Arc<dyn Fn() -> Value + Send + Sync>;

/// Where the socket of `agent` is.
pub fn socket_path(layout: &Layout, agent: &str) -> PathBuf {
    layout.at("/run/triton").join(format!("{agent}.metrics"))
}

/// Binds the socket and spawns the server, which ends with `shutdown`. The socket's file is removed then.
///
/// # Errors
/// When the socket cannot be bound.
pub fn spawn(
    layout: &Layout,
    agent: &str,
    metrics: Metrics,
    status: StatusSource,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<tokio::task::JoinHandle<()>, FileError> {
    let path = socket_path(layout, agent);
    let bind = || {
        fs::create_dir_all(layout.at("/run/triton"))?;
        let listener = crate::unix::bind(&path, 0o600)?;
        listener.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(listener)
    };
    let listener = bind().map_err(|source| FileError::new("listen on", &path, source))?;
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let router = Router::new()
        .route("/metrics", get(move || async move { (content_type, metrics.text()).into_response() }))
        .route("/status", get(move || async move { Json(status()) }));
    let limits = ServerLimits { body: 0, connections: 8, drain: Duration::from_secs(1), ..ServerLimits::default() };
    Ok(tokio::spawn(async move {
        serve(listener, router, limits, shutdown).await;
        let _ = fs::remove_file(path);
    }))
}

/// The status of the running agent, for its `status` verb. Blocking; waits 5 s at most for each read.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when the agent does not run.
pub fn fetch_status(layout: &Layout, agent: &str) -> io::Result<Value> {
    let body = fetch(layout, agent, "/status")?;
    serde_json::from_str(&body).map_err(io::Error::from)
}

/// Asks the running agent and prints its answer, as lines or as JSON: an agent's `status` verb.
///
/// # Errors
/// As [`fetch_status`], or when the output cannot be written.
pub fn print_status(layout: &Layout, agent: &str, json: bool, out: &mut impl Write) -> io::Result<()> {
    let status = fetch_status(layout, agent)?;
    if json {
        return writeln!(out, "{status:#}");
    }
    for (key, value) in status.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(out, "{key:<18} {text}")?;
    }
    Ok(())
}

/// A document of the running agent's socket, at most 1 MiB.
///
/// # Errors
/// As [`fetch_status`].
pub fn fetch(layout: &Layout, agent: &str, path: &str) -> io::Result<String> {
    let mut stream = crate::unix::connect(&socket_path(layout, agent))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    // HTTP/1.0: the reply is neither chunked nor kept alive, so its end is the end of the stream.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut reply = String::new();
    stream.take(1 << 20).read_to_string(&mut reply)?;
    let (head, body) = reply.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        other => Err(io::Error::other(format!("{agent} answered {}", other.unwrap_or("nothing")))),
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[tokio::test]
    async fn numbers_and_status_are_read_from_the_socket_and_it_goes_with_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path());
        let metrics = Metrics::new("cn_agent");
        let counter = Counter::<u64>::default();
        metrics.register(|registry| registry.register("tasks", "Tasks run", counter.clone()));
        counter.inc_by(3);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let status: StatusSource = Arc::new(|| serde_json::json!({"state": "serving"}));
        let server = spawn(&layout, "cn-agent", metrics, status, async move { drop(stopped.await) }).unwrap();
        let at = layout.clone();
        let read = move || (fetch(&at, "cn-agent", "/metrics").unwrap(), fetch_status(&at, "cn-agent").unwrap());
        let (text, status) = tokio::task::spawn_blocking(read).await.unwrap();
        assert!(text.contains("cn_agent_tasks_total 3"), "{text}");
        assert_eq!(status["state"], "serving");
        stop.send(()).unwrap();
        server.await.unwrap();
        assert!(!socket_path(&layout, "cn-agent").exists());
        assert!(fetch_status(&layout, "cn-agent").is_err());
    }
}
