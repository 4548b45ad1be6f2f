//! A stand-in for portolan: where the addresses of overlay networks are, over SVP (net-agent.md section 17).
//!
//! It reads and writes SVP by code of its own. It is stricter than portolan, which throws what it does not understand away and
//! leaves its client waiting: whatever the protocol forbids is listed ([`Portolan::violations`]) and ends the connection. It runs
//! on threads; a listener keeps the network namespace that it was made in.

mod state;
mod wire;

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use state::State;
use wire::Request;

/// How portolan behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Right,
    /// It reads and never answers.
    Stall,
    /// It closes the connection at each request.
    Drop,
    /// Answers have a wrong checksum.
    Checksum,
    /// Answers are for requests that nobody made.
    Identity,
    /// Answers are of an operation that was not asked for.
    Operation,
    /// Answers are random bytes.
    Garbage,
    /// Every answer says that the connection is of no use any more.
    Fatal,
}

/// A request that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Where is the MAC address?
    Mac(u32, [u8; 6]),
    /// Whose is the IP address?
    Ip(u32, IpAddr),
    /// What was changed, for the node with this underlay address?
    Log(IpAddr),
    /// So many entries of logs were followed.
    Followed(usize),
    /// Is somebody there?
    Ping,
}

/// How long a connection's thread waits before it looks whether it should end.
const TURN: Duration = Duration::from_millis(50);
/// Most requests that are kept.
const MOST: usize = 100_000;

struct Shared {
    state: Mutex<State>,
    stop: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

/// A running portolan. Dropping it ends it.
pub struct Portolan {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Portolan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Portolan").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Portolan {
    /// Serves `listener`, and knows nothing yet.
    ///
    /// # Errors
    /// When the listener or a thread cannot be used.
    pub fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared { state: Mutex::default(), stop: AtomicBool::new(false), open: Mutex::default() });
        let own = shared.clone();
        let acceptor = thread::Builder::new().name("portolan".to_owned()).spawn(move || accept(&listener, &own))?;
        Ok(Self { shared, address, acceptor: Some(acceptor) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A node with this underlay address, which takes frames at port 4789.
    pub fn node(&self, underlay: Ipv4Addr) {
        self.state().node(underlay);
    }

    /// A NIC of an overlay network is at the node with this underlay address, with these addresses. Every node's log has an entry if
    /// that is a change: another place for the MAC address, another MAC address for an IP address.
    pub fn place(&self, vnet: u32, vlan: u16, mac: [u8; 6], ips: &[IpAddr], underlay: Ipv4Addr) {
        self.state().place(vnet, vlan, mac, ips, underlay);
    }

    /// The NIC is no more.
    pub fn remove(&self, vnet: u32, vlan: u16, mac: [u8; 6]) {
        self.state().remove(vnet, vlan, mac);
    }

    /// How many entries the log of the node with this underlay address has.
    pub fn log(&self, underlay: Ipv4Addr) -> usize {
        self.state().log(underlay)
    }

    /// From now on it behaves like this.
    pub fn behave(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Closes every connection.
    pub fn hang_up(&self) {
        for stream in lock(&self.shared.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// What clients did wrong so far.
    pub fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    /// Waits until `condition` holds for what was asked, at most `limit`; false if it never did.
    pub fn wait_for(&self, limit: Duration, condition: impl Fn(&[Asked]) -> bool) -> bool {
        let end = Instant::now() + limit;
        loop {
            if condition(&self.asked()) {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Portolan {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.hang_up();
        if let Some(acceptor) = self.acceptor.take() {
            // The port is free when this returns: another one may be started there.
            let _ = acceptor.join();
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    while !shared.stop.load(Ordering::Relaxed) {
        let Ok((stream, _)) = listener.accept() else {
            thread::sleep(Duration::from_millis(5));
            continue;
        };
        let Ok(other) = stream.try_clone() else { continue };
        lock(&shared.open).push(other);
        let own = shared.clone();
        let served = thread::Builder::new().name("portolan-client".to_owned()).spawn(move || {
            let end = serve(&stream, &own);
            tracing::debug!(?end, "a connection to portolan ended");
            let _ = stream.shutdown(Shutdown::Both);
        });
        if let Err(error) = served {
            tracing::warn!(%error, "a connection to portolan is not served");
        }
    }
}

/// Until the client or the stand-in ends, or the client does something that is forbidden.
fn serve(mut stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TURN))?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while !shared.stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => bytes.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(error) => return Err(error),
        }
        loop {
            let request = match wire::take(&mut bytes) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(problem) => {
                    lock(&shared.state).violations.push(problem.clone());
                    return Err(io::Error::other(problem));
                }
            };
            match answer(shared, &request) {
                Reply::Bytes(reply) => stream.write_all(&reply)?,
                Reply::Nothing => {}
                Reply::Close => return Ok(()),
            }
        }
    }
    Ok(())
}

enum Reply {
    Bytes(Vec<u8>),
    Nothing,
    Close,
}

fn answer(shared: &Shared, request: &Request) -> Reply {
    let mut state = lock(&shared.state);
    if state.asked.len() < MOST {
        let asked = request.asked();
        state.asked.push(asked);
    }
    let mood = state.mood;
    match mood {
        Mood::Stall => return Reply::Nothing,
        Mood::Drop => return Reply::Close,
        Mood::Garbage => return Reply::Bytes((0..64).map(|_| rand::random::<u8>()).collect()),
        _ => {}
    }
    let (operation, body) = match state.answer(request, mood == Mood::Fatal) {
        Ok(answer) => answer,
        Err(problem) => {
            state.violations.push(problem);
            return Reply::Close;
        }
    };
    let id = if mood == Mood::Identity { request.id.wrapping_add(77_777) } else { request.id };
    let operation = if mood == Mood::Operation { 2 } else { operation };
    let body = if mood == Mood::Operation { Vec::new() } else { body };
    let mut reply = wire::frame(operation, id, &body);
    if mood == Mood::Checksum {
        reply[12] ^= 0x55;
    }
    Reply::Bytes(reply)
}
