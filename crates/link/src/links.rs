//! Links of one namespace: finding, listing, changing, removing.

use std::{os::fd::BorrowedFd, sync::Arc, time::Duration};

use netlink_packet_core::{DecodeError, NLM_F_DUMP};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage},
};
use tokio::sync::Mutex;

use crate::{Cause, ErrorKind, Link, LinkError, LinkStats, NetNs, wire::Channel};

/// `RTM_NEWLINK`, the kind of message that describes a link.
pub(crate) const NEW_LINK: u16 = 16;
/// An answer normally takes microseconds; under a stampede of deletions, seconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// The links of one network namespace. Cheap to clone; clones share one socket and take turns.
///
/// Belongs to the runtime in which it is first used: its socket is opened then.
#[derive(Clone)]
pub struct Links {
    inner: Arc<Inner>,
}

struct Inner {
    netns: NetNs,
    /// Absent before the first request and after one that was not finished: then the next opens a new socket.
    channel: Mutex<Option<Channel>>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links").field("netns", &self.inner.netns).finish_non_exhaustive()
    }
}

impl Links {
    /// Those of the calling thread's namespace.
    ///
    /// # Errors
    /// When the namespace cannot be opened.
    pub fn open() -> Result<Self, LinkError> {
        NetNs::current().map(Self::of)
    }

