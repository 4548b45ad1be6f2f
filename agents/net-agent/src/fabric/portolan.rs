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
    buffer: Vec<u8>,
}

impl Portolan {
    pub(crate) fn new(host: String, port: u16, pause: Duration) -> Self {
        let pauses = Backoff::new(pause, 2.0, pause * 60, 0.3);
        Self { host: (host, port), state: State::Waiting(Instant::now()), pauses, buffer: vec![0; 4096] }
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

    /// Gives the connection up, if there is one.
    pub(crate) fn lose(&mut self, reason: String) -> Event {
        self.state = State::Waiting(Instant::now() + self.pauses.next_delay());
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
