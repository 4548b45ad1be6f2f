//! The port of a bridge that an instance's NIC is.

use triton_link::{BridgeVlan, FdbEntry, LinkError, Links, PortFlags};

use crate::kernel::INSTANCE_LINK;

/// Sets the port `host` of a tag's bridge up for a NIC with address `mac` on `vlan_id` (0: untagged, ruling 19).
///
/// Without `learning` the bridge knows `mac` here and nothing else, whatever the guest or anybody sends (rulings 15, 69).
/// With it (`allow_mac_spoofing`, VRRP) the bridge learns, and there is no static entry (ruling 24). Frames to unknown
/// addresses never come here. On a bridge that filters VLANs the port is untagged member of its VLAN only, and the ways
/// out of the bridge become members too.
///
/// # Errors
/// Names the link; `Unsupported` if `vlan_id` is not 0 and the kernel does not filter VLANs.
pub async fn set_port(links: &Links, host: &str, mac: [u8; 6], vlan_id: u16, learning: bool) -> Result<(), LinkError> {
    let vid = if vlan_id == 0 { 1 } else { vlan_id };
    let all = links.list().await?;
    let port = all.iter().find(|link| link.name == host);
    let bridge = port.and_then(|port| port.master).and_then(|master| all.iter().find(|link| link.index == master));
    let filters = bridge.is_some_and(|bridge| bridge.vlan_filtering == Some(true));
    links.set_port(host, PortFlags { learning: Some(learning), ..PortFlags::GUEST }).await?;
    if filters || vlan_id != 0 {
        links.add_vlan(host, BridgeVlan { vid, pvid: true, untagged: true }).await?;
        for other in links.vlans(host).await?.into_iter().filter(|other| other.vid != vid) {
            links.remove_vlan(host, other.vid).await?;
        }
    }
    if let Some(bridge) = bridge.filter(|_| filters && vlan_id != 0) {
        for way_out in all.iter().filter(|link| link.master == Some(bridge.index) && !link.name.starts_with(INSTANCE_LINK)) {
            links.add_vlan(&way_out.name, BridgeVlan { vid, pvid: false, untagged: false }).await?;
        }
    }
    let entry = FdbEntry { mac, vlan: filters.then_some(vid), sticky: true };
    if learning { links.remove_fdb(host, entry).await } else { links.add_fdb(host, entry).await }
}
