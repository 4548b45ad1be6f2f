//! A CNAPI (and a firewaller) that records what it is sent and answers as told.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Bytes, extract::Request, response::IntoResponse};
use http::StatusCode;
use serde_json::Value;

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub at: Instant,
    pub method: String,
    pub path: String,
    pub user_agent: String,
    pub request_id: String,
    pub content_type: String,
    pub text: String,
    pub body: Value,
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: &'static str,
    pub after: Duration,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Self { status, body: "", after: Duration::ZERO }
    }
}

type Script = Arc<Mutex<Vec<(&'static str, VecDeque<Answer>)>>>;

/// The server. Ends with the test's runtime.
#[derive(Clone)]
pub struct Recorder {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
    most_at_once: Arc<AtomicUsize>,
}

impl Recorder {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let recorder =
            Self { address: listener.local_addr().unwrap(), seen: Arc::default(), script: Arc::default(), most_at_once: Arc::default() };
        let (me, at_once) = (recorder.clone(), Arc::new(AtomicUsize::new(0)));
        let router = Router::new().fallback(move |request: Request| {
            let (me, at_once) = (me.clone(), at_once.clone());
            async move {
                let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
                me.most_at_once.fetch_max(now, Ordering::SeqCst);
                let reply = me.answer(request).await;
                at_once.fetch_sub(1, Ordering::SeqCst);
                reply
            }
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        recorder
    }

    /// The next requests whose path ends with `suffix` get these answers; later ones 204.
    pub fn answer_with(&self, suffix: &'static str, answers: impl IntoIterator<Item = Answer>) {
        self.script.lock().unwrap().push((suffix, answers.into_iter().collect()));
    }

    async fn answer(&self, request: Request) -> axum::response::Response {
        let (head, body) = request.into_parts();
        let bytes: Bytes = axum::body::to_bytes(body, 64 << 20).await.unwrap();
        let header = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        let path = head.uri.path().to_owned();
        self.seen.lock().unwrap().push(Seen {
            at: Instant::now(),
            method: head.method.to_string(),
            path: path.clone(),
            user_agent: header("user-agent"),
            request_id: header("x-request-id"),
            content_type: header("content-type"),
            text: String::from_utf8_lossy(&bytes).into_owned(),
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        });
        let answer = {
            let mut script = self.script.lock().unwrap();
            let next = script
                .iter_mut()
                .filter(|(suffix, answers)| path.ends_with(suffix) && !answers.is_empty())
                .find_map(|(_, a)| a.pop_front());
            next.unwrap_or_else(|| Answer::status(204))
        };
        tokio::time::sleep(answer.after).await;
        let status = StatusCode::from_u16(answer.status).unwrap();
        (status, [("content-type", "application/json")], answer.body).into_response()
    }

    pub fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests whose path ends with `suffix`.
    pub fn to(&self, suffix: &str) -> Vec<Seen> {
        self.all().into_iter().filter(|seen| seen.path.ends_with(suffix)).collect()
    }

    /// Most requests that were in flight at once.
    pub fn most_at_once(&self) -> usize {
        self.most_at_once.load(Ordering::SeqCst)
    }
}
