//! The socket of one guest, from when its namespace is there until its init ends. Then it must be closed: an open socket keeps a
//! namespace, with its links, alive (ruling 33).

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener},
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, body::Incoming, header, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use triton_link::{Links, NetNs, Peers, Steering};
use triton_process::PidFd;
use triton_types::ProcessRef;

use super::{
    page::Page,
    request::{ADDRESS, Asked, SECONDS, judge, page},
    tokens::Tokens,
};
use crate::{Guest, budget::Share, intake::of_answer};

/// Where the socket itself listens: a port of the loopback that no service of a guest has. Connections to port 80 of the address are
/// steered to it, so that the guest's own port 80 is free.
const PORTS: [u16; 2] = [1, 0];
/// Before a namespace that could not be used is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// What serves a guest's boot, until it is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    process: ProcessRef,
    stop: CancellationToken,
}

impl Door {
    /// Serves the namespace of `process`, the init of the guest whose root is `owner` on the host.
    pub(crate) fn start(guest: Arc<Guest>, owner: u32, process: ProcessRef, tasks: &TaskTracker) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = keep(&guest, owner, process) => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { process, stop }
    }

    /// Whose namespace is served.
    pub(crate) fn process(&self) -> ProcessRef {
        self.process
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What there is in a guest's namespace; all of it goes when this does.
struct Open {
    listener: TcpListener,
    peers: Peers,
    _steering: Steering,
    init: OwnedFd,
}

async fn keep(guest: &Arc<Guest>, owner: u32, process: ProcessRef) {
    let mut said = false;
    loop {
        match open(process).await {
            Ok(None) => return,
            Ok(Some(Open { listener, peers, _steering, init })) => {
                let Ok(init) = triton_agent::watch_descriptor(init) else { return };
                let _open = guest.numbers.door_open();
                // Dropping the connections closes them: they are tasks of this one.
                tokio::select! {
                    () = accept(guest, Askers { peers, owner, said: false }, &listener) => {}
                    _ = init.readable() => {}
                }
                return;
            }
            Err(error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::error!(vm_uuid = %guest.uuid, %error, "metadata cannot be served over HTTP");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

/// Makes the socket; `None` once the guest has ended.
async fn open(process: ProcessRef) -> Result<Option<Open>, String> {
    let Some(init) = PidFd::open(process) else { return Ok(None) };
    let netns = NetNs::of_pidfd(init.as_fd()).map_err(|error| triton_agent::chain(&error).to_string())?;
    let links = Links::of(netns.clone());
    let address = ipnet::Ipv4Net::new(ADDRESS, 32).map_err(|error| error.to_string())?;
    let prepared = async {
        links.set_up("lo").await?;
        links.add_address("lo", ipnet::IpNet::V4(address)).await
    };
    prepared.await.map_err(|error| triton_agent::chain(&error).to_string())?;
    let made = tokio::task::spawn_blocking(move || -> Result<(StdListener, Peers, Steering), String> {
        let text = |error: triton_link::LinkError| triton_agent::chain(&error).to_string();
        let bind = || -> io::Result<StdListener> {
            let mut listener = Err(io::ErrorKind::AddrInUse.into());
            for port in PORTS {
                listener = StdListener::bind((Ipv4Addr::LOCALHOST, port));
                if listener.is_ok() {
                    break;
                }
            }
            let listener = listener?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = netns.run(bind).map_err(|cause| cause.to_string())?.map_err(|error| error.to_string())?;
        let steering = netns.steer(SocketAddrV4::new(ADDRESS, 80), listener.as_fd()).map_err(text)?;
        Ok((listener, Peers::open(&netns).map_err(text)?, steering))
    });
    let (listener, peers, steering) = made.await.map_err(|error| error.to_string())??;
    let listener = TcpListener::from_std(listener).map_err(|error| error.to_string())?;
    let init = init.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    Ok(Some(Open { listener, peers, _steering: steering, init }))
}

/// Who may be answered in a guest.
struct Askers {
    peers: Peers,
    owner: u32,
    said: bool,
}

/// What a connection's maker may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum May {
    Ask,
    NotAsk,
    BeUnknown,
}

impl Askers {
    /// Only the guest's root, and the host's, may ask, as on the socket; unless every user may (attack case 3).
    fn may(&mut self, guest: &Guest, from: SocketAddr, to: io::Result<SocketAddr>) -> May {
        if guest.limits.http_every_user {
            return May::Ask;
        }
        let (SocketAddr::V4(from), Ok(SocketAddr::V4(to))) = (from, to) else { return May::BeUnknown };
        match self.peers.owner(from, to) {
            Ok(Some(user)) if user == self.owner || user == 0 => May::Ask,
            Ok(Some(_)) => {
                guest.numbers.refused();
                May::NotAsk
            }
            // It has closed the connection already: nobody hears the answer.
            Ok(None) => May::NotAsk,
            Err(error) => {
                if !std::mem::replace(&mut self.said, true) {
                    tracing::error!(vm_uuid = %guest.uuid, error = %triton_agent::chain(&error), "who asks over HTTP cannot be found out");
                }
                May::BeUnknown
            }
        }
    }
}

/// Serves connections, for ever; more than there may be wait in the socket's queue.
async fn accept(guest: &Arc<Guest>, mut askers: Askers, listener: &TcpListener) {
    let places = Arc::new(Semaphore::new(guest.limits.http_connections));
    let tokens = Arc::new(Mutex::new(Tokens::default()));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else { return };
        guest.admit().await;
        let Ok((stream, from)) = listener.accept().await else {
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let may = askers.may(guest, from, stream.local_addr());
        let (guest, tokens) = (guest.clone(), tokens.clone());
        connections.spawn(async move {
            serve(&guest, &tokens, may, stream).await;
            drop(place);
        });
    }
}

/// One connection. It has an end, however slow its client is.
async fn serve(guest: &Arc<Guest>, tokens: &Arc<Mutex<Tokens>>, may: May, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let share = Arc::new(Mutex::new(Share::new(&guest.memory)));
    let answer = service_fn(|request: Request<Incoming>| {
        let (guest, tokens, share) = (guest.clone(), tokens.clone(), share.clone());
        async move { Ok::<_, Infallible>(answer(&guest, &tokens, &share, may, &request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // A client that keeps its connections, as cloud-init does with those that were refused, would keep the others out.
    builder.keep_alive(false);
    // One that says that it has said all it will still listens.
    builder.half_close(true);
    builder.timer(TokioTimer::new()).header_read_timeout(guest.limits.partial()).max_headers(32).max_buf_size(16 << 10);
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    if timeout(guest.limits.http_connection(), connection).await.is_err() {
        guest.numbers.cut();
    }
}

async fn answer(
    guest: &Guest,
    tokens: &Mutex<Tokens>,
    share: &Mutex<Share>,
    may: May,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let asked = match may {
        May::Ask => judge(request, &mut tokens.lock().unwrap_or_else(PoisonError::into_inner), !guest.limits.http_without_token),
        May::NotAsk => Asked::Answer(Page::refused(403, "Only root is answered")),
        May::BeUnknown => Asked::Answer(Page::refused(503, "Who asks cannot be found out now")),
    };
    let page = match asked {
        Asked::Answer(page) => {
            guest.admit().await;
            page
        }
        Asked::Path(path) => guest.page(move |vm| page(vm, &path)).await.unwrap_or_else(|()| Page::refused(503, "Not available now")),
    };
    guest.pay(of_answer(page.body.len())).await;
    let fits = share.lock().unwrap_or_else(PoisonError::into_inner).resize(page.body.len());
    let page = if fits { page } else { Page::refused(503, "Too much is asked for at once") };
    guest.numbers.answered("HTTP", if page.status == 200 { "SUCCESS" } else { "FAILURE" });
    let mut response = Response::builder().status(page.status).header(header::CONTENT_TYPE, page.kind).header(header::SERVER, "triton");
    if let Some(seconds) = page.seconds {
        response = response.header(SECONDS, seconds);
    }
    let body = if request.method() == Method::HEAD { Bytes::new() } else { Bytes::from(page.body) };
    response.body(Full::new(body)).unwrap_or_else(|_| Response::new(Full::new(Bytes::new())))
}
