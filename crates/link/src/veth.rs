//! Pairs of links: one end here, the other in a guest's namespace.

use std::{
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage},
};

use crate::{
    Cause, ErrorKind, LinkError, LinkKind, Links, PortFlags,
    links::{check_name, named},
    port::no_ipv6_address,
};

/// A pair as it should be.
#[derive(Clone, Copy, Debug)]
pub struct VethSpec<'a> {
    /// Name of the host end. It belongs to the caller: a veth of this name is a left-over of its own.
    pub host: &'a str,
    /// Name of the guest end in its namespace.
    pub guest: &'a str,
    /// MAC address of the guest end; absent: the kernel's choice.
    pub guest_mac: Option<[u8; 6]>,
    /// MTU of both ends; absent: 1500.
    pub mtu: Option<u32>,
    /// Where the guest end is made. It is never seen in the host's namespace.
    pub guest_netns: BorrowedFd<'a>,
    /// The bridge that the host end is a port of.
    pub bridge: Option<&'a str>,
    /// `ifalias` of the host end.
    pub alias: Option<&'a str>,
}

/// How often a left-over is removed or waited for before it counts as somebody's.
const TRIES: u32 = 8;

impl Links {
    /// Makes the pair: the host end up (as a guest's port, [`PortFlags::GUEST`], if it has a bridge), the guest end down,
    /// for addresses to be set before a frame can pass. A left-over of the same name is removed first: a pair whose
    /// namespace is being destroyed holds its name for a while.
    ///
    /// # Errors
    /// `Exists` if the host's name is taken by a link of another kind, or the guest's name is taken in its namespace;
    /// `NoDevice` if there is no such bridge. Nothing is left then.
    pub async fn create_veth(&self, spec: &VethSpec<'_>) -> Result<(), LinkError> {
        let error = |cause: Cause| LinkError::new("make the veth", format!("{} (in the guest {})", spec.host, spec.guest), cause);
        let bridge = match spec.bridge {
            None => None,
            Some(bridge) => {
                let index = self.index(bridge).await;
                Some(index.map_err(|cause| LinkError::new("attach a port to the bridge", bridge, cause))?)
            }
        };
        let creation = creation(spec, bridge).map_err(error)?;
        let finish = finish(spec).map_err(error)?;
        self.create_in_spite_of_left_over(spec.host, &creation).await.map_err(error)?;
        let mut finished = self.change(RouteNetlinkMessage::NewLink(finish.clone()), 0).await;
        if matches!(finished, Err(Cause::Kernel { errno: libc::EAFNOSUPPORT, .. })) {
            // No IPv6 in this kernel, or an MTU too small for it.
            let without_ipv6 = without(finish, &no_ipv6_address());
            finished = self.change(RouteNetlinkMessage::NewLink(without_ipv6), 0).await;
        }
        if let Err(cause) = finished {
            let _ = self.delete(spec.host).await;
            return Err(error(cause));
        }
        Ok(())
    }

    async fn create_in_spite_of_left_over(&self, host: &str, creation: &LinkMessage) -> Result<(), Cause> {
        let mut pause = Duration::from_millis(2);
        for attempt in 1..=TRIES {
            let created = self.change(RouteNetlinkMessage::NewLink(creation.clone()), NLM_F_CREATE | NLM_F_EXCL).await;
            match created {
                Err(cause) if cause.kind() == ErrorKind::Exists && attempt < TRIES => match self.find(host).await {
                    Ok(found) if found.kind == LinkKind::Veth => {
                        let gone = self.change(RouteNetlinkMessage::DelLink(named(host)?), 0).await;
                        if let Err(refused) = gone
                            && refused.kind() != ErrorKind::NoDevice
                        {
                            return Err(refused);
                        }
                    }
                    Ok(_) => return Err(cause),
                    // Between the two requests the left-over went by itself; or the name is taken in the guest.
                    Err(absent) if absent.kind() == ErrorKind::NoDevice && attempt > 2 => return Err(cause),
                    Err(absent) if absent.kind() == ErrorKind::NoDevice => {}
                    Err(other) => return Err(other),
                },
                result => return result,
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Cause::kernel(libc::EEXIST))
    }
}

/// The one request that makes both ends.
fn creation(spec: &VethSpec<'_>, bridge: Option<u32>) -> Result<LinkMessage, Cause> {
    check_name(spec.guest)?;
    let mut peer = LinkMessage::default();
    peer.attributes.push(LinkAttribute::IfName(spec.guest.to_owned()));
    peer.attributes.push(LinkAttribute::NetNsFd(spec.guest_netns.as_raw_fd()));
    peer.attributes.extend(spec.guest_mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    let mut host = named(spec.host)?;
    host.attributes.extend(bridge.map(LinkAttribute::Controller));
    if let Some(mtu) = spec.mtu {
        peer.attributes.push(LinkAttribute::Mtu(mtu));
        host.attributes.push(LinkAttribute::Mtu(mtu));
    }
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    host.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]));
    Ok(host)
}

/// What the kernel ignores while it makes a link: alias, port flags, IPv6. The host end comes up only with them.
fn finish(spec: &VethSpec<'_>) -> Result<LinkMessage, Cause> {
    let mut host = named(spec.host)?;
    host.header.flags = LinkFlags::Up;
    host.header.change_mask = LinkFlags::Up;
    host.attributes.push(no_ipv6_address());
    if spec.bridge.is_some() {
        host.attributes.push(PortFlags::GUEST.attribute());
    }
    if let Some(alias) = spec.alias {
        if alias.len() > 255 || alias.contains('\0') {
            return Err(Cause::Invalid("an alias has at most 255 bytes and no NUL"));
        }
        host.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
    }
    Ok(host)
}

fn without(mut message: LinkMessage, attribute: &LinkAttribute) -> LinkMessage {
    message.attributes.retain(|present| present != attribute);
    message
}
