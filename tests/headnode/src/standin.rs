//! Starting and stopping the whole.

use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::Router;
use serde_json::Value;
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Api, Clock, Entry, FaultError, FaultRule, Features, Limits, Violation, agent::AgentClient, cnapi, control, faults::Faults, fwapi,
    imgapi, napi, observe::observe, record::Record, serve::serve, shared::Shared, store::Store, violations::Violations, vmapi,
};

/// Why the stand-in did not start.
#[derive(Debug, thiserror::Error)]
pub enum StandinError {
    /// A listener could not be bound or used.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The database could not be opened or read.
    #[error("could not open the database {}", file.display())]
    Database {
        /// Its file, or `:memory:`.
        file: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
    /// No threads.
    #[error("could not start the runtime")]
    Runtime(#[source] io::Error),
}

/// Listeners of each service, already bound, in whatever network namespace. A service may have none.
#[derive(Debug, Default)]
pub struct Listeners {
    /// For CNAPI.
    pub cnapi: Vec<TcpListener>,
    /// For IMGAPI.
    pub imgapi: Vec<TcpListener>,
    /// For VMAPI.
    pub vmapi: Vec<TcpListener>,
    /// For NAPI.
    pub napi: Vec<TcpListener>,
    /// For FWAPI.
    pub fwapi: Vec<TcpListener>,
    /// For FWAPI's events over FAST.
    pub fast: Vec<TcpListener>,
    /// For the control service.
    pub control: Vec<TcpListener>,
}

impl Listeners {
    /// One port of the loopback address for each service, chosen by the kernel.
    ///
    /// # Errors
    /// When the loopback address cannot be bound.
    pub fn loopback() -> Result<Self, StandinError> {
        let bind = || bind(SocketAddr::from(([127, 0, 0, 1], 0))).map(|listener| vec![listener]);
        Ok(Self { cnapi: bind()?, imgapi: bind()?, vmapi: bind()?, napi: bind()?, fwapi: bind()?, fast: bind()?, control: bind()? })
    }
}

/// Binds a listener.
///
/// # Errors
/// Names the address.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener, StandinError> {
    TcpListener::bind(address).map_err(|source| StandinError::Listen { address: address.to_string(), source })
}

/// The listener for the runtime that is entered.
fn asynchronous(listener: TcpListener) -> Result<tokio::net::TcpListener, StandinError> {
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let error = |source| StandinError::Listen { address: address.clone(), source };
    listener.set_nonblocking(true).map_err(error)?;
    tokio::net::TcpListener::from_std(listener).map_err(error)
}

/// How a stand-in is started.
#[derive(Debug)]
pub struct StandinConfig {
    /// Where it serves.
    pub listeners: Listeners,
    /// Directory of images.
    pub images: PathBuf,
    /// SQLite file; in memory when absent.
    pub database: Option<PathBuf>,
    /// Name of the data centre.
    pub datacenter: String,
    /// Base URL of IMGAPI as a compute node reaches it; its first listener when absent.
    pub imgapi_url: Option<String>,
    /// How long agents are waited for.
    pub limits: Limits,
    /// Switches.
    pub features: Features,
    /// The clock that heartbeats and times follow.
    pub clock: Clock,
}

impl StandinConfig {
    /// On loopback ports, in memory, with the images in a directory.
    ///
    /// # Errors
    /// As [`Listeners::loopback`].
    pub fn loopback(images: impl Into<PathBuf>) -> Result<Self, StandinError> {
        Ok(Self {
            listeners: Listeners::loopback()?,
            images: images.into(),
            database: None,
            datacenter: "standin".to_owned(),
            imgapi_url: None,
            limits: Limits::default(),
            features: Features::default(),
            clock: Clock::real(),
        })
    }
}

/// A running stand-in. It has threads of its own, so that it serves blocking and async tests alike; those threads have the network
/// namespace of the thread that started it. Dropping it stops it.
#[derive(Debug)]
pub struct Standin {
    shared: Arc<Shared>,
    stop: CancellationToken,
    urls: HashMap<&'static str, String>,
    runtime: Option<Runtime>,
}

impl Standin {
    /// Starts serving. Requests are answered when this returns.
    ///
    /// # Errors
    /// When the database or a listener cannot be used.
    pub fn start(config: StandinConfig) -> Result<Self, StandinError> {
        let mut urls = HashMap::new();
        let listeners = config.listeners;
        for (name, list) in [
            ("cnapi", &listeners.cnapi),
            ("imgapi", &listeners.imgapi),
            ("vmapi", &listeners.vmapi),
            ("napi", &listeners.napi),
            ("fwapi", &listeners.fwapi),
            ("fast", &listeners.fast),
            ("control", &listeners.control),
        ] {
            if let Some(address) = list.first().and_then(|listener| listener.local_addr().ok()) {
                urls.insert(name, format!("http://{address}"));
            }
        }
        let file = config.database.clone().unwrap_or_else(|| PathBuf::from(":memory:"));
        let database = |source| StandinError::Database { file: file.clone(), source };
        let store = Store::open(config.database.as_deref()).map_err(database)?;
        cnapi::fail_interrupted(&store, &config.clock.iso()).map_err(database)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("headnode")
            .enable_all()
            .build()
            .map_err(StandinError::Runtime)?;
        let shared = Arc::new(Shared {
            datacenter: config.datacenter,
            imgapi_url: config.imgapi_url.unwrap_or_else(|| urls.get("imgapi").cloned().unwrap_or_default()),
            images: config.images,
            limits: config.limits,
            features: config.features,
            clock: config.clock,
            store,
            record: Record::default(),
            faults: Faults::default(),
            violations: Violations::default(),
            agents: AgentClient::new(),
            tracker: TaskTracker::new(),
            ended: watch::Sender::new(0),
            heartbeats: Mutex::default(),
            under_way: Mutex::default(),
            fast: fwapi::FastHub::default(),
            feed: napi::FeedHub::default(),
            heartbeats_of_feeds: AtomicU64::default(),
        });
        let stop = CancellationToken::new();
        let observed = |api: Api, router: Router| router.layer(axum::middleware::from_fn_with_state((api, Arc::clone(&shared)), observe));
        let services = [
            (listeners.cnapi, observed(Api::Cnapi, cnapi::router(Arc::clone(&shared)))),
            (listeners.imgapi, observed(Api::Imgapi, imgapi::router(Arc::clone(&shared)))),
            (listeners.vmapi, observed(Api::Vmapi, vmapi::router(Arc::clone(&shared)))),
            (listeners.napi, observed(Api::Napi, napi::router(Arc::clone(&shared)))),
            (listeners.fwapi, observed(Api::Fwapi, fwapi::router(Arc::clone(&shared)))),
            (listeners.control, control::router(Arc::clone(&shared))),
        ];
        {
            let _entered = runtime.enter();
            for listener in listeners.fast {
                shared.tracker.spawn(fwapi::serve(asynchronous(listener)?, Arc::clone(&shared), stop.clone()));
            }
            for (list, router) in services {
                let router = router.fallback(nothing).method_not_allowed_fallback(wrong_method);
                for listener in list {
                    let listener = asynchronous(listener)?;
                    shared.tracker.spawn(serve(listener, router.clone(), stop.clone(), shared.tracker.clone()));
                }
            }
        }
        Ok(Self { shared, stop, urls, runtime: Some(runtime) })
    }

