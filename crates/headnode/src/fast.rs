//! FWAPI's events: a subscription over FAST (firewaller.md sections 3.4 to 3.6).
//!
//! FWAPI forgets an event once it is sent, so what happens while nobody is connected is lost: whoever listens asks for everything
//! after each [`FastEvent::Began`].

use std::{
    collections::VecDeque,
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior},
};
use triton_fast::{DecodeError, Decoder, Frame, Status};

use crate::Names;

/// For the connection, and for the first object after it, each.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two pings; one that is not answered until the next is due ends the subscription.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long what was sent may go without the peer's acknowledgement, in milliseconds.
const UNACKNOWLEDGED: u32 = 60_000;
/// The call that is the subscription.
const MESSAGES: u32 = 1;
/// A subscription that lasted so long was a good one: the next attempt is a first one again.
const GOOD: Duration = Duration::from_secs(30);

/// Why a subscription ended or did not begin. Whatever the reason: subscribe again, after [`FastRetry::pause`].
#[derive(Debug, thiserror::Error)]
pub enum FastError {
    /// No connection.
    #[error("could not connect to {address}")]
    Connect {
        /// Host and port.
        address: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The connection failed.
    #[error("the connection broke off")]
    Broken(#[source] std::io::Error),
    /// The service closed the connection.
    #[error("the service closed the connection{}", if *.midway { " within a frame" } else { "" })]
    Closed {
        /// A frame had begun.
        midway: bool,
    },
    /// What came is not of the protocol.
    #[error("what came is not of the protocol")]
    Frame(#[from] DecodeError),
    /// An answer to a question that was never asked.
    #[error("an answer came to call {0}, which was never made")]
    Stray(u32),
    /// The service refused the subscription.
    #[error("the service refused the subscription: {0}")]
    Refused(String),
    /// The service ended it: somebody else subscribed in this node's name, or the service ends.
    #[error("the service ended the subscription")]
    Ended,
    /// Nothing came in time.
    #[error("nothing came for {} s", .0.as_secs())]
    Silent(Duration),
}

/// Something that came.
#[derive(Clone, Debug, PartialEq)]
pub enum FastEvent {
    /// The subscription begins, with the service's state: everything may have changed before.
    Began(Value),
    /// An event: an object with `name`, `value` and `req_id`.
    Event(Value),
}

/// How long to wait before the next attempt (section 3.6): not at all, then a second, then five.
#[derive(Clone, Copy, Debug, Default)]
pub struct FastRetry {
    attempts: u32,
}

impl FastRetry {
    /// The pause after an attempt whose subscription lasted so long, with jitter so that nodes do not come in step.
    pub fn pause(&mut self, lasted: Duration) -> Duration {
        if lasted >= GOOD {
            self.attempts = 0;
        }
        self.attempts = self.attempts.saturating_add(1);
        let pause = match self.attempts {
            1 => Duration::ZERO,
            2..=9 => Duration::from_secs(1),
            _ => Duration::from_secs(5),
        };
        pause.mul_f64(1.0 + rand::random::<f64>() / 4.0)
    }
}

/// A subscription.
#[derive(Debug)]
pub struct FastFeed {
    stream: TcpStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    waiting: VecDeque<Value>,
    ended: Option<FastError>,
    began: bool,
    begins: Instant,
    heartbeat: Interval,
    last_id: u32,
    ping: Option<u32>,
}

impl FastFeed {
    /// Connects to `host:port` and subscribes as `client_id`, the uuid of this node. The first event is [`FastEvent::Began`].
    ///
    /// # Errors
    /// When there is no connection; nothing stays open.
    pub async fn connect(address: &str, client_id: &str) -> Result<Self, FastError> {
        Self::connect_with(&Names::system(), address, client_id).await
    }

    /// As [`FastFeed::connect`], with names looked up so.
    ///
    /// # Errors
    /// As [`FastFeed::connect`].
    pub async fn connect_with(names: &Names, address: &str, client_id: &str) -> Result<Self, FastError> {
        let refused = |source| FastError::Connect { address: address.to_owned(), source };
        let timed_out = || refused(std::io::ErrorKind::TimedOut.into());
        let connected = async {
            let no_port = || io::Error::new(io::ErrorKind::InvalidInput, "it has no port");
            let (host, port) = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))).ok_or_else(no_port)?;
            TcpStream::connect(names.lookup(host, port).await?.as_slice()).await
        };
        let stream = tokio::time::timeout(PATIENCE, connected).await.map_err(|_| timed_out())?.map_err(refused)?;
        stream.set_nodelay(true).map_err(refused)?;
        nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::TcpUserTimeout, &UNACKNOWLEDGED)
            .map_err(|error| refused(error.into()))?;
        let mut heartbeat = tokio::time::interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut feed = Self {
            stream,
            decoder: Decoder::default(),
            buffer: vec![0; 16 << 10],
            waiting: VecDeque::new(),
            ended: None,
            began: false,
            begins: Instant::now() + PATIENCE,
            heartbeat,
            last_id: MESSAGES,
            ping: None,
        };
        feed.call(MESSAGES, "messages", json!([{"client_id": client_id, "version": 1}])).await?;
        Ok(feed)
    }

    /// The next event; asks for a sign of life meanwhile. Not to be given up while it waits, unless the feed is given up with it.
    ///
    /// # Errors
    /// The feed is of no use afterwards.
    pub async fn next(&mut self) -> Result<FastEvent, FastError> {
        loop {
            if let Some(event) = self.delivered() {
                return Ok(event);
            }
            if let Some(error) = self.ended.take() {
                return Err(error);
            }
            match self.decoder.next_frame() {
                Ok(Some(frame)) => {
                    self.take(frame)?;
                    continue;
                }
                Ok(None) => {}
                Err(error) => return Err(error.into()),
            }
            tokio::select! {
                read = self.stream.read(&mut self.buffer) => match read.map_err(FastError::Broken)? {
                    0 => return Err(FastError::Closed { midway: self.decoder.is_midway() }),
                    count => self.decoder.feed(&self.buffer[..count]),
                },
                _ = self.heartbeat.tick() => self.beat().await?,
                () = tokio::time::sleep_until(self.begins), if !self.began => return Err(FastError::Silent(PATIENCE)),
            }
        }
    }

    /// The oldest object that came and was not given out. A service that says nothing of its state still begins with something.
    fn delivered(&mut self) -> Option<FastEvent> {
        if !self.began {
            let state = self.waiting.front()?["name"] == "sync" && self.waiting.front()?.get("value").is_none();
            self.began = true;
            return Some(FastEvent::Began(if state { self.waiting.pop_front()? } else { Value::Null }));
        }
        self.waiting.pop_front().map(FastEvent::Event)
    }

    fn take(&mut self, frame: Frame) -> Result<(), FastError> {
        if self.ping == Some(frame.id) {
            // Whatever the answer is, somebody is there.
            if frame.status != Status::Data {
                self.ping = None;
            }
            return Ok(());
        }
        if frame.id != MESSAGES {
            return Err(FastError::Stray(frame.id));
        }
        match (frame.status, frame.data) {
            (Status::Error, error) => {
                let message: String = error["message"].as_str().unwrap_or_default().chars().take(200).collect();
                return Err(FastError::Refused(message));
            }
            (status, Value::Array(objects)) => {
                self.waiting.extend(objects);
                self.ended = (status == Status::End).then_some(FastError::Ended);
            }
            (_, _) => {}
        }
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), FastError> {
        if self.ping.is_some() {
            return Err(FastError::Silent(HEARTBEAT));
        }
        self.last_id = if self.last_id >= 0x7fff_ffff { MESSAGES + 1 } else { self.last_id + 1 };
        self.ping = Some(self.last_id);
        self.call(self.last_id, "ping", json!([{}])).await
    }

    async fn call(&mut self, id: u32, method: &str, arguments: Value) -> Result<(), FastError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let frame = Frame { id, status: Status::Data, method: method.to_owned(), data: arguments };
        let bytes = frame.encode(u64::try_from(now).unwrap_or(0)).map_err(|error| FastError::Broken(std::io::Error::other(error)))?;
        let sent = tokio::time::timeout(PATIENCE, self.stream.write_all(&bytes)).await;
        sent.map_err(|_| FastError::Silent(PATIENCE))?.map_err(FastError::Broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// firewaller case F10, the times
    #[test]
    fn attempts_come_at_once_then_after_a_second_then_after_five_and_never_spin() {
        let mut retry = FastRetry::default();
        let pauses: Vec<_> = (0..12).map(|_| retry.pause(Duration::ZERO).as_secs_f64()).collect();
        assert_eq!(pauses[0], 0.0);
        assert!(pauses[1..9].iter().all(|pause| (1.0..1.25).contains(pause)), "{pauses:?}");
        assert!(pauses[9..].iter().all(|pause| (5.0..6.25).contains(pause)), "{pauses:?}");
        assert_eq!(retry.pause(GOOD), Duration::ZERO, "a good subscription begins anew");
        assert!(retry.pause(Duration::from_secs(1)) > Duration::ZERO, "one that ends at once does not");
    }
}
