//! The connection to portolan.

use std::{
    future::Future,
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use triton_agent::Backoff;
use triton_svp::{Decoder, Message, encode};

/// How long a connection may take to be made, and bytes to be taken.
const PATIENCE: Duration = Duration::from_secs(10);
/// First pauses after which it is tried again at the latest while somebody waits for it.
const WANTED: u32 = 5;
/// First pauses after which it is tried again at the latest in any case.
const LONGEST: u32 = 60;

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

enum State {
    Waiting(Instant),
    Connecting(Attempt),
    Connected { stream: TcpStream, decoder: Decoder },
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// It can be asked.
    Connected,
    /// It cannot, or not any more, and why.
    Lost(String),
    /// It says these things.
    Says(Vec<Message>),
}

/// A connection that is made anew whenever it is lost, after growing pauses.
pub(crate) struct Portolan {
    host: (String, u16),
    state: State,
    pauses: Backoff,
    /// The longest pause after the last attempt for one that somebody waits for.
    wanted: Duration,
    lost: Instant,
    buffer: Vec<u8>,
}

impl Portolan {
    pub(crate) fn new(host: String, port: u16, pause: Duration) -> Self {
        let pauses = Backoff::new(pause, 2.0, pause * LONGEST, 0.3);
        let now = Instant::now();
        Self { host: (host, port), state: State::Waiting(now), pauses, wanted: pause * WANTED, lost: now, buffer: vec![0; 4096] }
    }

    /// The next event. May be given up while it waits; nothing is lost then.
    pub(crate) async fn next(&mut self) -> Event {
        loop {
            match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until((*until).into()).await;
                    let host = self.host.clone();
                    let attempt = async move {
                        match tokio::time::timeout(PATIENCE, TcpStream::connect(host)).await {
                            Ok(result) => result,
                            Err(_) => Err(io::ErrorKind::TimedOut.into()),
                        }
                    };
                    self.state = State::Connecting(Box::pin(attempt));
                }
                State::Connecting(attempt) => match attempt.await {
                    Ok(stream) => {
                        let _ = stream.set_nodelay(true);
                        self.state = State::Connected { stream, decoder: Decoder::default() };
                        return Event::Connected;
                    }
                    Err(error) => return self.lose(format!("could not connect: {error}")),
                },
                State::Connected { stream, decoder } => {
                    let reason = match stream.read(&mut self.buffer).await {
                        Ok(0) => "it closed the connection".to_owned(),
                        Ok(length) => {
                            decoder.push(&self.buffer[..length]);
                            match all(decoder) {
                                Ok(messages) if messages.is_empty() => continue,
                                Ok(messages) => return Event::Says(messages),
                                Err(error) => error.to_string(),
                            }
                        }
                        Err(error) => error.to_string(),
                    };
                    return self.lose(reason);
                }
            }
        }
    }

    /// It answered: the next pause is a short one again.
    pub(crate) fn is_well(&mut self) {
        self.pauses.reset();
    }

    /// Somebody waits for an answer: if there is no connection, the next attempt comes soon. To be called however often.
    pub(crate) fn wanted(&mut self) {
        if let State::Waiting(until) = &mut self.state {
            *until = (*until).min(self.lost + self.wanted);
        }
    }

    /// Gives the connection up, if there is one.
    pub(crate) fn lose(&mut self, reason: String) -> Event {
        self.lost = Instant::now();
        self.state = State::Waiting(self.lost + self.pauses.next_delay());
        Event::Lost(reason)
    }

    /// Sends a message; one for which there is no connection is dropped.
    ///
    /// # Errors
    /// Why the connection is of no use.
    pub(crate) async fn send(&mut self, message: &Message) -> Result<(), String> {
        let State::Connected { stream, .. } = &mut self.state else { return Ok(()) };
        let bytes = encode(message).map_err(|error| error.to_string())?;
        match tokio::time::timeout(PATIENCE, stream.write_all(&bytes)).await {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("it takes no requests".to_owned()),
        }
    }
}

fn all(decoder: &mut Decoder) -> Result<Vec<Message>, triton_svp::SvpError> {
    let mut messages = Vec::new();
    while let Some(message) = decoder.next_message()? {
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(portolan: &Portolan) -> Duration {
        let State::Waiting(until) = portolan.state else { panic!("it does not wait") };
        until - portolan.lost
    }

    #[test]
    fn pauses_grow_unless_somebody_waits_for_an_answer() {
        let mut portolan = Portolan::new("portolan".to_owned(), 1296, Duration::from_secs(1));
        for attempt in 1..=20 {
            portolan.lose("down".to_owned());
            let alone = waits(&portolan);
            for _ in 0..3 {
                portolan.wanted();
                assert_eq!(waits(&portolan), alone.min(Duration::from_secs(5)), "attempt {attempt}");
            }
            assert!(attempt < 12 || alone > Duration::from_secs(30), "attempt {attempt}: {alone:?}");
        }
        portolan.is_well();
        portolan.lose("down".to_owned());
        assert!(waits(&portolan) < Duration::from_secs(2));
    }
}
