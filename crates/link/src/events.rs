//! Changes of links as they happen.

use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use tokio::io::unix::AsyncFd;

use crate::{
    Cause, Link, LinkError, NetNs,
    links::NEW_LINK,
    wire::{BUFFER, parts, receive, socket},
};

/// `RTM_DELLINK`.
const DEL_LINK: u16 = 17;
/// `RTMGRP_LINK`.
const LINK_GROUP: u32 = 1;
/// Room for some 2,000 links that change at once.
const RECEIVE_BUFFER: usize = 8 << 20;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// The link is new or has changed; this is what it was then.
    Changed(Box<Link>),
    /// The link is gone.
    Removed(Box<Link>),
    /// Events were lost: list the links and compare.
    Overrun,
}

/// The events of one namespace, from the moment it was opened. The kernel queues them in a bounded buffer; a slow reader
/// gets [`LinkEvent::Overrun`].
pub struct LinkEvents {
    socket: AsyncFd<Socket>,
    buffer: Vec<u8>,
    /// Of the datagram in `buffer`, last first.
    pending: Vec<LinkEvent>,
}

impl std::fmt::Debug for LinkEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkEvents").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl LinkEvents {
    /// Those of `netns`. Must be called within a runtime.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn open(netns: &NetNs) -> Result<Self, LinkError> {
        Self::open_with_buffer(netns, RECEIVE_BUFFER)
    }

    /// As [`LinkEvents::open`], with a receive buffer of `bytes`.
    ///
    /// # Errors
    /// As [`LinkEvents::open`].
    pub fn open_with_buffer(netns: &NetNs, bytes: usize) -> Result<Self, LinkError> {
        let open = || {
            let socket = socket(netns, LINK_GROUP)?;
            setsockopt(&socket, RcvBufForce, &bytes)?;
            let socket = crate::reactor::register(socket)?;
            Ok::<_, Cause>(Self { socket, buffer: Vec::with_capacity(BUFFER), pending: Vec::new() })
        };
        open().map_err(|cause| LinkError::new("listen for", "changes of links", cause))
    }

    /// The next event. May be given up while it waits; nothing is lost then.
    ///
    /// # Errors
    /// When the socket fails: open it anew and list the links.
    pub async fn next(&mut self) -> Result<LinkEvent, LinkError> {
        loop {
            if let Some(event) = self.pending.pop() {
                return Ok(event);
            }
            let error = |cause: Cause| LinkError::new("listen for", "changes of links", cause);
            match receive(&self.socket, &mut self.buffer).await {
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(LinkEvent::Overrun),
                received => received.map_err(|e| error(e.into()))?,
            }
            for part in parts(&self.buffer) {
                let part = part.map_err(error)?;
                self.pending.extend(event(part.kind, part.payload).map_err(error)?);
            }
            self.pending.reverse();
        }
    }
}

fn event(kind: u16, payload: &[u8]) -> Result<Option<LinkEvent>, Cause> {
    // A message of the bridge family tells of a port: leaving a bridge looks like a removal there.
    let about_a_link = payload.first().is_some_and(|family| i32::from(*family) == libc::AF_UNSPEC);
    Ok(match kind {
        NEW_LINK if about_a_link => Some(LinkEvent::Changed(Box::new(Link::parse(payload)?))),
        DEL_LINK if about_a_link => Some(LinkEvent::Removed(Box::new(Link::parse(payload)?))),
        _ => None,
    })
}
