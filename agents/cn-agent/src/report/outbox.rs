//! Messages to CNAPI, one after the other. Each kind waits at most once: a newer status takes the place of an older one.
//!
//! A sysinfo that was not taken is tried again after a growing pause, collected anew each time, for ever; what else is waiting goes in
//! between. Nothing but sysinfo is put here before the first registration (section 6).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::StatusCode;
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tracing::{debug, info, warn};
use triton_agent::{Backoff, chain};
use triton_headnode::HttpError;
use triton_types::{JsonMap, Packed};

use super::{Intervals, Wire};
use crate::tasks::SysinfoSource;

/// How far the registration is; only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The first sysinfo was taken, or CNAPI does not know sysinfo.
    pub registered: bool,
    /// The first agents list was sent, taken or not.
    pub agents_sent: bool,
}

#[derive(Debug)]
enum Message {
    Sysinfo,
    Agents,
    Status(Packed),
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Message>,
    /// A sysinfo that waits for its pause to end.
    retry: Option<Instant>,
    posted: Option<JsonMap>,
}

/// The messages that wait.
#[derive(Debug)]
pub struct Outbox {
    inner: Mutex<Inner>,
    filled: Notify,
    progress: watch::Sender<Progress>,
}

impl Default for Outbox {
    fn default() -> Self {
        Self { inner: Mutex::default(), filled: Notify::new(), progress: watch::Sender::new(Progress::default()) }
    }
}

/// Gives the agents list.
type AgentsSource = Arc<dyn Fn() -> Vec<Value> + Send + Sync>;

impl Outbox {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a registration.
    pub fn sysinfo(&self) {
        let mut inner = self.inner();
        if inner.retry.is_none() && !inner.queue.iter().any(|message| matches!(message, Message::Sysinfo)) {
            inner.queue.push_back(Message::Sysinfo);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Asks for the agents list to be sent.
    pub fn agents(&self) {
        let mut inner = self.inner();
        if !inner.queue.iter().any(|message| matches!(message, Message::Agents)) {
            inner.queue.push_back(Message::Agents);
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// Gives a status to be sent.
    pub fn status(&self, status: Packed) {
        let mut inner = self.inner();
        match inner.queue.iter_mut().find(|message| matches!(message, Message::Status(_))) {
            Some(message) => *message = Message::Status(status),
            None => inner.queue.push_back(Message::Status(status)),
        }
        drop(inner);
        self.filled.notify_one();
    }

    /// How far the registration is.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// The sysinfo that CNAPI took last.
    pub fn posted(&self) -> Option<JsonMap> {
        self.inner().posted.clone()
    }

    /// The next message that may be sent, or when to look again.
    fn next(&self, now: Instant) -> Result<Message, Option<Instant>> {
        let mut inner = self.inner();
        match inner.retry {
            Some(at) if at <= now => {
                inner.retry = None;
                Ok(Message::Sysinfo)
            }
            retry => inner.queue.pop_front().ok_or(retry),
        }
    }

    /// Sends what is put into the outbox, for ever.
    pub async fn run(self: Arc<Self>, wire: Arc<Wire>, sysinfo: SysinfoSource, agents: AgentsSource, intervals: Intervals) {
        let fresh = || Backoff::new(intervals.retry_initial, 1.6, intervals.retry_cap, 0.2);
        let mut backoff = fresh();
        loop {
            match self.next(Instant::now()) {
                Ok(Message::Sysinfo) => {
                    if self.register(&wire, &sysinfo).await {
                        backoff = fresh();
                    } else {
                        let pause = backoff.next_delay();
                        debug!(pause_ms = pause.as_millis(), "the registration is tried again");
                        self.inner().retry = Some(Instant::now() + pause);
                    }
                }
                Ok(Message::Agents) => {
                    let source = agents.clone();
                    let list = tokio::task::spawn_blocking(move || source()).await.unwrap_or_default();
                    log(wire.send("agents", |cnapi| async move { cnapi.post_agents(&list).await }).await, "agents");
                    self.progress.send_modify(|progress| progress.agents_sent = true);
                }
                Ok(Message::Status(status)) => {
                    log(wire.send("status", |cnapi| async move { cnapi.post_status(&status).await }).await, "status");
                }
                // Both arms may be dropped at any time: a notification that nobody waited for is kept.
                Err(Some(at)) => tokio::select! {
                    () = self.filled.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
                Err(None) => self.filled.notified().await,
            }
        }
    }

    /// Collects and posts sysinfo; false if it is to be tried again.
    async fn register(&self, wire: &Wire, source: &SysinfoSource) -> bool {
        let source = source.clone();
        let sysinfo = match tokio::task::spawn_blocking(move || source()).await {
            Ok(Ok(sysinfo)) => sysinfo,
            Ok(Err(error)) => {
                warn!(error, "sysinfo could not be collected");
                return false;
            }
            Err(error) => {
                warn!(%error, "sysinfo could not be collected");
                return false;
            }
        };
        let document = sysinfo.clone();
        match wire.send("sysinfo", |cnapi| async move { cnapi.post_sysinfo(&document).await }).await {
            Ok(()) => info!("CNAPI took sysinfo"),
            Err(error) if is_unknown_request(&error) => warn!(error = %chain(&error), "this CNAPI does not take sysinfo"),
            Err(error) => {
                warn!(error = %chain(&error), "CNAPI did not take sysinfo");
                return false;
            }
        }
        self.inner().posted = Some(sysinfo);
        self.progress.send_modify(|progress| progress.registered = true);
        true
    }
}

/// A CNAPI that is too old for sysinfo answers so. Any other 404 (of a proxy, say) is temporary.
fn is_unknown_request(error: &HttpError) -> bool {
    error.status() == Some(StatusCode::NOT_FOUND) && error.rest_code() == Some("ResourceNotFound")
}

fn log(result: Result<(), HttpError>, message: &'static str) {
    match result {
        Ok(()) => debug!(message, "CNAPI took a message"),
        Err(error) => warn!(message, error = %chain(&error), "CNAPI did not take a message"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_waits_once_and_the_newest_status_wins() {
        let outbox = Outbox::default();
        outbox.status(Packed::of(&json!({"n": 1})).unwrap());
        for _ in 0..3 {
            outbox.sysinfo();
            outbox.agents();
        }
        outbox.status(Packed::of(&json!({"n": 2})).unwrap());
        let now = Instant::now();
        assert!(matches!(outbox.next(now), Ok(Message::Status(status)) if status == Packed::of(&json!({"n": 2})).unwrap()));
        assert!(matches!(outbox.next(now), Ok(Message::Sysinfo)));
        assert!(matches!(outbox.next(now), Ok(Message::Agents)));
        assert!(matches!(outbox.next(now), Err(None)));
    }

    #[test]
    fn a_registration_that_pauses_lets_others_pass_and_is_not_doubled() {
        let outbox = Outbox::default();
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(60);
        outbox.inner().retry = Some(later);
        outbox.sysinfo();
        outbox.agents();
        assert!(matches!(outbox.next(now), Ok(Message::Agents)));
        assert!(matches!(outbox.next(now), Err(Some(at)) if at == later));
        assert!(matches!(outbox.next(later), Ok(Message::Sysinfo)));
        assert!(matches!(outbox.next(later), Err(None)));
    }
}
