//! VLAN devices.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVlan, LinkAttribute, LinkInfo},
};

use crate::{Cause, ErrorKind, LinkError, LinkKind, Links, links::named};

impl Links {
    /// Makes `name` the device of VLAN `vlan_id` of the link `parent`. It is down at first.
    ///
    /// # Errors
    /// `Unsupported` if the kernel has no VLAN devices; `Exists` if another link has the name; `NoDevice` if there is no
    /// such parent.
    pub async fn ensure_vlan_link(&self, name: &str, parent: &str, vlan_id: u16) -> Result<(), LinkError> {
        let make = async {
            if !(1..=4094).contains(&vlan_id) {
                return Err(Cause::Invalid("a VLAN is 1 to 4094"));
            }
            let parent = self.index(parent).await?;
            let mut message = named(name)?;
            let data = InfoData::Vlan(vec![InfoVlan::Id(vlan_id)]);
            message.attributes.push(LinkAttribute::Link(parent));
            message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)]));
            match self.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).await {
                Err(cause) if cause.kind() == ErrorKind::Exists => match self.find(name).await {
                    Ok(found) if found.kind == LinkKind::Vlan && found.parent == Some(parent) && found.vlan_id == Some(vlan_id) => Ok(()),
                    _ => Err(cause),
                },
                result => result,
            }
        };
        make.await.map_err(|cause| LinkError::new("make the VLAN link", format!("{name} (VLAN {vlan_id} of {parent})"), cause))
    }
}
