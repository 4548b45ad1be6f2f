//! NAPI's changefeed, version 2 of the protocol: a websocket that says what changed (net-agent.md section 6).
//!
//! A feed only says "look now": whoever listens asks the service itself, and asks for everything after each connection.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, header};
use serde_json::{Map, Value};
use tokio::{
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, handshake::client::generate_key, protocol::WebSocketConfig},
};

use crate::{BaseUrl, Call, HttpClient, HttpError};

/// Between two signs of life (section 6, item 6).
const HEARTBEAT: Duration = Duration::from_millis(27_817);
/// For the connection, for the handshake, and for the first frame after it, each.
const PATIENCE: Duration = Duration::from_secs(30);
/// Largest frame: changes are small.
const LARGEST: usize = 1 << 20;
/// How long what was sent may go without the peer's acknowledgement before the connection is given up.
const UNACKNOWLEDGED: u32 = 60_000;
/// Longest name of anything that a change may concern.
const NAME: usize = 512;

/// Why a feed ended or did not begin. Whatever the reason: connect again, later.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The service has no feeds, or does not answer.
    #[error("the service does not offer changes")]
    Offer(#[source] HttpError),
    /// No connection.
    #[error("could not connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The connection failed, or what came was no websocket.
    #[error("the connection broke off")]
    Socket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The other side ended it.
    #[error("the service closed the feed: {0}")]
    Closed(String),
    /// What came is not of the protocol.
    #[error("a frame is not of the protocol: {0}")]
    Frame(String),
    /// Nothing came in time.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
}

/// Something that changed, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// The feed begins: anything of these resources may have changed before.
    Began(BTreeSet<String>),
    /// One thing changed.
    Changed(FeedChange),
}

/// One change. Texts are the service's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedChange {
    /// `nic`, `network`, `aggregation`.
    pub resource: String,
    /// What: a uuid, a MAC address with colons, `<server>-<name>`.
    pub id: String,
    /// It was deleted.
    pub deleted: bool,
    /// The server that a NIC is on.
    pub cn_uuid: Option<String>,
    /// Whom it belongs to.
    pub belongs_to_uuid: Option<String>,
    /// Name of an aggregation.
    pub name: Option<String>,
}

/// A feed that has begun.
#[derive(Debug)]
pub struct Feed {
    socket: WebSocketStream<TcpStream>,
    heartbeat: Interval,
    began: bool,
}

fn socket_error(error: tokio_tungstenite::tungstenite::Error) -> FeedError {
    FeedError::Socket(Box::new(error))
}