    fn url(&self, name: &str) -> &str {
        self.urls.get(name).map_or("", String::as_str)
    }

    /// Base URL of CNAPI's first listener; empty when it has none.
    pub fn cnapi_url(&self) -> &str {
        self.url("cnapi")
    }

    /// Base URL of IMGAPI's first listener; empty when it has none.
    pub fn imgapi_url(&self) -> &str {
        self.url("imgapi")
    }

    /// Base URL of VMAPI's first listener; empty when it has none.
    pub fn vmapi_url(&self) -> &str {
        self.url("vmapi")
    }

    /// Base URL of NAPI's first listener; empty when it has none.
    pub fn napi_url(&self) -> &str {
        self.url("napi")
    }

    /// Base URL of FWAPI's first listener; empty when it has none.
    pub fn fwapi_url(&self) -> &str {
        self.url("fwapi")
    }

    /// `host:port` of FWAPI's events over FAST; empty when it has none.
    pub fn fast_address(&self) -> &str {
        self.url("fast").trim_start_matches("http://")
    }

    /// Those who are subscribed to FWAPI's events now, and the subscriptions so far.
    pub fn fast_clients(&self) -> (Vec<String>, u64) {
        (self.shared.fast.clients(), self.shared.fast.subscriptions())
    }

    /// Makes VMAPI have this instance, as if its node had reported it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn have_vm(&self, vm: &Value) -> Result<(), StandinError> {
        let stored = self.shared.store.put(crate::store::Kind::Vm, vm["uuid"].as_str().unwrap_or_default(), vm.clone());
        stored.map_err(|source| StandinError::Database { file: PathBuf::from(":memory:"), source })
    }

