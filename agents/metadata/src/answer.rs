//! What one instance is, to the connections of its guest: its share of work, and the answers to its lines.

use std::{sync::Arc, time::Duration};

use tokio::sync::{Mutex, Semaphore};
use triton_mdata::{Answer, Frame, Request, get, keys, parse, put_terms, trim};
use triton_types::{InstanceUuid, JsonMap};

use crate::{Budget, Limits, Numbers, Store, bucket::Bucket, write::Write};

/// Reads of one instance that run at once: a guest with many connections does not take every thread.
const READERS: usize = 2;
/// A read ends within this, or fails; clients wait 45 s (metadata.md section 2.6).
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// The same for a write.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Told instead of what went wrong on the host (section 9).
const UNAVAILABLE: &str = "The metadata of this instance is not available now";

/// One instance, shared by its connections.
pub struct Guest {
    /// Which.
    pub uuid: InstanceUuid,
    /// Its bounds.
    pub limits: Arc<Limits>,
    /// Bytes that are kept for it.
    pub memory: Arc<Budget>,
    pub(crate) numbers: Numbers,
    store: Arc<dyn Store>,
    reads: Bucket,
    writes: Bucket,
    readers: Semaphore,
    /// Writes take turns, so that each sees what the one before it did.
    writer: Mutex<()>,
}

impl Guest {
    /// An instance that nobody has asked for anything yet.
    pub fn new(uuid: InstanceUuid, store: Arc<dyn Store>, limits: Arc<Limits>, memory: &Arc<Budget>, numbers: Numbers) -> Self {
        Self {
            uuid,
            memory: memory.inner(limits.memory),
            reads: Bucket::new(limits.reads),
            writes: Bucket::new(limits.writes),
            readers: Semaphore::new(READERS),
            writer: Mutex::default(),
            limits,
            numbers,
            store,
        }
    }

    /// Waits until this guest may make another connection.
    pub(crate) async fn admit(&self) {
        self.reads.take().await;
    }

    /// The answer to one line; `None` for a damaged frame.
    pub async fn answer(&self, line: &[u8]) -> Option<String> {
        // Every line costs: a flood of empty or damaged ones too.
        self.reads.take().await;
        let (verb, answer, request) = match parse(line) {
            Request::Invalid => return Some("invalid command\n".to_owned()),
            Request::Negotiate(true) => return Some("V2_OK\n".to_owned()),
            Request::Negotiate(false) | Request::Unknown => return Some("FAILURE\n".to_owned()),
            Request::Dropped => {
                self.numbers.dropped();
                return None;
            }
            Request::Get(key) => ("GET", self.get(&key).await, None),
            Request::Keys => ("KEYS", self.keys().await, None),
            Request::Frame(frame) => {
                let (verb, answer) = self.frame(&frame).await;
                (verb, answer, Some(frame.request))
            }
        };
        self.numbers.answered(verb, answer.word());
        tracing::debug!(vm_uuid = %self.uuid, verb, result = answer.word(), "request");
        Some(request.map_or_else(|| answer.version_1(), |request| answer.version_2(&request)))
    }

    async fn frame(&self, frame: &Frame) -> (&'static str, Answer) {
        let text = frame.text();
        let key = trim(&text);
        match frame.code.as_str() {
            "GET" if key.is_empty() => ("GET", Answer::failure("Invalid GET Request")),
            "GET" => ("GET", self.get(key).await),
            "KEYS" => ("KEYS", self.keys().await),
            "PUT" => match put_terms(frame) {
                Ok((key, value)) => ("PUT", self.write(Write::put(key, value)).await),
                Err(_) => ("PUT", Answer::failure("Invalid PUT Request")),
            },
            "DELETE" if key.is_empty() => ("DELETE", Answer::failure("Invalid DELETE Request")),
            "DELETE" => ("DELETE", self.write(Write::delete(key.to_owned())).await),
            other => ("other", Answer::failure(format!("Unknown command {other}"))),
        }
    }

    async fn get(&self, key: &str) -> Answer {
        let compatibility = self.limits.compatibility();
        let key = key.to_owned();
        self.read(move |vm| get(vm, &key, compatibility)).await
    }

    async fn keys(&self) -> Answer {
        self.read(keys).await
    }

    async fn read(&self, look: impl FnOnce(&JsonMap) -> Answer + Send + 'static) -> Answer {
        let Ok(_turn) = self.readers.acquire().await else { return Answer::failure(UNAVAILABLE) };
        let (store, uuid) = (self.store.clone(), self.uuid);
        self.blocking(READ_DEADLINE, move || store.view(uuid).map(|vm| look(&vm))).await
    }

    async fn write(&self, write: Write) -> Answer {
        self.writes.take().await;
        let _turn = self.writer.lock().await;
        let (store, uuid, limits) = (self.store.clone(), self.uuid, self.limits.clone());
        self.blocking(WRITE_DEADLINE, move || write.run(uuid, store.as_ref(), &limits)).await
    }

    /// Makes a call that blocks. What goes wrong on the host is for its log; the guest is told that it did.
    async fn blocking(&self, deadline: Duration, call: impl FnOnce() -> Result<Answer, String> + Send + 'static) -> Answer {
        let failure = match tokio::time::timeout(deadline, tokio::task::spawn_blocking(call)).await {
            Ok(Ok(Ok(answer))) => return answer,
            Ok(Ok(Err(error))) => error,
            Ok(Err(_)) => "the request's handler ended early".to_owned(),
            Err(_) => format!("it took longer than {} s", deadline.as_secs()),
        };
        tracing::warn!(vm_uuid = %self.uuid, error = %failure, "a request cannot be served");
        Answer::failure(UNAVAILABLE)
    }
}
