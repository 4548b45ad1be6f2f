//! Looking up the names of services: by the data centre's binder where there is one, else as the system does (firewaller.md section 2.1).
//!
//! The binder knows the services of its data centre and forgets one that is gone within its time; resolvers that a node is otherwise given
//! may know nothing of them. The binder's own address is the system's to know: `resolv.conf` of a node names it, or who does.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use domain::{
    base::{Message, MessageBuilder, Name, Rtype, iana::Rcode},
    rdata::A,
};
use hyper_util::client::legacy::connect::dns;
use tokio::net::{UdpSocket, lookup_host};

/// For one question to one server.
const PATIENCE: Duration = Duration::from_millis(700);
/// For all of it: after that the system is asked, whose answer the caller still waits for.
const ALL: Duration = Duration::from_secs(3);
/// How often each server is asked.
const ROUNDS: usize = 2;
/// Servers of one binder that are asked.
const SERVERS: usize = 8;
/// How long an answer counts at most, and at least: a time of 0 would be a question for each request.
const LONGEST: Duration = Duration::from_secs(60);
const SHORTEST: Duration = Duration::from_secs(1);
/// Names whose addresses are kept.
const KEPT: usize = 64;
/// Larger than any answer without extensions.
const LARGEST: usize = 1500;

/// How names are looked up. Clones share what they know.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<Binder>>);

struct Binder {
    /// What the names of its services end with, with the dot before it.
    domain: String,
    /// Where it is, `host:port`.
    server: String,
    known: Mutex<HashMap<String, (Vec<IpAddr>, Instant)>>,
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => f.write_str("Names(system)"),
            Some(binder) => write!(f, "Names({})", binder.server),
        }
    }
}

/// What a server says of a name.
enum Said {
    /// Its addresses, and how long they count.
    Addresses(Vec<Ipv4Addr>, Duration),
    /// There is no such name, or it has no address.
    Nothing,
}

impl Names {
    /// As the system does: `/etc/hosts`, `resolv.conf`.
    pub fn system() -> Self {
        Self(None)
    }

    /// Names in `domain` (`dc.example.com`) by the binder at `server` (`host:port`), and as the system does when that does not know; all
    /// other names as the system does.
    pub fn by_binder(domain: &str, server: &str) -> Self {
        let domain = format!(".{}", domain.trim_matches('.').to_ascii_lowercase());
        Self(Some(Arc::new(Binder { domain, server: server.to_owned(), known: Mutex::default() })))
    }

    /// The addresses of `host`, each with `port`; at least one.
    ///
    /// # Errors
    /// When nobody knows one. Names what the binder said, too.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let asked = match &self.0 {
            Some(binder) if host.to_ascii_lowercase().ends_with(&binder.domain) => Some((&binder.server, binder.addresses(host).await)),
            _ => None,
        };
        let why = match asked {
            Some((_, Ok(addresses))) => return Ok(addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()),
            Some((server, Err(error))) => Some(format!("the binder {server}: {error}")),
            None => None,
        };
        let system = lookup_host((host, port)).await.map(Iterator::collect::<Vec<_>>);
        match (system, why) {
            (Ok(addresses), _) if !addresses.is_empty() => Ok(addresses),
            (Ok(_), None) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"))),
            (Err(error), None) => Err(error),
            (Ok(_), Some(why)) => Err(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address; {why}"))),
            (Err(error), Some(why)) => Err(io::Error::new(error.kind(), format!("{error}; {why}"))),
        }
    }
}

impl Binder {
    /// The addresses of a name, as they were said within their time or are said now.
    async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(known) = self.known(host) {
            return Ok(known);
        }
        let too_long = || io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} ms", ALL.as_millis()));
        let (found, time) = tokio::time::timeout(ALL, self.ask_all(host)).await.map_err(|_| too_long())??;
        let found: Vec<IpAddr> = found.into_iter().map(IpAddr::V4).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= KEPT {
            known.retain(|_, (_, until)| *until > now);
        }
        if known.len() < KEPT {
            known.insert(host.to_owned(), (found.clone(), now + time.clamp(SHORTEST, LONGEST)));
        }
        Ok(found)
    }

    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(host).filter(|(_, until)| *until > Instant::now()).map(|(addresses, _)| addresses.clone())
    }

    async fn ask_all(&self, host: &str) -> io::Result<(Vec<Ipv4Addr>, Duration)> {
        let servers: Vec<SocketAddr> = lookup_host(&self.server).await?.take(SERVERS).collect();
        let mut last = io::Error::new(io::ErrorKind::NotFound, "it has no address");
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            match tokio::time::timeout(PATIENCE, ask(*server, host)).await {
                Ok(Ok(Said::Addresses(addresses, time))) => return Ok((addresses, time)),
                Ok(Ok(Said::Nothing)) => return Err(io::Error::new(io::ErrorKind::NotFound, "it knows no such name")),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(last)
    }
}

/// Asks one server. What comes from elsewhere or answers another question is passed over.
async fn ask(server: SocketAddr, host: &str) -> io::Result<Said> {
    let question = question(host)?;
    let own: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0)).await?;
    socket.connect(server).await?;
    socket.send(question.as_slice()).await?;
    let mut buffer = [0; LARGEST];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(answer) = Message::from_octets(&buffer[..length]) else { continue };
        if answer.is_answer(&question) {
            return said(&answer);
        }
    }
}

fn question(host: &str) -> io::Result<Message<Vec<u8>>> {
    let invalid = |error: &dyn fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} cannot be looked up: {error}"));
    let name: Name<Vec<u8>> = host.parse().map_err(|error| invalid(&error))?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(rand::random());
    builder.header_mut().set_rd(true);
    let mut builder = builder.question();
    builder.push((&name, Rtype::A)).map_err(|error| invalid(&error))?;
    Ok(builder.into_message())
}

/// Addresses that an answer has. Of one that was too long for its packet those that came are enough.
fn said(answer: &Message<&[u8]>) -> io::Result<Said> {
    match answer.header().rcode() {
        Rcode::NOERROR => {}
        Rcode::NXDOMAIN => return Ok(Said::Nothing),
        code => return Err(io::Error::other(format!("it says {code}"))),
    }
    let damaged = |error| io::Error::new(io::ErrorKind::InvalidData, format!("its answer is damaged: {error}"));
    let (mut addresses, mut time) = (Vec::new(), u32::MAX);
    for record in answer.answer().map_err(damaged)?.limit_to_in::<A>() {
        let record = record.map_err(damaged)?;
        addresses.push(record.data().addr());
        time = time.min(record.ttl().as_secs());
    }
    if addresses.is_empty() { Ok(Said::Nothing) } else { Ok(Said::Addresses(addresses, Duration::from_secs(time.into()))) }
}

impl tower::Service<dns::Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: dns::Name) -> Self::Future {
        let names = self.clone();
        // The port is the connector's to set.
        Box::pin(async move { Ok(names.lookup(name.as_str(), 0).await?.into_iter()) })
    }
}
