//! Connections of a namespace to one address, given to a socket that does not listen there: the FFI of this crate.
//!
//! A socket that listens on port 80 of one address keeps every other from port 80 of all addresses. So the port is not taken: a
//! program of a few instructions, which the kernel asks before it looks for a listener (`BPF_PROG_TYPE_SK_LOOKUP`), names the socket.
#![allow(unsafe_code)]

use std::{
    io,
    net::SocketAddrV4,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use crate::{Cause, LinkError, NetNs};

/// `lo` is the first link of every namespace.
const LOOPBACK: i32 = 1;

/// As long as this lives, and the namespace, its connections are steered.
#[derive(Debug)]
pub struct Steering {
    _link: OwnedFd,
}

impl NetNs {
    /// Gives TCP connections that are made over this namespace's loopback to `address` to the listening socket `listener`, whatever
    /// listens there besides. Neither the namespace nor the socket is kept alive by it.
    ///
    /// # Errors
    /// When the kernel refuses: no privilege (`CAP_NET_ADMIN`, `CAP_BPF`), another steering there, no such kind of program.
    pub fn steer(&self, address: SocketAddrV4, listener: BorrowedFd<'_>) -> Result<Steering, LinkError> {
        let steer = || -> io::Result<OwnedFd> {
            let map = socket_map()?;
            put_socket(&map, listener)?;
            let program = load(&program(address, &map))?;
            attach(&program, self.as_fd())
        };
        let link = steer().map_err(|error| LinkError::new("steer connections to", address.to_string(), Cause::from(error)))?;
        Ok(Steering { _link: link })
    }
}

/// One instruction, as the kernel has it.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

const fn word(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: from << 4 | to, offset, value }
}

// Codes of linux/bpf_common.h and linux/bpf.h.
const LOAD_WORD: u8 = 0x61;
const STORE_WORD_OF_VALUE: u8 = 0x62;
const LOAD_MAP: u8 = 0x18;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const ADD_VALUE: u8 = 0x07;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const JUMP_UNLESS_EQUAL_WORD: u8 = 0x56;
const JUMP_IF_EQUAL: u8 = 0x15;
const MAP_LOOKUP: i32 = 1;
const SOCKET_RELEASE: i32 = 86;
const SOCKET_ASSIGN: i32 = 124;
// Where `struct bpf_sk_lookup` has what is asked for.
const FAMILY: i16 = 8;
const PROTOCOL: i16 = 12;
const LOCAL_ADDRESS: i16 = 40;
const LOCAL_PORT: i16 = 60;
const ARRIVED_BY: i16 = 64;
/// Go on: with the socket that was named, or as if nobody had been asked.
const PASS: i32 = 1;

/// "If it is TCP over IPv4, to this address and port, over the loopback: the map's socket."
fn program(address: SocketAddrV4, map: &OwnedFd) -> Vec<Instruction> {
    let local = i32::from_ne_bytes(address.ip().octets());
    let conditions = [
        (FAMILY, libc::AF_INET),
        (PROTOCOL, libc::IPPROTO_TCP),
        (LOCAL_ADDRESS, local),
        (LOCAL_PORT, i32::from(address.port())),
        (ARRIVED_BY, LOOPBACK),
    ];
    let found = [
        word(STORE_WORD_OF_VALUE, 10, 0, -4, 0),
        word(MOVE, 2, 10, 0, 0),
        word(ADD_VALUE, 2, 0, 0, -4),
        word(LOAD_MAP, 1, 1, 0, map.as_raw_fd()),
        word(0, 0, 0, 0, 0),
        word(CALL, 0, 0, 0, MAP_LOOKUP),
        word(JUMP_IF_EQUAL, 0, 0, 7, 0),
        word(MOVE, 7, 0, 0, 0),
        word(MOVE, 1, 6, 0, 0),
        word(MOVE, 2, 7, 0, 0),
        word(MOVE_VALUE, 3, 0, 0, 0),
        word(CALL, 0, 0, 0, SOCKET_ASSIGN),
        word(MOVE, 1, 7, 0, 0),
        word(CALL, 0, 0, 0, SOCKET_RELEASE),
        word(MOVE_VALUE, 0, 0, 0, PASS),
        word(EXIT, 0, 0, 0, 0),
    ];
    let mut words = vec![word(MOVE, 6, 1, 0, 0)];
    for (left, (field, wanted)) in conditions.into_iter().enumerate().map(|(index, one)| (conditions.len() - 1 - index, one)) {
        words.push(word(LOAD_WORD, 1, 6, field, 0));
        // Over the other conditions and everything but the last two words.
        words.push(word(JUMP_UNLESS_EQUAL_WORD, 1, 0, (2 * left + found.len() - 2) as i16, wanted));
    }
    words.extend(found);
    words
}

