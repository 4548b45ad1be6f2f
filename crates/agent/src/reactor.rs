//! Descriptors that the runtime watches.
#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

use tokio::io::unix::AsyncFd;

/// Lets the runtime watch a descriptor, for reading and writing. Must be called within it.
///
/// # Errors
/// When the kernel cannot watch it: a regular file.
pub fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names one descriptor for its whole life, nobody takes it out of the `AsyncFd` by reference, and
    // dropping the latter deregisters it before it is closed.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}
