//! The subscription to FWAPI's events against the stand-in, whose frames are its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Here, ask, start};
use serde_json::json;
use triton_headnode::{FastError, FastEvent, FastFeed};

async fn subscribed(world: &Here) -> FastFeed {
    let mut feed = FastFeed::connect(world.standin.fast_address(), "cn0").await.unwrap();
    assert!(matches!(next(&mut feed).await, Ok(FastEvent::Began(_))));
    feed
}

async fn next(feed: &mut FastFeed) -> Result<FastEvent, FastError> {
    tokio::time::timeout(Duration::from_secs(20), feed.next()).await.expect("nothing came in 20 s")
}

/// firewaller cases F5 and F7
#[tokio::test]
async fn events_come_with_their_text_whole() {
    let world = start();
    let mut feed = subscribed(&world).await;
    let req_id = world.standin.announce("fw.add_rule", &json!({"rule": "FROM tag \"日本😀\" TO all vms ALLOW ah"}));
    let Ok(FastEvent::Event(event)) = next(&mut feed).await else { panic!("no event") };
    assert_eq!((&event["req_id"], &event["value"]["rule"]), (&json!(req_id), &json!("FROM tag \"日本😀\" TO all vms ALLOW ah")));
    let connected = ask(world.standin.fwapi_url(), "GET", "/ping?agents=true", None).json();
    assert_eq!(connected["agents"]["connected"], json!(["cn0"]));
    assert!(matches!(next(&mut feed).await, Ok(FastEvent::Event(event)) if event["name"] == "ping"));
    assert_eq!(world.standin.violations(), []);
}

/// firewaller cases F6 and F10
#[tokio::test]
async fn the_end_of_a_subscription_is_told_apart_from_the_end_of_the_connection() {
    let world = start();
    let mut first = subscribed(&world).await;
    let mut second = subscribed(&world).await;
    assert!(matches!(next(&mut first).await, Err(FastError::Ended)));
    world.standin.close_fast();
    assert!(matches!(next(&mut second).await, Err(FastError::Closed { midway: false })));
}

/// firewaller case F11
#[tokio::test]
async fn garbage_ends_a_subscription_by_name() {
    let world = start();
    let bad_sum = [&[1, 1, 1, 0, 0, 0, 1, 0, 0, 0x12, 0x34, 0, 0, 0, 2][..], b"{}"].concat();
    for (garbage, wanted) in [
        (&b"HTTP/1.1 200 OK\r\n\r\n"[..], "a frame has the version 72"),
        (&bad_sum, "a frame has the checksum 0x1234 and should have 0x7b99"),
        (&[1, 1, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "a frame has the id 2147483648"),
    ] {
        let mut feed = subscribed(&world).await;
        world.standin.say_to_fast(garbage);
        let Err(FastError::Frame(error)) = next(&mut feed).await else { panic!("{wanted}: accepted") };
        assert_eq!(error.to_string(), wanted);
        drop(feed);
    }
}
