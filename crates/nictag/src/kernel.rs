//! Asking the kernel from synchronous code, and finding a tag's NIC among its links.

use std::{panic, thread};

use triton_link::{Link, LinkKind, Links, NetNs};
use triton_netconf::{Provider, aggregation_link};

use crate::NicTagError;

/// Host ends of instances' NICs begin with this (ruling 24): they are nobody's uplink.
pub(crate) const INSTANCE_LINK: &str = "vt";

/// Runs `question` with the links of the calling thread's namespace, on a thread with a runtime of its own.
pub(crate) fn ask<T: Send>(question: impl AsyncFnOnce(Links) -> Result<T, NicTagError> + Send) -> Result<T, NicTagError> {
    let netns = NetNs::current()?;
    thread::scope(|scope| {
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NicTagError::Kernel)?;
            runtime.block_on(question(Links::of(netns)))
        };
        let thread = thread::Builder::new().name("nictag".to_owned()).spawn_scoped(scope, run).map_err(NicTagError::Kernel)?;
        thread.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked))
    })
}

/// The link that provides: the NIC with the MAC address, or the aggregation's bond. Links that only borrow the address of
/// one below (bridges, VLANs) are none. A port of `bridge` comes first, then real devices.
pub(crate) fn uplink<'a>(links: &'a [Link], provider: &Provider, bridge: Option<u32>) -> Option<&'a Link> {
    let mac = match provider {
        Provider::Nic(mac) => mac,
        Provider::Aggregation(name) => {
            let name = aggregation_link(name);
            return links.iter().find(|link| link.name == name && link.kind != LinkKind::Bridge);
        }
        Provider::Nothing => return None,
    };
    let borrowed = |link: &Link| match &link.kind {
        LinkKind::Bridge | LinkKind::Vlan | LinkKind::Loopback => true,
        LinkKind::Veth => link.name.starts_with(INSTANCE_LINK),
        LinkKind::Other(kind) => ["macvlan", "macvtap", "ipvlan"].contains(&kind.as_str()),
        LinkKind::Physical => false,
    };
    let has = |link: &&Link| link.permanent_mac == Some(mac.0) || link.mac == Some(mac.0);
    let candidates = links.iter().filter(|link| !borrowed(link)).filter(has);
    candidates.min_by_key(|link| (bridge.is_none() || link.master != bridge, link.kind != LinkKind::Physical, link.index))
}