impl Feed {
    /// Asks whether the service has feeds, connects, and registers. The first event is [`FeedEvent::Began`].
    ///
    /// # Errors
    /// At whichever of these it fails; nothing stays open.
    pub async fn connect(client: &HttpClient, base: &BaseUrl, registration: &Value) -> Result<Self, FeedError> {
        let mut offer = Call::new(Method::GET, "/changefeeds");
        offer.accept_version = Some("~2");
        client.call(base, offer).await.map_err(FeedError::Offer)?;

        let address = base.address();
        let refused = |source| FeedError::Connect { address: address.clone(), source };
        let timed_out = || refused(std::io::ErrorKind::TimedOut.into());
        let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(&address)).await.map_err(|_| timed_out())?.map_err(&refused)?;
        stream.set_nodelay(true).map_err(&refused)?;
        // A service that vanished without a word is noticed by the heartbeats that nobody acknowledges.
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpUserTimeout, &UNACKNOWLEDGED)
            .map_err(|error| refused(error.into()))?;
        let uri = base.join("/changefeeds", &[]);
        let host = uri.authority().map_or(address.as_str(), http::uri::Authority::as_str);
        let request = Request::builder()
            .method(Method::GET)
            .uri(uri.to_string().replacen("http://", "ws://", 1))
            .header(header::HOST, host)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, generate_key())
            .header(header::USER_AGENT, client.options().user_agent.as_str())
            .header("accept-version", "~2")
            .body(())
            .map_err(|error| FeedError::Frame(error.to_string()))?;
        let config = WebSocketConfig::default().max_message_size(Some(LARGEST)).max_frame_size(Some(LARGEST)).read_buffer_size(16 << 10);
        let exchange = client_async_with_config(request, stream, Some(config));
        let (mut socket, _) =
            tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| FeedError::Silent(PATIENCE))?.map_err(socket_error)?;
        let registered = socket.send(Message::text(registration.to_string()));
        tokio::time::timeout(PATIENCE, registered).await.map_err(|_| FeedError::Silent(PATIENCE))?.map_err(socket_error)?;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { socket, heartbeat, began: false })
    }

    /// The next event; sends the signs of life meanwhile. Not to be given up while it waits, unless the feed is given up with it.
    ///
    /// # Errors
    /// The feed is of no use afterwards.
    pub async fn next(&mut self) -> Result<FeedEvent, FeedError> {
        let begins = Instant::now() + PATIENCE;
        loop {
            let message = tokio::select! {
                message = self.socket.next() => message.ok_or_else(|| FeedError::Closed("without a word".to_owned()))?.map_err(socket_error)?,
                _ = self.heartbeat.tick() => {
                    let sent = self.socket.send(Message::text("heartbeat"));
                    tokio::time::timeout(PATIENCE, sent).await.map_err(|_| FeedError::Silent(PATIENCE))?.map_err(socket_error)?;
                    continue;
                }
                () = tokio::time::sleep_until(begins), if !self.began => return Err(FeedError::Silent(PATIENCE)),
            };
            match message {
                Message::Text(text) => {
                    let event = parse(text.as_str())?;
                    self.began |= matches!(event, FeedEvent::Began(_));
                    return Ok(event);
                }
                Message::Close(frame) => {
                    let reason = frame.map(|frame| frame.reason.chars().take(200).collect()).unwrap_or_default();
                    return Err(FeedError::Closed(reason));
                }
                Message::Binary(_) => return Err(FeedError::Frame("binary".to_owned())),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }
}

fn parse(text: &str) -> Result<FeedEvent, FeedError> {
    let wrong = |what: &str| FeedError::Frame(format!("{what}: {}", text.chars().take(120).collect::<String>()));
    let frame: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong("no JSON object"))?;
    let word = |value: Option<&Value>| value.and_then(Value::as_str).filter(|word| word.len() <= NAME).map(str::to_owned);
    if let Some(routes) = frame.get("bootstrapRoutes") {
        let routes = routes.as_array().ok_or_else(|| wrong("bootstrapRoutes is no list"))?;
        return Ok(FeedEvent::Began(routes.iter().filter_map(|route| word(route.get("resource"))).collect()));
    }
    let kind = frame.get("changeKind").ok_or_else(|| wrong("neither a beginning nor a change"))?;
    let resource = word(kind.get("resource")).ok_or_else(|| wrong("no resource"))?;
    let id = word(frame.get("changedResourceId")).ok_or_else(|| wrong("no changedResourceId"))?;
    let deleted = kind.get("subResources").and_then(Value::as_array).is_some_and(|list| list.iter().any(|word| word == "delete"));
    let [cn_uuid, belongs_to_uuid, name] = ["cn_uuid", "belongs_to_uuid", "name"].map(|key| word(frame.get(key)));
    Ok(FeedEvent::Changed(FeedChange { resource, id, deleted, cn_uuid, belongs_to_uuid, name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_a_beginning_or_a_change_and_nothing_else() {
        let began = parse(r#"{"bootstrapRoutes":[{"resource":"nic","bootstrapRoute":"/nics","subResources":["create"]},7]}"#).unwrap();
        assert_eq!(began, FeedEvent::Began(["nic".to_owned()].into()));
        let text = r#"{"changeKind":{"resource":"nic","subResources":["delete"]},"changedResourceId":"90:b8:d0:00:00:01","cn_uuid":"c","published":"1"}"#;
        let FeedEvent::Changed(change) = parse(text).unwrap() else { panic!("no change") };
        assert!(change.deleted && change.id == "90:b8:d0:00:00:01" && change.cn_uuid.as_deref() == Some("c"));
        let long = format!(r#"{{"changeKind":{{"resource":"nic"}},"changedResourceId":"{}"}}"#, "x".repeat(1000));
        for bad in ["", "[]", "{}", "heartbeat", r#"{"bootstrapRoutes":5}"#, r#"{"changeKind":5}"#, long.as_str()] {
            assert!(matches!(parse(bad), Err(FeedError::Frame(_))), "{bad}");
        }
    }
}
