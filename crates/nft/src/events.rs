//! Notices of changes, by whomever.

use std::{
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use netlink_sys::Socket;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{NftError, attributes, socket};

/// `NFNLGRP_NFTABLES`, as a bit.
const GROUP: u32 = 1 << (7 - 1);
const SUBSYSTEM: u16 = 10 << 8;
const NEW_GENERATION: u16 = 15;

/// A change that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// One or more messages about this table came.
    Table(String),
    /// The end of a change.
    End {
        /// The process that made it.
        pid: u32,
        /// The generation that it began ([`crate::Nft::generation`]).
        generation: u32,
    },
    /// Some notices were lost: anything may have changed.
    Lost,
}

impl Change {
    /// Whether somebody but this process may have changed `table`, by these notices in their order.
    pub fn by_others(changes: &[Self], table: &str) -> bool {
        let own = |pid: u32| std::path::Path::new("/proc/self/task").join(pid.to_string()).exists();
        let mut touched = false;
        for change in changes {
            match change {
                Self::Lost => return true,
                Self::Table(name) => touched |= name == table,
                Self::End { pid, .. } if touched && !own(*pid) => return true,
                Self::End { .. } => touched = false,
            }
        }
        // The end of the last one is still to come.
        touched
    }
}

/// Notices of the network namespace in which it was opened.
#[derive(Debug)]
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Begins to listen: no change after this is missed without [`Change::Lost`].
    ///
    /// # Errors
    /// Without `CAP_NET_ADMIN`, or on a kernel without nf_tables.
    pub fn open() -> Result<Self, NftError> {
        Ok(Self { socket: socket::open(GROUP)? })
    }

    /// As [`Events::open`], for who may look seldom: at most about this many bytes wait, and then [`Change::Lost`] comes sooner.
    ///
    /// # Errors
    /// As [`Events::open`].
    pub fn open_within(bytes: usize) -> Result<Self, NftError> {
        Ok(Self { socket: socket::open_with(GROUP, bytes)? })
    }

    /// Waits at most `patience` for notices; an empty list means that the time is over.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn wait(&mut self, patience: Duration) -> Result<Vec<Change>, NftError> {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(error) => return Err(NftError::Socket { action: "wait for changes of the rules", source: error.into() }),
        }
        let mut changes = Vec::new();
        loop {
            let datagram = match socket::receive(&self.socket, false) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(changes),
                Err(NftError::Socket { source, .. }) if source.raw_os_error() == Some(libc::ENOBUFS) => {
                    changes.push(Change::Lost);
                    continue;
                }
                Err(error) => return Err(error),
            };
            for part in socket::parts(&datagram) {
                note(&part?, &mut changes)?;
            }
        }
    }
}

fn note(part: &socket::Part<'_>, changes: &mut Vec<Change>) -> Result<(), NftError> {
    if part.kind & 0xff00 != SUBSYSTEM {
        return Ok(());
    }
    let attributes = part.payload.get(socket::GENERIC..).unwrap_or_default();
    let change = if part.kind & 0xff == NEW_GENERATION {
        let number = |kind| attributes::find(attributes, kind).map(|found| found.map_or(0, attributes::number));
        Change::End { pid: number(2)?, generation: number(1)? }
    } else {
        match attributes::find(attributes, 1)? {
            Some(table) => Change::Table(attributes::text(table).to_owned()),
            None => return Ok(()),
        }
    };
    if changes.last() != Some(&change) {
        changes.push(change);
    }
    Ok(())
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
