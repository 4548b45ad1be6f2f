//! A recorder in the place of firewaller's API on port 2021, until firewaller exists (ruling 56): it keeps the rules that
//! `machine_create` puts, and can be told to refuse them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::put,
};
use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::serve::serve;

/// One `PUT /rules/:uuid`.
#[derive(Clone, Debug, PartialEq)]
pub struct RulePut {
    /// The uuid of the path.
    pub uuid: String,
    /// The rule.
    pub rule: Value,
    /// Header `x-request-id`.
    pub req_id: Option<String>,
}

#[derive(Debug, Default)]
struct Kept {
    rules: Vec<RulePut>,
    fail: Option<u16>,
}

/// A recorder that serves until it is dropped.
#[derive(Debug)]
pub struct Recorder {
    state: Arc<Mutex<Kept>>,
    address: SocketAddr,
    stop: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
}

/// Most rules that are kept.
const MOST: usize = 1_000;

impl Recorder {
    /// Serves on a listener, bound by the caller in whatever network namespace.
    ///
    /// # Errors
    /// When the listener cannot be used or no thread started.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let state = Arc::new(Mutex::new(Kept::default()));
        let stop = CancellationToken::new();
        let router = Router::new().route("/rules/{uuid}", put(put_rule)).with_state(Arc::clone(&state));
        {
            let _entered = runtime.enter();
            let listener = tokio::net::TcpListener::from_std(listener)?;
            runtime.spawn(serve(listener, router, stop.clone(), TaskTracker::new()));
        }
        Ok(Self { state, address, stop, runtime: Some(runtime) })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The rules so far, in order.
    pub fn rules(&self) -> Vec<RulePut> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).rules.clone()
    }

    /// From now on every rule is refused with this status; `None` to accept again. Refused rules are recorded too.
    pub fn fail_with(&self, status: Option<u16>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).fail = status;
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn put_rule(
    State(state): State<Arc<Mutex<Kept>>>,
    Path(uuid): Path<String>,
    headers: HeaderMap,
    Json(rule): Json<Value>,
) -> Response {
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    let req_id = headers.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::to_owned);
    if state.rules.len() < MOST {
        state.rules.push(RulePut { uuid, rule: rule.clone(), req_id });
    }
    match state.fail {
        Some(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            (status, Json(json!({"code": "InternalError", "message": "the recorder was told to refuse"}))).into_response()
        }
        None => Json(rule).into_response(),
    }
}