/// The kernel's `union bpf_attr`, as long as the longest of the commands here needs.
#[repr(C, align(8))]
struct Attributes([u8; 72]);

impl Attributes {
    fn new(words: &[(usize, u32)], pointers: &[(usize, u64)]) -> Self {
        let mut bytes = [0; 72];
        for (at, value) in words {
            bytes[*at..at + 4].copy_from_slice(&value.to_ne_bytes());
        }
        for (at, value) in pointers {
            bytes[*at..at + 8].copy_from_slice(&value.to_ne_bytes());
        }
        Self(bytes)
    }
}

const MAP_CREATE: i32 = 0;
const MAP_UPDATE: i32 = 2;
const PROGRAM_LOAD: i32 = 5;
const LINK_CREATE: i32 = 28;
const MAP_OF_SOCKETS: u32 = 15;
const KIND_OF_PROGRAM: u32 = 30;
const ATTACHED_TO: u32 = 36;

/// Makes the call; the answer of those that make something is a descriptor.
fn bpf(command: i32, attributes: &Attributes) -> io::Result<i64> {
    // SAFETY: the attributes are as long as is said, and pointers in them lead to what the caller keeps until this returns.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const attributes.0, attributes.0.len()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn made(command: i32, attributes: &Attributes) -> io::Result<OwnedFd> {
    let fd = i32::try_from(bpf(command, attributes)?).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave this descriptor, closed on exec as all of its kind, to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().unsigned_abs()
}

fn address_of<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

fn socket_map() -> io::Result<OwnedFd> {
    // Kind, bytes of a key, bytes of a value, entries.
    made(MAP_CREATE, &Attributes::new(&[(0, MAP_OF_SOCKETS), (4, 4), (8, 8), (12, 1)], &[]))
}

fn put_socket(map: &OwnedFd, socket: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (0_u32, u64::from(number(socket)));
    bpf(MAP_UPDATE, &Attributes::new(&[(0, number(map.as_fd()))], &[(8, address_of(&key)), (16, address_of(&value))])).map(drop)
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let first = program.first().ok_or(io::ErrorKind::InvalidInput)?;
    let licence = *b"MPL-2.0\0";
    let words = [(0, KIND_OF_PROGRAM), (4, u32::try_from(program.len()).map_err(io::Error::other)?), (68, ATTACHED_TO)];
    made(PROGRAM_LOAD, &Attributes::new(&words, &[(8, address_of(first)), (16, address_of(&licence))]))
}

fn attach(program: &OwnedFd, netns: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    made(LINK_CREATE, &Attributes::new(&[(0, number(program.as_fd())), (4, number(netns)), (8, ATTACHED_TO)], &[]))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpListener, TcpStream},
    };

    use super::*;

    const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);

    /// The namespace's own port 80 stays free, and used, while connections to one address go elsewhere; only within it.
    #[test]
    fn connections_are_steered_past_who_listens_there_for_as_long_as_the_handle_lives() {
        let netns = NetNs::create().unwrap();
        let (ours, theirs) = netns.run(|| (TcpListener::bind("127.0.0.1:1").unwrap(), TcpListener::bind("0.0.0.0:80").unwrap())).unwrap();
        let says = |listener: &TcpListener, word: &str| listener.accept().unwrap().0.write_all(word.as_bytes()).unwrap();
        let hears = |address: &str| {
            let mut text = String::new();
            netns.run(|| TcpStream::connect(address).unwrap()).unwrap().read_to_string(&mut text).unwrap();
            text
        };
        let steering = netns.steer(ADDRESS, ours.as_fd()).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| says(&ours, "ours"));
            assert_eq!(hears("127.0.0.1:80"), "ours");
            scope.spawn(|| says(&theirs, "theirs"));
            assert_eq!(hears("127.0.0.2:80"), "theirs");
        });
        assert!(netns.run(|| TcpListener::bind("127.0.0.1:1").is_err()).unwrap(), "the socket is where it listens");
        drop(steering);
        std::thread::scope(|scope| {
            scope.spawn(|| says(&theirs, "theirs again"));
            assert_eq!(hears("127.0.0.1:80"), "theirs again");
        });
    }
}
