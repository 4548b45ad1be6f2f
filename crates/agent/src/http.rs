//! The HTTP server of agents: limited in everything, drained on shutdown.

use std::{io, pin::pin, sync::Arc, time::Duration};

use axum::Router;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tower::ServiceExt;
use tracing::{debug, warn};

/// Limits of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Largest request body in bytes, for handlers that use axum's extractors. [`crate::restify::read_body`] has its own.
    pub body: usize,
    /// Time for the head of a request to arrive whole, and how long a kept-alive connection may be idle.
    pub header_timeout: Duration,
    /// Most connections at once; more wait in the listener's queue.
    pub connections: usize,
    /// Time that requests under way have to end after the shutdown began.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { body: 1 << 20, header_timeout: Duration::from_secs(60), connections: 128, drain: Duration::from_secs(10) }
    }
}

/// What a server listens on.
#[derive(Debug)]
pub enum Listener {
    /// The admin IP.
    Tcp(TcpListener),
    /// A socket file.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}
impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Self {
        Self::Unix(listener)
    }
}

/// Either kind of connection.
trait Connection: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Connection for T {}

impl Listener {
    async fn accept(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every request had ended.
    Complete,
    /// The time to drain was over; this many connections were cut.
    Cut(usize),
}

/// Serves `router` until `shutdown` ends, then lets requests under way end, for [`ServerLimits::drain`] at most.
///
/// A failure to accept (no descriptors left) is logged and tried again after a pause: the server never ends by itself.
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()> + Send,
) -> Drained {
    let listener = listener.into();
    let router = router.layer(axum::extract::DefaultBodyLimit::max(limits.body));
    let slots = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = tokio::task::JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        let (stream, slot) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = &mut shutdown => break,
                    () = tokio::time::sleep(Duration::from_millis(100)) => continue,
                }
            }
        };
        let service = router.clone().map_request(|request: http::Request<Incoming>| request.map(axum::body::Body::new));
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_headers(64).max_buf_size(64 << 10);
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection ended badly");
            }
            drop(slot);
        });
    }
    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown()).await.is_ok() {
        return Drained::Complete;
    }
    while connections.try_join_next().is_some() {}
    let cut = connections.len();
    warn!(cut, "requests did not end in time and were cut");
    connections.shutdown().await;
    Drained::Cut(cut)
}

async fn accept(listener: &Listener, slots: &Arc<Semaphore>) -> io::Result<(Box<dyn Connection>, tokio::sync::OwnedSemaphorePermit)> {
    let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
    Ok((listener.accept().await?, slot))
}

#[cfg(test)]
mod tests;
