//! Hands a netlink socket to the runtime that will wait for it.
#![allow(unsafe_code)]

use std::io;

use netlink_sys::Socket;
use tokio::io::unix::AsyncFd;

/// Registers `socket`. Must be called within a runtime.
pub(crate) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, gives out the same one each time, closes it only when it is dropped, and
    // nobody takes it out of the `AsyncFd` or closes it by number: it stays open as long as it is registered.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}