    /// Pushes an event of FWAPI to every subscriber; returns its request id.
    pub fn announce(&self, name: &str, value: &Value) -> String {
        self.shared.announce(name, value)
    }

    /// Sends bytes to every subscriber of FWAPI's events, frames or not.
    pub fn say_to_fast(&self, bytes: &[u8]) {
        self.shared.fast.say(bytes);
    }

    /// Closes every subscriber's connection to FWAPI's events.
    pub fn close_fast(&self) {
        self.shared.fast.close();
    }

    /// From now on FWAPI's events leave pings without an answer, or no longer.
    pub fn mute_fast(&self, mute: bool) {
        self.shared.fast.mute(mute);
    }

    /// Base URL of the control service's first listener; empty when it has none.
    pub fn control_url(&self) -> &str {
        self.url("control")
    }

    /// Every exchange after number `since` (0 for all that are kept), in order.
    pub fn record(&self, since: u64) -> Vec<Entry> {
        self.shared.record.since(since)
    }

    /// What agents did wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.violations.list()
    }

    /// Arms a fault.
    ///
    /// # Errors
    /// When a pattern is no regular expression, a status is none, or there are too many rules.
    pub fn add_fault(&self, rule: FaultRule) -> Result<(), FaultError> {
        self.shared.faults.add(rule)
    }

    /// Disarms all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Sends this frame to every subscriber of NAPI's changefeed, of the protocol or not.
    pub fn say_to_feeds(&self, frame: &str) {
        self.shared.feed.say(frame);
    }

    /// Breaks every subscription of NAPI's changefeed.
    pub fn end_feeds(&self) {
        self.shared.feed.end();
    }

    /// Subscribers of NAPI's changefeed, and the signs of life of all so far.
    pub fn feeds(&self) -> (usize, u64) {
        (self.shared.feed.subscribers(), self.shared.heartbeats_of_feeds.load(Ordering::Relaxed))
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// CNAPI's record of a server, with its present status.
    pub fn server(&self, uuid: &str) -> Option<Value> {
        self.shared.server(uuid).ok()
    }

    /// Why the allocator would not use a server; `None` if it would. An unknown server is not placeable either.
    pub fn not_placeable(&self, uuid: &str) -> Option<String> {
        self.server(uuid).map_or_else(|| Some("it is unknown".to_owned()), |server| Shared::not_placeable(&server))
    }

    /// Waits until `condition` holds for the record, at most `limit`; false if it never did.
    pub fn wait_for(&self, limit: Duration, condition: impl Fn(&[Entry]) -> bool) -> bool {
        let end = std::time::Instant::now() + limit;
        loop {
            if condition(&self.record(0)) {
                return true;
            }
            if std::time::Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Standin {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Not a blocking shutdown: that would panic when dropped in an async test.
            runtime.shutdown_background();
        }
    }
}

async fn nothing(uri: axum::http::Uri) -> crate::error::ApiError {
    crate::error::ApiError::not_found(format!("{} does not exist", uri.path()))
}

async fn wrong_method(method: axum::http::Method) -> axum::response::Response {
    use axum::response::IntoResponse;
    let body = serde_json::json!({"code": "MethodNotAllowedError", "message": format!("{method} is not allowed")});
    (axum::http::StatusCode::METHOD_NOT_ALLOWED, axum::Json(body)).into_response()
}
