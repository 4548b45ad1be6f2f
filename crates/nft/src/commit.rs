//! Committing a change.

use std::io;

use netlink_sys::{Socket, SocketAddr};

use crate::{Batch, NftError, socket};

/// A way to the rules of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Nft {
    pub(crate) socket: Socket,
}

impl Nft {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or on a kernel without nf_tables.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: socket::open(0)? })
    }

    /// Makes a change: all of it or nothing.
    ///
    /// # Errors
    /// [`NftError::Refused`] names the message that the kernel did not take.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NftError> {
        self.commit_if(batch, None)
    }

    /// Makes a change if the rules are still of `generation` (see [`Nft::generation`]).
    ///
    /// # Errors
    /// [`NftError::Changed`] when they are not; else as [`Nft::commit`].
    pub fn commit_if(&mut self, batch: Batch, generation: Option<u32>) -> Result<(), NftError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, messages) = batch.finish(generation);
        // Answers to earlier changes that were not read would be taken for answers to this one.
        while socket::receive(&self.socket, false)?.is_some() {}
        self.send(&bytes)?;
        let mut first: Option<(u32, NftError)> = None;
        // The kernel carries out the change within the call: its answers are all there.
        while let Some(datagram) = socket::receive(&self.socket, false)? {
            for part in socket::parts(&datagram) {
                let part = part?;
                let (code, hint) = if part.kind == socket::ERROR { socket::failure(&part) } else { continue };
                if code == 0 || first.as_ref().is_some_and(|(before, _)| *before <= part.sequence) {
                    continue;
                }
                let what = messages.get(part.sequence as usize).cloned().unwrap_or_else(|| "make a change".to_owned());
                let error = match code {
                    libc::ERESTART => NftError::Changed,
                    code => NftError::Refused { what, hint, source: io::Error::from_raw_os_error(code) },
                };
                first = Some((part.sequence, error));
            }
        }
        first.map_or(Ok(()), |(_, error)| Err(error))
    }

    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), NftError> {
        let sent = self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).map_err(NftError::socket("hand a change to nf_tables"))?;
        if sent == bytes.len() { Ok(()) } else { Err(NftError::Answer("a change was sent in part")) }
    }
}
