//! The two ends of a migration (cn-agent.md section 3.12): lines of JSON, and the instance itself.
//!
//! A request is `{"command":"sync"|"ping"|"stop","eventId":n}`, its answer `{"type":"response","command":...,"eventId":n}` or
//! `{"type":"error",...,"message":text}`. The source's `sync` names host and port of the target's end; there, what follows the answer to
//! `sync` is the stream, up to the sender's end, and the last line is `{"type":"sync-success"}` or an error.
//!
//! There are two streams, and the target takes one of them: [`DATASETS`] of the datasets of ZFS, for which the source's `sync` says
//! what it has (`offer`) and the target answers what is there of it (`have`); and [`FILES`], of all files, which every node takes.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;
use triton_types::InstanceUuid;

use super::{Model, migrate::check_stopped};

/// The format of a stream of files.
const FILES: &str = "triton-linux-instance";
/// The format of a stream of datasets, or of their changes.
const DATASETS: &str = "triton-linux-datasets";

/// How long an end waits for the next line or byte.
const IDLE: Duration = Duration::from_secs(300);
/// How long a target is called.
const CALL: Duration = Duration::from_secs(10);
/// Longest line: what a target has names each snapshot of the copy.
const LONGEST: u64 = 1 << 20;
/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// Runs an end until it ends or is ended; its error is for the log.
pub(super) async fn until(token: CancellationToken, end: impl Future<Output = io::Result<()>>) {
    tokio::select! {
        () = token.cancelled() => tracing::info!("a migration was ended"),
        result = end => {
            if let Err(error) = result {
                tracing::warn!(%error, "a migration broke off");
            }
            token.cancel();
        }
    }
}

type Stream = BufReader<TcpStream>;

/// The next line; `None` at the end.
async fn line(stream: &mut Stream) -> io::Result<Option<Value>> {
    let mut text = Vec::new();
    let mut bounded = stream.take(LONGEST);
    let read = bounded.read_until(b'\n', &mut text);
    let count = tokio::time::timeout(IDLE, read).await.map_err(|_| io::Error::other("nothing was said for too long"))??;
    if count == 0 {
        return Ok(None);
    }
    serde_json::from_slice(&text).map(Some).map_err(|error| io::Error::other(format!("what was said is no line of JSON: {error}")))
}

async fn say(stream: &mut Stream, event: &Value) -> io::Result<()> {
    stream.write_all(format!("{event}\n").as_bytes()).await
}

fn answer(request: &Value, result: &Result<(), String>) -> Value {
    let (command, id) = (&request["command"], &request["eventId"]);
    match result {
        Ok(()) => json!({"type": "response", "command": command, "eventId": id}),
        Err(message) => json!({"type": "error", "command": command, "eventId": id, "message": message}),
    }
}

/// The source's end: does as VMAPI says.
pub(super) async fn source(model: Model, uuid: InstanceUuid, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some(request) = line(&mut stream).await? {
        let result = match request["command"].as_str() {
            Some("ping") => Ok(()),
            Some("stop") => return say(&mut stream, &answer(&request, &Ok(()))).await,
            Some("sync") => send(&model, uuid, &request, &mut stream).await,
            other => Err(format!("unexpected command: {}", other.unwrap_or_default())),
        };
        say(&mut stream, &answer(&request, &result)).await?;
    }
    Ok(())
}

