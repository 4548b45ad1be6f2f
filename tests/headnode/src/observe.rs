//! What surrounds every request: the record, faults, and the rule that an agent has one request in flight.

use std::{io, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http_body_util::{BodyExt, Limited};

use crate::{
    Api, Direction, FaultAction, call::BODY_LIMIT, error::ApiError, record::Begun, serve::DropConnection, shared::Shared,
    violations::Problem,
};

/// Between the last byte and the break of a body that is cut.
const BEFORE_BREAK: Duration = Duration::from_millis(50);

/// Longest stall.
const LONGEST_STALL: Duration = Duration::from_secs(3600);

pub(crate) async fn observe(State((api, shared)): State<(Api, Arc<Shared>)>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let collected = Limited::new(body, BODY_LIMIT).collect().await;
    let (body, refused) = match collected {
        Ok(collected) => (collected.to_bytes(), None),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => (Bytes::new(), Some(ApiError::too_large())),
        Err(_) => (Bytes::new(), Some(ApiError::invalid_content("the body ended early"))),
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let method = parts.method.as_str().to_owned();
    let seq = shared.record.begin(Begun {
        time: shared.clock.iso(),
        api,
        direction: Direction::Received,
        method: &method,
        path: &path,
        headers: &parts.headers,
        body: &body,
    });
    if let Some(error) = refused {
        return finish(&shared, seq, error.into_response()).await;
    }
    let _alone = (api == Api::Cnapi).then(|| InFlight::enter(&shared, &parts.headers, &method, &path)).flatten();

    let fault = shared.faults.take(api, &method, &path);
    if let Some(action) = &fault {
        shared.record.fault(seq, &serde_json::to_string(action).unwrap_or_default());
    }
    let request = Request::from_parts(parts, Body::from(body));
    let response = match fault {
        None => next.run(request).await,
        Some(FaultAction::StallMs(millis)) => {
            tokio::time::sleep(Duration::from_millis(millis).min(LONGEST_STALL)).await;
            next.run(request).await
        }
        Some(FaultAction::Fail { status, body }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            match body {
                Some(body) => (status, axum::Json(body)).into_response(),
                None => status.into_response(),
            }
        }
        Some(FaultAction::Lie(body)) => axum::Json(body).into_response(),
        Some(FaultAction::Drop) => {
            let mut response = StatusCode::OK.into_response();
            response.extensions_mut().insert(DropConnection);
            return response;
        }
        Some(FaultAction::TruncateAfter(bytes)) => damage(next.run(request).await, Damage::CutAt(bytes)),
        Some(FaultAction::CorruptAt(place)) => damage(next.run(request).await, Damage::FlipAt(place)),
    };
    finish(&shared, seq, response).await
}

/// Completes the record; the body is looked at only when it is JSON (and so, small).
async fn finish(shared: &Shared, seq: u64, response: Response) -> Response {
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !is_json {
        shared.record.end(seq, response.status().as_u16(), &[]);
        return response;
    }
    let (parts, body) = response.into_parts();
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            shared.record.end(seq, parts.status.as_u16(), &body);
            Response::from_parts(parts, Body::from(body))
        }
        // A body cut short by a fault.
        Err(_) => {
            let mut response = StatusCode::OK.into_response();
            response.extensions_mut().insert(DropConnection);
            response
        }
    }
}

#[derive(Clone, Copy)]
enum Damage {
    CutAt(u64),
    FlipAt(u64),
}

fn damage(response: Response, how: Damage) -> Response {
    let (parts, body) = response.into_parts();
    let mut passed = 0u64;
    let stream = body.into_data_stream().flat_map(move |chunk| {
        let (start, length) = (passed, chunk.as_ref().map_or(0, Bytes::len) as u64);
        passed += length;
        let place = |at: u64| (start..start + length).contains(&at).then(|| usize::try_from(at - start).unwrap_or(0));
        let parts: Vec<io::Result<Bytes>> = match (chunk, how) {
            (Err(error), _) => vec![Err(io::Error::other(error))],
            (Ok(chunk), Damage::CutAt(at)) => match place(at) {
                Some(end) => vec![Ok(chunk.slice(..end)), Err(io::ErrorKind::ConnectionAborted.into())],
                None => vec![Ok(chunk)],
            },
            (Ok(chunk), Damage::FlipAt(at)) => {
                let mut bytes = chunk.to_vec();
                if let Some(byte) = place(at).and_then(|place| bytes.get_mut(place)) {
                    *byte ^= 0xff;
                }
                vec![Ok(Bytes::from(bytes))]
            }
        };
        futures_util::stream::iter(parts)
    });
    // The pause lets what comes before the break be sent: a connection that breaks at once takes it along.
    let stream = stream.then(async |part| {
        if part.is_err() {
            tokio::time::sleep(BEFORE_BREAK).await;
        }
        part
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

/// Counts the requests of one cn-agent: it may have one in flight at a time (cn-agent.md section 5).
struct InFlight {
    shared: Arc<Shared>,
    server: String,
}

impl InFlight {
    fn enter(shared: &Arc<Shared>, headers: &HeaderMap, method: &str, path: &str) -> Option<Self> {
        let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
        if method != "POST" || !agent.starts_with("cn-agent/") {
            return None;
        }
        let server = path.strip_prefix("/servers/")?.split(['/', '?']).next()?.to_owned();
        let mut counts = Shared::lock(&shared.under_way);
        let count = counts.entry(server.clone()).or_default();
        *count += 1;
        if *count > 1 {
            let problem = Problem::new(path, format!("{count} requests in flight at once, one is allowed"));
            shared.violations.add(&shared.clock.iso(), Some(&server), "request", [problem]);
        }
        Some(Self { shared: Arc::clone(shared), server })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut counts = Shared::lock(&self.shared.under_way);
        if let Some(count) = counts.get_mut(&self.server) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.server);
            }
        }
    }
}
