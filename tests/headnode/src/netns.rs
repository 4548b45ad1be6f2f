//! Serving on both sides: operators reach the services on the machine's loopback, agents inside the node's network namespace.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use nix::sched::{CloneFlags, setns};

/// Moves the calling thread, and those that it starts later, into the network namespace that `path` names. Listeners bound before stay
/// where they are. Call it before there are other threads.
///
/// # Errors
/// When `path` is no network namespace, or the caller may not enter it.
pub fn enter(path: &Path) -> io::Result<()> {
    setns(File::open(path)?, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// Binds every address of a list.
///
/// # Errors
/// Names the first address that cannot be bound.
pub fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, crate::StandinError> {
    addresses.iter().copied().map(crate::standin::bind).collect()
}