/// Counts what goes through.
struct Counted<W> {
    inner: W,
    count: Arc<AtomicU64>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Sends the instance to the target that the request names, and tells how far it is.
async fn send(model: &Model, uuid: InstanceUuid, request: &Value, told: &mut Stream) -> Result<(), String> {
    let host = request["host"].as_str().ok_or("host is missing")?.to_owned();
    let port = request["port"].as_u64().and_then(|port| u16::try_from(port).ok()).ok_or("port is no port")?;
    let (own, count) = (model.clone(), Arc::new(AtomicU64::new(0)));
    let total = tokio::task::spawn_blocking(move || {
        let vm = own.machines.load(uuid, true).map_err(|error| error.message)?;
        check_stopped(&vm)?;
        own.machines.used(uuid).map_err(|error| error.message)
    });
    let total = total.await.map_err(|error| error.to_string())??;
    let words = |error: io::Error| format!("the target {host}:{port}: {error}");
    let call = tokio::time::timeout(CALL, TcpStream::connect((host.as_str(), port))).await;
    let mut target = BufReader::new(call.map_err(|_| format!("the target {host}:{port} does not answer"))?.map_err(words)?);
    let have = agree(model, uuid, &mut target).await.map_err(|error| format!("the target {host}:{port}: {error}"))?;
    let stream = blocking(target.into_inner()).map_err(words)?;
    let (own, counter, ours) = (model.clone(), count.clone(), stream.try_clone().map_err(words)?);
    // A mutating call: it counts among the changes, and holds the instance's lock as long as it goes on.
    let permit = model.changes.clone().acquire_owned().await.map_err(|error| error.to_string())?;
    let mut sending = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut out = Counted { inner: ours, count: counter };
        let sent = match &have {
            Some(have) => own.machines.send_changes(uuid, have, &mut out),
            None => own.machines.send(uuid, &mut out),
        };
        let sent = sent.map_err(|error| error.message);
        // Also of what broke off the target is to see an end: it has a checksum to tell one from the other.
        let _ = out.inner.shutdown(Shutdown::Write);
        sent
    });
    let ends = Ends(stream.try_clone().map_err(words)?);
    let mut clock = tokio::time::interval(TELL);
    let mut last = 0;
    let result = loop {
        tokio::select! {
            sent = &mut sending => break sent.map_err(|error| error.to_string())?,
            _ = clock.tick() => {
                let now = count.load(Ordering::Relaxed);
                let event = progress(now, total.max(now), now - last);
                last = now;
                if say(told, &event).await.is_err() {
                    // Nobody waits for it any more; the thread sees the end of the connection.
                    return Err("the caller is gone".to_owned());
                }
            }
        }
    };
    result?;
    stream.set_nonblocking(true).map_err(words)?;
    let mut target = BufReader::new(TcpStream::from_std(stream).map_err(words)?);
    let result = expect(&mut target, "sync-success").await.map_err(|error| format!("the target {host}:{port}: {error}"));
    drop(ends);
    if result.is_ok() {
        forget_marks(model, uuid).await;
        let moved = count.load(Ordering::Relaxed);
        // All that was moved is all there was to move, whatever was thought before. Whoever no longer reads misses nothing but this.
        let _ = say(told, &progress(moved, moved, moved - last)).await;
    }
    result
}

/// How far a synchronisation is, in bytes.
fn progress(now: u64, total: u64, of_last_second: u64) -> Value {
    json!({"type": "progress", "phase": "sync", "state": "running", "message": "syncing data", "current_progress": now,
        "total_progress": total, "transfer_bytes_second": of_last_second})
}

/// Agrees with the target on a stream: what the target has, for one of datasets; none for one of files.
async fn agree(model: &Model, uuid: InstanceUuid, target: &mut Stream) -> Result<Option<Value>, String> {
    let own = model.clone();
    let offer = tokio::task::spawn_blocking(move || own.machines.offer(uuid)).await.map_err(|error| error.to_string())?;
    let words = |error: io::Error| error.to_string();
    if let Some(offer) = offer.map_err(|error| error.message)? {
        let request = json!({"type": "request", "command": "sync", "eventId": 1, "format": DATASETS, "offer": offer});
        say(target, &request).await.map_err(words)?;
        let mut answer = line(target).await.map_err(words)?.ok_or("it ended without an answer")?;
        if answer["type"] == "response" && answer["have"].is_object() {
            return Ok(Some(answer["have"].take()));
        }
        tracing::info!(vm_uuid = %uuid, answer = %answer["message"], "the target takes no streams of ZFS");
    }
    say(target, &json!({"type": "request", "command": "sync", "eventId": 1, "format": FILES})).await.map_err(words)?;
    expect(target, "response").await.map(|()| None)
}

