//! The changefeed, version 2 (net-agent.md section 6): a websocket per subscriber.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use crate::{call::uuid, error::ApiError, shared::Shared, violations::Problem};

/// What is offered, and what of each.
fn resources() -> Value {
    json!({
        "network": {"subResources": ["create", "delete", "gateway", "resolvers", "routes"], "bootstrapRoute": "/networks"},
        "nic": {"subResources": ["create", "delete", "allow_dhcp_spoofing", "allow_ip_spoofing", "allow_mac_spoofing",
            "allow_restricted_traffic", "allow_unfiltered_promisc", "belongs_to_uuid", "ip", "owner_uuid", "primary", "state"],
            "bootstrapRoute": "/nics"},
        "aggregation": {"subResources": ["create", "delete", "lacp_mode"], "bootstrapRoute": "/aggregations"},
    })
}

/// Changes kept for a slow subscriber; one that is further behind is sent away.
const BEHIND: usize = 4096;

#[derive(Clone, Debug)]
enum Push {
    Change(Arc<Value>),
    Text(String),
    End,
}

/// Where changes come from and subscribers meet them.
#[derive(Debug)]
pub(crate) struct FeedHub(broadcast::Sender<Push>);

impl Default for FeedHub {
    fn default() -> Self {
        Self(broadcast::Sender::new(BEHIND))
    }
}

impl FeedHub {
    pub(super) fn publish(&self, resource: &str, changed: &[&str], mut item: Value) {
        if changed.is_empty() {
            return;
        }
        item["changeKind"] = json!({"resource": resource, "subResources": changed});
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_millis());
        item["published"] = json!(now.to_string());
        // Without a subscriber nobody misses it.
        let _ = self.0.send(Push::Change(Arc::new(item)));
    }

    /// Sends this frame to every subscriber, whatever it is.
    pub(crate) fn say(&self, text: &str) {
        let _ = self.0.send(Push::Text(text.to_owned()));
    }

    /// Ends every subscription.
    pub(crate) fn end(&self) {
        let _ = self.0.send(Push::End);
    }

    /// How many there are.
    pub(crate) fn subscribers(&self) -> usize {
        self.0.receiver_count()
    }
}

/// `GET /changefeeds`: what there is, or the feed itself.
pub(super) async fn changefeeds(State(shared): State<Arc<Shared>>, mut request: Request) -> Result<Response, ApiError> {
    if !shared.features.changefeed {
        return Err(ApiError::not_found("/changefeeds does not exist"));
    }
    let text = |headers: &HeaderMap, name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let upgrade = text(request.headers(), header::UPGRADE).is_some_and(|word| word.eq_ignore_ascii_case("websocket"));
    let version = request.headers().get("accept-version").and_then(|v| v.to_str().ok()).unwrap_or("~1").to_owned();
    if version != "~2" {
        let problem = Problem::new("/changefeeds", format!("Accept-Version is {version:?}: version 1 has one resource for each feed"));
        shared.violations.add(&shared.clock.iso(), None, "changefeed", [problem]);
    }
    if !upgrade {
        return Ok(Json(resources()).into_response());
    }
    let Some(key) = text(request.headers(), header::SEC_WEBSOCKET_KEY) else {
        return Err(ApiError::invalid_content("no Sec-WebSocket-Key"));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    let here = Arc::clone(&shared);
    shared.tracker.spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
            subscriber(&here, socket).await;
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()))
        .body(Body::empty())
        .map_err(|error| ApiError::internal(error.to_string()))
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

async fn subscriber(shared: &Arc<Shared>, mut socket: Socket) {
    let mut changes = shared.feed.0.subscribe();
    let wanted = match socket.next().await {
        Some(Ok(Message::Text(text))) => match registration(text.as_str()) {
            Ok(wanted) => wanted,
            Err(reason) => {
                shared.violations.add(&shared.clock.iso(), None, "changefeed", [Problem::new("registration", reason)]);
                let frame = CloseFrame { code: CloseCode::Normal, reason: reason.into() };
                let _ = socket.close(Some(frame)).await;
                return;
            }
        },
        _ => return,
    };
    let offered = resources();
    let routes: Vec<Value> = wanted
        .iter()
        .map(|(resource, list)| json!({"resource": resource, "bootstrapRoute": offered[resource]["bootstrapRoute"], "subResources": list}))
        .collect();
    if socket.send(Message::text(json!({"bootstrapRoutes": routes}).to_string())).await.is_err() {
        return;
    }
    loop {
        let sent = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) if text.as_str() == "heartbeat" => {
                    shared.heartbeats_of_feeds.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    Ok(())
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                Some(Ok(Message::Text(_) | Message::Binary(_))) => {
                    shared.violations.add(&shared.clock.iso(), None, "changefeed", [Problem::new("frame", "is neither registration nor heartbeat")]);
                    Ok(())
                }
                _ => return,
            },
            change = changes.recv() => match change {
                Ok(Push::Change(item)) => send_change(&mut socket, &item, &wanted).await,
                Ok(Push::Text(text)) => socket.send(Message::text(text)).await,
                Ok(Push::End) | Err(_) => return,
            },
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Once for each part of the resource that was asked for.
async fn send_change(
    socket: &mut Socket,
    item: &Value,
    wanted: &[(String, Vec<String>)],
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    let Some((_, list)) = wanted.iter().find(|(resource, _)| item["changeKind"]["resource"] == resource.as_str()) else { return Ok(()) };
    let changed = item["changeKind"]["subResources"].as_array().into_iter().flatten();
    for _ in changed.filter(|part| list.iter().any(|wanted| *part == wanted.as_str())) {
        socket.send(Message::text(item.to_string())).await?;
    }
    Ok(())
}

/// The resources of a registration with their parts.
fn registration(text: &str) -> Result<Vec<(String, Vec<String>)>, &'static str> {
    let frame: Value = serde_json::from_str(text).map_err(|_| "not JSON")?;
    if frame["instance"].as_str().is_none_or(|id| uuid(id).is_none()) {
        return Err("instance is no uuid");
    }
    if frame["service"].as_str().is_none_or(str::is_empty) {
        return Err("no service");
    }
    let offered = resources();
    let list = frame["resources"].as_array().filter(|list| !list.is_empty()).ok_or("no resources")?;
    let mut wanted = Vec::new();
    for entry in list {
        let resource = entry["resource"].as_str().ok_or("a resource without a name")?;
        let known = offered[resource]["subResources"].as_array().ok_or("a resource that is not offered")?;
        let parts = entry["subResources"].as_array().ok_or("a resource without subResources")?;
        if !parts.iter().all(|part| known.contains(part)) {
            return Err("a sub-resource that is not offered");
        }
        wanted.push((resource.to_owned(), parts.iter().filter_map(|part| part.as_str().map(str::to_owned)).collect()));
    }
    Ok(wanted)
}
