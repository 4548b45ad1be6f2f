//! What one instance is, to the connections of its guest: its share of work, and the answers to its lines.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use tokio::sync::{Mutex, Semaphore};
use triton_mdata::{Answer, Frame, Request, get, keys, parse, put_terms, trim};
use triton_types::{InstanceUuid, JsonMap};

use crate::{Budget, Limits, Numbers, Shared, Store, bucket::Bucket, write::Write};

/// Reads of one instance that run at once, however many connections its guest has.
const READERS: usize = 1;
/// A read ends within this, or fails; clients wait 45 s (metadata.md section 2.6).
const READ_DEADLINE: Duration = Duration::from_secs(5);
/// The same for a write.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);
/// Time of a processor that a request may take before it is paid for: some times that of an instance with a usual document.
const FREE_WORK: Duration = Duration::from_millis(1);
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
    bytes: Bucket,
    work: Bucket,
    readers: Semaphore,
    /// Of all instances.
    readers_of_all: Arc<Semaphore>,
    /// Writes take turns, so that each sees what the one before it did.
    writer: Mutex<()>,
}

impl Guest {
    /// An instance that nobody has asked for anything yet.
    pub fn new(uuid: InstanceUuid, store: Arc<dyn Store>, limits: Arc<Limits>, shared: &Shared, numbers: Numbers) -> Self {
        Self {
            uuid,
            memory: shared.memory.inner(limits.memory),
            readers_of_all: shared.readers.clone(),
            reads: Bucket::new(limits.reads),
            writes: Bucket::new(limits.writes),
            bytes: Bucket::new(limits.bytes),
            work: Bucket::new(limits.work),
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

    /// Waits until this guest may have so many bytes more of long lines and answers.
    pub(crate) async fn pay(&self, bytes: usize) {
        if bytes > 0 {
            self.bytes.spend(bytes as f64).await;
        }
    }

    /// The answer to one line; `None` for a damaged frame.
    pub async fn answer(&self, line: &[u8]) -> Option<String> {
        // Every line costs: a flood of empty or damaged ones too.
        self.reads.take().await;
        let begun = Instant::now();
        let (verb, key, answer, request) = match parse(line) {
            Request::Invalid => return Some("invalid command\n".to_owned()),
            Request::Negotiate(true) => return Some("V2_OK\n".to_owned()),
            Request::Negotiate(false) | Request::Unknown => return Some("FAILURE\n".to_owned()),
            Request::Dropped => {
                self.numbers.dropped();
                return None;
            }
            Request::Get(key) => ("GET", key.clone(), self.get(&key).await, None),
            Request::Keys => ("KEYS", String::new(), self.keys().await, None),
            Request::Frame(frame) => {
                let (verb, key, answer) = self.frame(&frame).await;
                (verb, key, answer, Some(frame.request))
            }
        };
        self.numbers.answered(verb, answer.word());
        let is_large = matches!(&answer, Answer::Value(value) if value.len() > LARGE);
        let (version, elapsed_ms) = (if request.is_some() { 2 } else { 1 }, begun.elapsed().as_millis());
        tracing::debug!(vm_uuid = %self.uuid, verb, key = %shown(&key), version, elapsed_ms, result = answer.word(), "request");
        let rendered = move || request.map_or_else(|| answer.version_1(), |request| answer.version_2(&request));
        if !is_large {
            return Some(rendered());
        }
        // Milliseconds of a processor, in which others would not be answered.
        let measured = move || {
            let begun = processor_time();
            let text = rendered();
            (text, processor_time().saturating_sub(begun))
        };
        let (text, took) = tokio::task::spawn_blocking(measured).await.ok()?;
        self.pay_work(took).await;
        Some(text)
    }

    /// Waits until this guest may have had so much of a processor. What most requests take is free: they are counted already.
    async fn pay_work(&self, took: Duration) {
        let beyond = took.saturating_sub(FREE_WORK);
        if !beyond.is_zero() {
            self.work.spend(beyond.as_secs_f64()).await;
        }
    }

    /// The verb, the key that it is about, and the answer.
    async fn frame(&self, frame: &Frame) -> (&'static str, String, Answer) {
        let text = frame.text();
        let key = trim(&text).to_owned();
        match frame.code.as_str() {
            "GET" if key.is_empty() => ("GET", key, Answer::failure("Invalid GET Request")),
            "GET" => ("GET", key.clone(), self.get(&key).await),
            "KEYS" => ("KEYS", String::new(), self.keys().await),
            "PUT" => match put_terms(frame) {
                Ok((key, value)) => ("PUT", key.clone(), self.write(Write::put(key, value)).await),
                Err(_) => ("PUT", String::new(), Answer::failure("Invalid PUT Request")),
            },
            "DELETE" if key.is_empty() => ("DELETE", key, Answer::failure("Invalid DELETE Request")),
            "DELETE" => ("DELETE", key.clone(), self.write(Write::delete(key)).await),
            other => ("other", String::new(), Answer::failure(format!("Unknown command {other}"))),
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

    /// What `look` makes of the VM object, for one more request of this guest.
    pub(crate) async fn page<T: Send + 'static>(&self, look: impl FnOnce(&JsonMap) -> T + Send + 'static) -> Result<T, ()> {
        self.reads.take().await;
        let (store, uuid) = (self.store.clone(), self.uuid);
        self.call(true, move || store.view(uuid).map(|vm| look(&vm))).await
    }

    async fn read(&self, look: impl FnOnce(&JsonMap) -> Answer + Send + 'static) -> Answer {
        let (store, uuid) = (self.store.clone(), self.uuid);
        self.blocking(true, move || store.view(uuid).map(|vm| look(&vm))).await
    }

    async fn write(&self, write: Write) -> Answer {
        self.writes.take().await;
        let (store, uuid, limits) = (self.store.clone(), self.uuid, self.limits.clone());
        self.blocking(false, move || write.run(uuid, store.as_ref(), &limits)).await
    }

    /// Makes a call that blocks. What goes wrong on the host is for its log; the guest is told that it did.
    async fn blocking(&self, reading: bool, call: impl FnOnce() -> Result<Answer, String> + Send + 'static) -> Answer {
        self.call(reading, call).await.unwrap_or_else(|()| Answer::failure(UNAVAILABLE))
    }

    async fn call<T: Send + 'static>(&self, reading: bool, call: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, ()> {
        let deadline = if reading { READ_DEADLINE } else { WRITE_DEADLINE };
        let made = async {
            // Also the wait for a turn has its end in time: clients of the guest count the seconds.
            let (reader, writer, place) = match reading {
                true => (self.readers.acquire().await.ok(), None, self.readers_of_all.clone().acquire_owned().await.ok()),
                false => (None, Some(self.writer.lock().await), None),
            };
            let measured = move || {
                // Kept until the call is over, also when nobody waits for it any more.
                let _place = place;
                let begun = processor_time();
                let done = call();
                (done, processor_time().saturating_sub(begun))
            };
            let made = tokio::task::spawn_blocking(measured).await;
            drop((reader, writer));
            made
        };
        let failure = match tokio::time::timeout(deadline, made).await {
            Ok(Ok((done, took))) => {
                // Large documents cost much to read, however little of them is asked for.
                self.pay_work(took).await;
                match done {
                    Ok(done) => return Ok(done),
                    Err(error) => error,
                }
            }
            Ok(Err(_)) => "the request's handler ended early".to_owned(),
            Err(_) => format!("it took longer than {} s", deadline.as_secs()),
        };
        tracing::warn!(vm_uuid = %self.uuid, error = %failure, "a request cannot be served");
        Err(())
    }
}

/// Values of more bytes are put into their frame beside the other requests.
const LARGE: usize = 64 << 10;

/// What this thread had of a processor so far.
fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Characters of a key that logs show.
const SHOWN: usize = 64;

/// A key for the log: it is a guest's text, so neither long nor able to end a line or to speak to a terminal.
fn shown(key: &str) -> String {
    key.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    /// metadata attack case 24
    #[test]
    fn a_key_in_a_log_is_one_short_plain_word() {
        let key = format!("a\nb\r\u{1b}]0;x\u{7}\"\u{202e}{}", "k".repeat(1 << 20));
        let shown = super::shown(&key);
        assert!(shown.starts_with(r#"a\nb\r\u{1b}]0;x\u{7}\"\u{202e}k"#), "{shown}");
        assert!(shown.len() < 64 * 10 && !shown.chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
}