/// Removes the marks that no later synchronisation needs. One that stays costs space until the migration's own cleanup.
async fn forget_marks(model: &Model, uuid: InstanceUuid) {
    let own = model.clone();
    let removed = tokio::task::spawn_blocking(move || own.machines.forget_marks(uuid, 1)).await;
    if !matches!(removed, Ok(Ok(()))) {
        tracing::warn!(vm_uuid = %uuid, ?removed, "old snapshots of a migration stay");
    }
}

/// Waits for a line of this type.
async fn expect(stream: &mut Stream, kind: &str) -> Result<(), String> {
    let line = line(stream).await.map_err(|error| error.to_string())?.ok_or_else(|| format!("it ended without {kind:?}"))?;
    match line["type"].as_str() {
        Some(found) if found == kind => Ok(()),
        _ => Err(line["message"].as_str().map_or_else(|| format!("it said {line} in place of {kind:?}"), str::to_owned)),
    }
}

/// The stream for calls that block, with deadlines.
fn blocking(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    Ok(stream)
}

/// The target's end: takes the instance of a source.
pub(super) async fn target(model: Model, uuid: InstanceUuid, stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let Some(request) = line(&mut stream).await? else { return Ok(()) };
        match request["command"].as_str() {
            Some("ping") => say(&mut stream, &answer(&request, &Ok(()))).await?,
            Some("stop") => return say(&mut stream, &answer(&request, &Ok(()))).await,
            Some("sync") if request["format"] == FILES => {
                say(&mut stream, &answer(&request, &Ok(()))).await?;
                return take(&model, uuid, stream, false).await;
            }
            Some("sync") if request["format"] == DATASETS => {
                let (own, offer) = (model.clone(), request["offer"].clone());
                let have = tokio::task::spawn_blocking(move || own.machines.have(uuid, &offer)).await.map_err(io::Error::other)?;
                let mut reply = match &have {
                    Ok(Some(_)) => answer(&request, &Ok(())),
                    Ok(None) => answer(&request, &Err("this compute node has no ZFS".to_owned())),
                    Err(error) => answer(&request, &Err(error.message.clone())),
                };
                let agreed = if let Ok(Some(have)) = have {
                    reply["have"] = have;
                    true
                } else {
                    false
                };
                say(&mut stream, &reply).await?;
                if agreed {
                    return take(&model, uuid, stream, true).await;
                }
            }
            Some("sync") => {
                let error = "this compute node takes the streams of Linux compute nodes only, not those of ZFS";
                say(&mut stream, &answer(&request, &Err(error.to_owned()))).await?;
            }
            other => say(&mut stream, &answer(&request, &Err(format!("unexpected command: {}", other.unwrap_or_default())))).await?,
        }
    }
}

async fn take(model: &Model, uuid: InstanceUuid, stream: Stream, changes: bool) -> io::Result<()> {
    if !stream.buffer().is_empty() {
        return Err(io::Error::other("the stream began before it was asked for"));
    }
    let stream = blocking(stream.into_inner())?;
    let own = model.clone();
    let permit = model.changes.clone().acquire_owned().await.map_err(io::Error::other)?;
    let ended = Ends(stream.try_clone()?);
    let taken = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        let mut from: &std::net::TcpStream = &stream;
        let from_dyn = &mut from as &mut dyn Read;
        let result = if changes { own.machines.receive_changes(uuid, from_dyn) } else { own.machines.receive(uuid, from_dyn) };
        let event = match result {
            Ok(()) => json!({"type": "sync-success"}),
            Err(error) => json!({"type": "error", "command": "sync", "message": error.message}),
        };
        (&stream).write_all(format!("{event}\n").as_bytes())?;
        // What the sender has sent beyond it is read, so that it hears the answer before its connection breaks.
        let _ = io::copy(&mut from, &mut io::sink());
        Ok::<(), io::Error>(())
    });
    let result = taken.await.map_err(io::Error::other)?;
    drop(ended);
    result
}

/// Ends the connection when dropped, so that a thread that reads from it ends when the migration is given up.
struct Ends(std::net::TcpStream);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
