//! The subscription to FWAPI's events against the stand-in, whose frames are its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;
#[path = "upstream/fast.rs"]
mod judge;

use std::time::Duration;

use common::{Here, ask, start};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, io::AsyncWriteExt, net::TcpListener};
use triton_fast::{Decoder, Frame, Status};
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

#[tokio::test]
async fn firewaller_case_f2_f3_f4_f8_the_stand_in_answers_as_fwapi_does() {
    let world = start();
    judge::answers_as_fwapi_does(world.standin.fast_address(), || drop(world.standin.announce("fw.add_rule", &json!({})))).await;
    assert_eq!(world.standin.violations(), []);
}

/// A server that reads calls and says what it is told to.
struct Scripted {
    stream: tokio::net::TcpStream,
    decoder: Decoder,
}

impl Scripted {
    /// A server and a feed that has subscribed to it.
    async fn with_feed() -> (Self, FastFeed) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let feed = FastFeed::connect(&listener.local_addr().unwrap().to_string(), "cn0").await.unwrap();
        let mut server = Self { stream: listener.accept().await.unwrap().0, decoder: Decoder::default() };
        assert_eq!(server.call().await.method, "messages");
        (server, feed)
    }

    async fn call(&mut self) -> Frame {
        let mut buffer = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let count = self.stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "the client closed the connection");
            self.decoder.feed(&buffer[..count]);
        }
    }

    async fn say(&mut self, id: u32, status: Status, method: &str, data: Value) {
        let frame = Frame { id, status, method: method.to_owned(), data };
        self.stream.write_all(&frame.encode(1).unwrap()).await.unwrap();
    }

    async fn begin(&mut self, feed: &mut FastFeed) {
        self.say(1, Status::Data, "messages", json!([{"name": "sync", "server_id": "fwapi0", "version": 1}])).await;
        assert!(matches!(next(feed).await, Ok(FastEvent::Began(_))));
    }
}

#[tokio::test]
async fn firewaller_case_f13_what_an_end_brings_is_delivered_and_an_error_ends_the_subscription() {
    let (mut server, mut feed) = Scripted::with_feed().await;
    server.begin(&mut feed).await;
    server.say(1, Status::End, "messages", json!([{"name": "fw.add_rule", "value": {"n": 1}}, {"name": "ping", "value": {}}])).await;
    assert!(matches!(next(&mut feed).await, Ok(FastEvent::Event(event)) if event["value"]["n"] == 1));
    assert!(matches!(next(&mut feed).await, Ok(FastEvent::Event(event)) if event["name"] == "ping"));
    assert!(matches!(next(&mut feed).await, Err(FastError::Ended)));

    let (mut server, mut feed) = Scripted::with_feed().await;
    server.say(1, Status::Error, "messages", json!({"name": "Error", "message": "not now"})).await;
    assert!(matches!(next(&mut feed).await, Err(FastError::Refused(reason)) if reason == "not now"));
}

#[tokio::test]
async fn firewaller_case_f8_a_ping_goes_between_events_and_its_answer_too() {
    let (mut server, mut feed) = Scripted::with_feed().await;
    server.begin(&mut feed).await;
    // The feed asks for a sign of life after half a minute.
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(31)).await;
    tokio::time::resume();
    let talk = async {
        let ping = server.call().await;
        assert_eq!((ping.method.as_str(), ping.status, &ping.data), ("ping", Status::Data, &json!([{}])));
        assert_ne!(ping.id, 1, "an id of its own");
        server.say(1, Status::Data, "messages", json!([{"name": "fw.add_rule", "value": {"n": 1}}])).await;
        server.say(ping.id, Status::End, "ping", json!([])).await;
        server.say(1, Status::Data, "messages", json!([{"name": "fw.add_rule", "value": {"n": 2}}])).await;
    };
    let (first, ()) = tokio::join!(next(&mut feed), talk);
    assert!(matches!(first, Ok(FastEvent::Event(event)) if event["value"]["n"] == 1));
    assert!(matches!(next(&mut feed).await, Ok(FastEvent::Event(event)) if event["value"]["n"] == 2));
}
