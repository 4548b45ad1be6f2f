//! Which NIC is the primary one (instances.md section 2.4). At most one is.

use ipnet::IpNet;
use triton_types::{Mac, Nic};

/// Sets the flag on one of `nics`, which are in the order of their index.
///
/// `wanted` is the NIC that the payload names. Without one the flag stays where it is; if its NIC went away (`lost`), a
/// successor is chosen; NICs that came to an instance without any (`first`) have the first of them primary.
pub(crate) fn settle(nics: &mut [Nic], wanted: Option<Mac>, lost: bool, first: bool) {
    let chosen = match wanted {
        Some(mac) => Some(mac),
        None if nics.iter().any(|nic| nic.primary) => return,
        None if lost && first => successor(nics).or(nics.first().map(|nic| nic.mac)),
        None if lost => successor(nics),
        None if first => nics.first().map(|nic| nic.mac),
        None => None,
    };
    for nic in nics {
        nic.primary = chosen == Some(nic.mac);
    }
}

/// The lowest NIC with a public IPv4 address, else the lowest with a private one.
fn successor(nics: &[Nic]) -> Option<Mac> {
    let with = |private: bool| {
        nics.iter().find(|nic| {
            nic.ips.iter().any(|ip| match ip.net() {
                Some(IpNet::V4(net)) => net.addr().is_private() == private,
                _ => false,
            })
        })
    };
    with(false).or_else(|| with(true)).map(|nic| nic.mac)
}
