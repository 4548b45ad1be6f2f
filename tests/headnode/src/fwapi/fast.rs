//! FWAPI's FAST server: frames and checksums of its own, as unforgiving as upstream's. A frame that would end the real service is a
//! violation.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{shared::Shared, violations::Problem};

/// Frames that wait for a slow client; one further behind is sent away.
const BEHIND: usize = 4096;

enum Push {
    Frame(Vec<u8>),
    End,
    Close,
}

struct Client {
    connection: u64,
    call: u32,
    sender: mpsc::Sender<Push>,
}

/// Who is subscribed.
#[derive(Default)]
pub(crate) struct FastHub {
    clients: Mutex<HashMap<String, Client>>,
    connections: AtomicU64,
    subscriptions: AtomicU64,
    mute: AtomicBool,
}

impl std::fmt::Debug for FastHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FastHub").field("clients", &self.clients()).finish_non_exhaustive()
    }
}

impl FastHub {
    /// The ids of those who are subscribed.
    pub(crate) fn clients(&self) -> Vec<String> {
        Shared::lock(&self.clients).keys().cloned().collect()
    }

    /// Subscriptions so far.
    pub(crate) fn subscriptions(&self) -> u64 {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Sends an object to every subscriber.
    pub(crate) fn publish(&self, object: &Value) {
        self.push(|call| Push::Frame(frame(1, call, &json!({"m": {"uts": 1, "name": "messages"}, "d": [object]}))));
    }

    /// Sends bytes to every subscriber, frames or not.
    pub(crate) fn say(&self, bytes: &[u8]) {
        self.push(|_| Push::Frame(bytes.to_vec()));
    }

    /// Closes every connection.
    pub(crate) fn close(&self) {
        self.push(|_| Push::Close);
    }

    /// Whether pings are left without an answer.
    pub(crate) fn mute(&self, mute: bool) {
        self.mute.store(mute, Ordering::Relaxed);
    }

    fn push(&self, what: impl Fn(u32) -> Push) {
        Shared::lock(&self.clients).retain(|_, client| client.sender.try_send(what(client.call)).is_ok());
    }
}

/// The checksum, bit by bit: each UTF-16 unit's low byte is divided by x^16 + x^12 + x^5 + 1.
fn checksum(text: &str) -> u16 {
    let mut rest: u32 = 0;
    let bits = text.encode_utf16().flat_map(|unit| (0..8).rev().map(move |bit| u32::from(unit) >> bit & 1));
    for bit in bits.chain([0; 16]) {
        rest = rest << 1 | bit;
        if rest & 0x1_0000 != 0 {
            rest ^= 0x1_1021;
        }
    }
    u16::try_from(rest).unwrap_or(0)
}

fn frame(status: u8, call: u32, payload: &Value) -> Vec<u8> {
    let text = payload.to_string();
    let length = u32::try_from(text.len()).unwrap_or(0);
    let head = [&[1, 1, status][..], &call.to_be_bytes(), &u32::from(checksum(&text)).to_be_bytes(), &length.to_be_bytes()].concat();
    [head, text.into_bytes()].concat()
}

pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else { continue };
        let (shared, stop) = (Arc::clone(&shared), stop.clone());
        tokio::spawn(async move {
            let number = shared.fast.connections.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                () = talk(&shared, stream, number) => {}
                () = stop.cancelled() => {}
            }
            Shared::lock(&shared.fast.clients).retain(|_, client| client.connection != number);
        });
    }
}

/// One request: call, method, arguments.
type Request = (u32, String, Value);

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Result<Option<Request>, String> {
    let mut head = [0u8; 15];
    if stream.read_exact(&mut head).await.is_err() {
        return Ok(None);
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (call, sum, length) = (word(3), word(7), word(11));
    if head[0] != 1 || head[1] != 1 || !(1..=3).contains(&head[2]) || call >> 31 != 0 || length > 1 << 20 {
        return Err(format!("the header {head:?} ends the service"));
    }
    let mut payload = vec![0; length as usize];
    if stream.read_exact(&mut payload).await.is_err() {
        return Ok(None);
    }
    let text = String::from_utf8(payload).map_err(|_| "the payload is no text".to_owned())?;
    if sum != u32::from(checksum(&text)) {
        return Err(format!("the checksum {sum:#x} of {text} ends the service"));
    }
    let value: Value = serde_json::from_str(&text).map_err(|_| format!("{text} is no JSON"))?;
    let method = value["m"]["name"].as_str().unwrap_or_default().to_owned();
    Ok(Some((call, method, value["d"].clone())))
}

async fn talk(shared: &Arc<Shared>, stream: TcpStream, number: u64) {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, mut pushes) = mpsc::channel(BEHIND);
    let (asked, mut requests) = mpsc::channel(64);
    let reading = tokio::spawn(async move {
        loop {
            let request = read(&mut reader).await;
            let last = !matches!(request, Ok(Some(_)));
            if asked.send(request).await.is_err() || last {
                return;
            }
        }
    });
    let mut subscription = 0;
    loop {
        let bytes = tokio::select! {
            push = pushes.recv() => match push {
                Some(Push::Frame(bytes)) => bytes,
                Some(Push::End) => frame(2, subscription, &json!({"m": {"uts": 1, "name": "messages"}, "d": []})),
                Some(Push::Close) | None => break,
            },
            request = requests.recv() => match request {
                Some(Ok(Some((call, method, arguments)))) => {
                    if method == "messages" && refusal(&arguments).is_none() {
                        subscription = call;
                    }
                    answer(shared, number, &sender, call, &method, &arguments)
                }
                Some(Err(problem)) => {
                    shared.violations.add(&shared.clock.iso(), None, "fast", [Problem::new("frame", problem)]);
                    break;
                }
                _ => break,
            },
        };
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
    }
    reading.abort();
}

/// Why a subscription is refused.
fn refusal(arguments: &Value) -> Option<&'static str> {
    match arguments.as_array().map(Vec::as_slice) {
        Some([Value::Object(options)]) if options.get("client_id").is_some_and(Value::is_string) => None,
        Some([Value::Object(_)]) => Some("clients must provide their \"client_id\""),
        Some([_]) => Some("\"messages\" RPC expects an options object"),
        _ => Some("\"messages\" RPC expects one argument"),
    }
}

fn answer(shared: &Arc<Shared>, number: u64, sender: &mpsc::Sender<Push>, call: u32, method: &str, arguments: &Value) -> Vec<u8> {
    let of = |data: Value| json!({"m": {"uts": 1, "name": method}, "d": data});
    match method {
        "ping" if shared.fast.mute.load(Ordering::Relaxed) => Vec::new(),
        "ping" => frame(2, call, &of(json!([]))),
        "messages" => match refusal(arguments) {
            Some(message) => frame(3, call, &of(json!({"name": "Error", "message": message}))),
            None => {
                let id = arguments[0]["client_id"].as_str().unwrap_or_default().to_owned();
                let client = Client { connection: number, call, sender: sender.clone() };
                if let Some(older) = Shared::lock(&shared.fast.clients).insert(id, client) {
                    let _ = older.sender.try_send(Push::End);
                }
                shared.fast.subscriptions.fetch_add(1, Ordering::Relaxed);
                frame(1, call, &of(json!([{"name": "sync", "server_id": "fwapi0", "version": 1}])))
            }
        },
        _ => {
            let info = json!({"fastReason": "bad_method", "rpcMethod": method, "rpcMsgid": call});
            frame(3, call, &of(json!({"name": "FastError", "message": format!("unsupported RPC method: \"{method}\""), "info": info})))
        }
    }
}
