//! NAPI's changes: one subscription, for ever (net-agent.md section 6).

use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tracing::{info, warn};
use triton_agent::{Backoff, chain};
use triton_headnode::{BaseUrl, Feed, FeedError, FeedEvent, HttpClient, HttpOptions};

use crate::{NAME, metrics::Numbers};

/// Changes that wait for the agent; the socket waits behind them.
pub const WAITING: usize = 1024;

/// What is subscribed to, word for word as the contract has it.
pub fn registration(instance: &str) -> Value {
    json!({
        "instance": instance,
        "service": NAME,
        "resources": [
            {"resource": "network", "subResources": ["create", "delete", "gateway", "resolvers", "routes"]},
            {"resource": "nic", "subResources": ["create", "delete", "allow_dhcp_spoofing", "allow_ip_spoofing", "allow_mac_spoofing",
                "allow_restricted_traffic", "allow_unfiltered_promisc"]},
            {"resource": "aggregation", "subResources": ["create", "delete"]},
        ],
    })
}

/// Subscribes, and passes on what comes; connects again after every end, with growing pauses that begin at `first`. Ends with its listener.
pub async fn follow(user_agent: String, napi: BaseUrl, instance: String, first: Duration, to: mpsc::Sender<FeedEvent>, numbers: Numbers) {
    let client = HttpClient::new(HttpOptions::new(user_agent));
    let registration = registration(&instance);
    let mut pauses = Backoff::new(first, 1.5, first * 6, 0.1);
    let mut said = false;
    while !to.is_closed() {
        let error = listen(&client, &napi, &registration, &to, &mut pauses, &numbers).await;
        numbers.feed(false);
        match error {
            // An old NAPI has none for ever: once is enough.
            FeedError::Offer(error) if std::mem::replace(&mut said, true) => tracing::debug!(error = %chain(&error), "no feed"),
            error => warn!(error = %chain(&error), "NAPI's changes are not told; they are looked for now and then"),
        }
        tokio::time::sleep(pauses.next_delay()).await;
    }
}

async fn listen(
    client: &HttpClient,
    napi: &BaseUrl,
    registration: &Value,
    to: &mpsc::Sender<FeedEvent>,
    pauses: &mut Backoff,
    numbers: &Numbers,
) -> FeedError {
    let mut feed = match Feed::connect(client, napi, registration).await {
        Ok(feed) => feed,
        Err(error) => return error,
    };
    loop {
        match feed.next().await {
            Ok(event) => {
                if let FeedEvent::Began(_) = &event {
                    info!("NAPI's changes are told");
                    pauses.reset();
                    numbers.feed(true);
                }
                if to.send(event).await.is_err() {
                    return FeedError::Closed("nobody listens".to_owned());
                }
            }
            Err(error) => return error,
        }
    }
}