    /// Those of the namespace behind `netns`.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn open_in(netns: BorrowedFd<'_>) -> Result<Self, LinkError> {
        NetNs::from_fd(netns).map(Self::of)
    }

    /// Those of `netns`.
    pub fn of(netns: NetNs) -> Self {
        Self { inner: Arc::new(Inner { netns, channel: Mutex::new(None) }) }
    }

    /// The namespace.
    pub fn netns(&self) -> &NetNs {
        &self.inner.netns
    }

    /// All links with their counters, by index.
    ///
    /// # Errors
    /// When the list could not be read whole.
    pub async fn list(&self) -> Result<Vec<Link>, LinkError> {
        self.dump_links(LinkMessage::default()).await.map_err(|cause| LinkError::new("list", "links", cause))
    }

    /// The ports of bridge `name`, with their counters, by index.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn ports(&self, name: &str) -> Result<Vec<Link>, LinkError> {
        let error = |cause| LinkError::new("list the ports of", name, cause);
        let bridge = self.index(name).await.map_err(error)?;
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Controller(bridge));
        let mut ports = self.dump_links(message).await.map_err(error)?;
        ports.retain(|port| port.master == Some(bridge));
        Ok(ports)
    }

    /// The link called `name`, if there is one.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn get(&self, name: &str) -> Result<Option<Link>, LinkError> {
        match self.find(name).await {
            Ok(link) => Ok(Some(link)),
            Err(cause) if cause.kind() == ErrorKind::NoDevice => Ok(None),
            Err(cause) => Err(LinkError::new("look up", name, cause)),
        }
    }

    /// The counters of `name`.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn stats(&self, name: &str) -> Result<LinkStats, LinkError> {
        let link = self.find(name).await.map_err(|cause| LinkError::new("read the counters of", name, cause))?;
        Ok(link.stats.unwrap_or_default())
    }

    /// Removes `name` (of a veth: both ends). True if it was there; that it was not is success.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub async fn delete(&self, name: &str) -> Result<bool, LinkError> {
        let message = named(name).map_err(|cause| LinkError::new("delete", name, cause))?;
        match self.change(RouteNetlinkMessage::DelLink(message), 0).await {
            Ok(()) => Ok(true),
            Err(cause) if cause.kind() == ErrorKind::NoDevice => Ok(false),
            Err(cause) => Err(LinkError::new("delete", name, cause)),
        }
    }

    /// Brings `name` up.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn set_up(&self, name: &str) -> Result<(), LinkError> {
        self.set_flags("bring up", name, LinkFlags::Up).await
    }

    /// Brings `name` down.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn set_down(&self, name: &str) -> Result<(), LinkError> {
        self.set_flags("bring down", name, LinkFlags::empty()).await
    }

    async fn set_flags(&self, action: &'static str, name: &str, flags: LinkFlags) -> Result<(), LinkError> {
        let set = async {
            let mut message = named(name)?;
            message.header.flags = flags;
            message.header.change_mask = LinkFlags::Up;
            self.change(RouteNetlinkMessage::SetLink(message), 0).await
        };
        set.await.map_err(|cause| LinkError::new(action, name, cause))
    }

    /// Sets the MTU, in bytes.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link; `Other(EINVAL)` if the device cannot.
    pub async fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), LinkError> {
        self.set("set the MTU of", name, LinkAttribute::Mtu(mtu)).await
    }

    /// Sets the MAC address.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn set_mac(&self, name: &str, mac: [u8; 6]) -> Result<(), LinkError> {
        self.set("set the MAC address of", name, LinkAttribute::Address(mac.to_vec())).await
    }

    /// Sets `ifalias`, at most 255 bytes; the empty text removes it.
    ///
    /// # Errors
    /// `NoDevice` if there is no such link.
    pub async fn set_alias(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        if alias.len() > 255 || alias.contains('\0') {
            return Err(LinkError::new("set the alias of", name, Cause::Invalid("an alias has at most 255 bytes and no NUL")));
        }
        self.set("set the alias of", name, LinkAttribute::IfAlias(alias.to_owned())).await
    }

    /// Makes `name` a port of `bridge`, or of none.
    ///
    /// # Errors
    /// `NoDevice` if one of them is not there.
    pub async fn set_bridge(&self, name: &str, bridge: Option<&str>) -> Result<(), LinkError> {
        let (action, index) = match bridge {
            None => ("detach from its bridge", 0),
            Some(bridge) => {
                let index = self.index(bridge).await;
                ("attach to a bridge", index.map_err(|cause| LinkError::new("attach a port to the bridge", bridge, cause))?)
            }
        };
        self.set(action, name, LinkAttribute::Controller(index)).await
    }

    /// Renames `name`, which must be down, to `new`. That only `new` is there is success.
    ///
    /// # Errors
    /// `Exists` if another link is called `new`.
    pub async fn rename(&self, name: &str, new: &str) -> Result<(), LinkError> {
        let rename = async {
            check_name(new)?;
            let mut message = LinkMessage::default();
            message.header.index = match self.index(name).await {
                Err(cause) if cause.kind() == ErrorKind::NoDevice && self.index(new).await.is_ok() => return Ok(()),
                index => index?,
            };
            message.attributes.push(LinkAttribute::IfName(new.to_owned()));
            self.change(RouteNetlinkMessage::SetLink(message), 0).await
        };
        rename.await.map_err(|cause| LinkError::new("rename", name, cause))
    }

    /// Moves `name` into `netns`, where it is called `new` if given.
    ///
    /// # Errors
    /// `NoDevice` if it is not here; `Exists` if the name is taken there.
    pub async fn move_to_netns(&self, name: &str, netns: BorrowedFd<'_>, new: Option<&str>) -> Result<(), LinkError> {
        use std::os::fd::AsRawFd;
        let moving = async {
            let mut message = LinkMessage::default();
            message.header.index = self.index(name).await?;
            message.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
            if let Some(new) = new {
                check_name(new)?;
                message.attributes.push(LinkAttribute::IfName(new.to_owned()));
            }
            self.change(RouteNetlinkMessage::SetLink(message), 0).await
        };
        moving.await.map_err(|cause| LinkError::new("move to another namespace", name, cause))
    }

    async fn set(&self, action: &'static str, name: &str, attribute: LinkAttribute) -> Result<(), LinkError> {
        let set = async {
            let mut message = named(name)?;
            message.attributes.push(attribute);
            self.change(RouteNetlinkMessage::SetLink(message), 0).await
        };
        set.await.map_err(|cause| LinkError::new(action, name, cause))
    }

    pub(crate) async fn find(&self, name: &str) -> Result<Link, Cause> {
        let request = RouteNetlinkMessage::GetLink(named(name)?);
        self.exchange(&request, 0, parse_link).await?.pop().ok_or(Cause::kernel(libc::ENODEV))
    }

    pub(crate) async fn index(&self, name: &str) -> Result<u32, Cause> {
        let mut message = named(name)?;
        message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
        let found = self.exchange(&RouteNetlinkMessage::GetLink(message), 0, parse_link).await?;
        found.first().map(|link| link.index).ok_or(Cause::kernel(libc::ENODEV))
    }

    async fn dump_links(&self, message: LinkMessage) -> Result<Vec<Link>, Cause> {
        self.exchange(&RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, parse_link).await
    }

    /// A request without an answer but success.
    pub(crate) async fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Cause> {
        self.exchange(&message, flags, |_, _| Ok(None::<()>)).await.map(drop)
    }

    /// A request with its answer.
    pub(crate) async fn exchange<T>(
        &self,
        message: &RouteNetlinkMessage,
        flags: u16,
        parse: impl Fn(u16, &[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, Cause> {
        let mut slot = self.inner.channel.lock().await;
        let mut channel = match slot.take() {
            Some(channel) => channel,
            None => Channel::open(&self.inner.netns)?,
        };
        let result = tokio::time::timeout(DEADLINE, channel.exchange(message, flags, parse)).await.unwrap_or(Err(Cause::Timeout));
        if matches!(result, Ok(_) | Err(Cause::Kernel { .. })) {
            *slot = Some(channel);
        }
        result
    }
}

fn parse_link(kind: u16, payload: &[u8]) -> Result<Option<Link>, DecodeError> {
    if kind == NEW_LINK { Link::parse(payload).map(Some) } else { Ok(None) }
}

/// A message about the link called `name`.
pub(crate) fn named(name: &str) -> Result<LinkMessage, Cause> {
    check_name(name)?;
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Unspec;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    Ok(message)
}

/// The kernel's rule for names, applied here so that no text is cut at a NUL or read as a path below `/proc`.
pub(crate) fn check_name(name: &str) -> Result<(), Cause> {
    let legal = (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.bytes().any(|b| b == b'/' || b == b':' || b == 0 || b.is_ascii_whitespace() || b == 0x0b);
    if legal { Ok(()) } else { Err(Cause::Invalid("a link's name has 1 to 15 bytes, none of them '/', ':', blank or NUL")) }
}
