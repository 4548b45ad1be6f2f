//! Whose a TCP connection of a namespace is: the kernel's socket diagnosis (`sock_diag(7)`, `linux/inet_diag.h`).

use std::{fmt, io, net::SocketAddrV4};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};

use crate::{
    Cause, LinkError, NetNs,
    wire::{BUFFER, parts, read_u32},
};

const HEADER: usize = 16;
/// `SOCK_DIAG_BY_FAMILY`: of a request, and of its answer.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// Length of `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// Length of `struct inet_diag_msg`.
const ANSWER: usize = 72;
/// Where a `struct inet_diag_sockid` begins in a request, and in an answer.
const ID: (usize, usize) = (8, 4);
/// `TCP_ESTABLISHED`, `TCP_FIN_WAIT1`, `TCP_FIN_WAIT2`, `TCP_CLOSE_WAIT`: states of a socket that somebody can still read from.
const READABLE: [u8; 4] = [1, 4, 5, 8];

/// Asks one namespace whose its connections are. Keeps the namespace alive.
pub struct Peers {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Peers {
    /// For the connections of `netns`.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(netns: &NetNs) -> Result<Self, LinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
            socket.set_non_blocking(true)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            Ok::<_, io::Error>(socket)
        };
        let error = |cause: Cause| LinkError::new("ask for", "owners of connections", cause);
        let socket = netns.run(open).map_err(error)?.map_err(|cause| error(cause.into()))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(BUFFER) })
    }

    /// The user who made the end at `local` of the TCP connection to `remote`, in ids of the caller's own user namespace (whatever
    /// that of the connection's maker is); `None` where no such end is open.
    ///
    /// An end whose program has closed it has no owner that the kernel remembers (it says 0), so it counts as not there.
    ///
    /// # Errors
    /// When the kernel has no such facility, or does not answer.
    pub fn owner(&mut self, local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u32>, LinkError> {
        self.ask(local, remote).map_err(|cause| LinkError::new("find the owner of", format!("the connection from {local}"), cause))
    }

    /// The kernel answers within the send: an answer that is not there then does not come.
    fn ask(&mut self, local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u32>, Cause> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send_to(&request(self.sequence, local, remote), &SocketAddr::new(0, 0), 0)?;
        loop {
            self.buffer.clear();
            let (_, sender) = self.socket.recv_from(&mut self.buffer, 0)?;
            if sender.port_number() != 0 {
                continue;
            }
            for part in parts(&self.buffer) {
                let part = part?;
                match part.kind {
                    _ if part.sequence != self.sequence => {}
                    NLMSG_ERROR => match read_u32(part.payload).cast_signed() {
                        code if code == -libc::ENOENT => return Ok(None),
                        code => return Err(Cause::kernel(code.saturating_neg())),
                    },
                    BY_FAMILY => return read(part.payload, local, remote),
                    kind => return Err(Cause::Answer(format!("it is of kind {kind}"))),
                }
            }
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for exactly this connection.
fn request(sequence: u32, local: SocketAddrV4, remote: SocketAddrV4) -> [u8; HEADER + REQUEST] {
    let mut bytes = [0; HEADER + REQUEST];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &(HEADER + REQUEST).to_ne_bytes()[..4]);
    put(4, &BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    put(HEADER, &[libc::AF_INET as u8, libc::IPPROTO_TCP as u8]);
    // All states.
    put(HEADER + 4, &u32::MAX.to_ne_bytes());
    put(HEADER + ID.0, &identity(local, remote));
    // Without a cookie.
    put(HEADER + ID.0 + 40, &[0xff; 8]);
    bytes
}

/// Ports and addresses of a `struct inet_diag_sockid`.
fn identity(local: SocketAddrV4, remote: SocketAddrV4) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..2].copy_from_slice(&local.port().to_be_bytes());
    bytes[2..4].copy_from_slice(&remote.port().to_be_bytes());
    bytes[4..8].copy_from_slice(&local.ip().octets());
    bytes[20..24].copy_from_slice(&remote.ip().octets());
    bytes
}

/// The owner that a `struct inet_diag_msg` names. Where there is no such connection the kernel may name who listens there.
fn read(message: &[u8], local: SocketAddrV4, remote: SocketAddrV4) -> Result<Option<u32>, Cause> {
    let message: &[u8; ANSWER] = message.first_chunk().ok_or_else(|| Cause::Answer("it is too short".to_owned()))?;
    let (state, inode) = (message[1], read_u32(&message[68..]));
    let same = message[ID.1..].starts_with(&identity(local, remote)[..8]) && message[ID.1 + 20..].starts_with(&remote.ip().octets());
    Ok((same && inode != 0 && READABLE.contains(&state)).then(|| read_u32(&message[64..])))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{Ipv4Addr, TcpListener, TcpStream},
        process::{Command, Stdio},
    };

    use super::*;

    fn ends(stream: &TcpStream) -> (SocketAddrV4, SocketAddrV4) {
        let four = |address: std::net::SocketAddr| match address {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(_) => panic!("no IPv4"),
        };
        (four(stream.peer_addr().unwrap()), four(stream.local_addr().unwrap()))
    }

    /// A client of user `uid` that connects to port 80 and stays.
    fn client(uid: u32) -> std::process::Child {
        use std::os::unix::process::CommandExt;
        Command::new("/bin/busybox").args(["nc", "127.0.0.1", "80"]).stdin(Stdio::piped()).uid(uid).gid(uid).spawn().unwrap()
    }

    #[test]
    fn the_owner_of_a_connection_is_who_made_it_as_long_as_it_is_open() {
        let netns = NetNs::create().unwrap();
        let mut peers = Peers::open(&netns).unwrap();
        let listener = netns.run(|| TcpListener::bind("127.0.0.1:80").unwrap()).unwrap();
        for uid in [0, 1234, 100_000] {
            let mut child = netns.run(|| client(uid)).unwrap();
            let stream = listener.accept().unwrap().0;
            let (far, near) = ends(&stream);
            assert_eq!(peers.owner(far, near).unwrap(), Some(uid));
            assert_eq!(peers.owner(near, far).unwrap(), Some(0), "our own end");
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(peers.owner(far, near).unwrap(), None, "what is closed is nobody's");
        }
        // Where nobody is connected, the kernel would name the one who listens.
        let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
        assert_eq!(peers.owner(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80), nobody).unwrap(), None);
        assert_eq!(peers.owner(nobody, nobody).unwrap(), None);
        // Another namespace's connections are not seen.
        let mut elsewhere = Peers::open(&NetNs::create().unwrap()).unwrap();
        let ours = netns.run(|| TcpStream::connect("127.0.0.1:80").unwrap()).unwrap();
        let (far, near) = ends(&ours);
        assert_eq!((elsewhere.owner(near, far).unwrap(), peers.owner(near, far).unwrap()), (None, Some(0)));
    }
}
