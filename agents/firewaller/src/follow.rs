//! The subscription to FWAPI's events, kept up for ever (firewaller.md sections 2.2 and 3.6), and the timer of comparisons.

use std::time::{Duration, Instant};

use serde_json::Value;
use tracing::{info, warn};
use triton_agent::chain;
use triton_headnode::{FastError, FastEvent, FastFeed, FastRetry, Names};
use triton_types::ServerUuid;

use crate::{Handle, Numbers, Settings, Task};

/// Subscribes at `address` (`host:port`, looked up by `names`) as this node, hands events to the worker and asks for a comparison after each beginning and
/// each time the timer says so. Never ends; may be dropped at any time.
pub async fn follow(address: String, names: Names, server: ServerUuid, handle: Handle, settings: Settings, numbers: Numbers) {
    let place = (address.as_str(), &names);
    tokio::join!(subscribe(place, server, &handle, &settings, &numbers), tick(&handle, &settings));
}

fn jitter(settings: &Settings) -> Duration {
    settings.jitter.mul_f64(rand::random())
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn tick(handle: &Handle, settings: &Settings) {
    loop {
        tokio::time::sleep(settings.sync_every + jitter(settings)).await;
        handle.push(Task::Sync { req_id: new_id() });
    }
}

async fn subscribe(place: (&str, &Names), server: ServerUuid, handle: &Handle, settings: &Settings, numbers: &Numbers) {
    let mut retry = FastRetry::default();
    let mut named = String::new();
    loop {
        let begun = Instant::now();
        let error = listen(place, server, handle, settings, numbers).await;
        numbers.subscribed(false);
        // The same reason again and again is said once.
        let reason = chain(&error).to_string();
        if reason != named {
            warn!(
                address = place.0,
                error = reason,
                "FWAPI's events are not received; what is in force stays, and another attempt is made"
            );
            named = reason;
        }
        tokio::time::sleep(retry.pause(begun.elapsed())).await;
    }
}

async fn listen(
    (address, names): (&str, &Names),
    server: ServerUuid,
    handle: &Handle,
    settings: &Settings,
    numbers: &Numbers,
) -> FastError {
    let mut feed = match FastFeed::connect_with(names, address, &server.to_string()).await {
        Ok(feed) => feed,
        Err(error) => return error,
    };
    loop {
        match feed.next().await {
            Ok(FastEvent::Began(_)) => {
                info!(address, "subscribed to FWAPI's events");
                numbers.subscribed(true);
                let (handle, pause) = (handle.clone(), jitter(settings));
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    handle.push(Task::Sync { req_id: new_id() });
                });
            }
            Ok(FastEvent::Event(event)) => drop(task(event).map(|task| handle.push(task))),
            Err(error) => return error,
        }
    }
}

/// The task of an event; nothing for one that says nothing (section 8).
fn task(event: Value) -> Option<Task> {
    let Value::Object(mut event) = event else { return None };
    let name = event.get("name")?.as_str()?.to_owned();
    let req_id = event.get("req_id").and_then(Value::as_str).filter(|id| id.len() <= 128).map_or_else(new_id, str::to_owned);
    match (name.as_str(), event.remove("value")) {
        ("sync", _) => Some(Task::Sync { req_id }),
        (_, Some(Value::Object(value))) => Some(Task::Event { name, value, req_id }),
        _ => {
            warn!(name = name.chars().take(64).collect::<String>(), req_id, "an event says nothing: ignored");
            None
        }
    }
}
