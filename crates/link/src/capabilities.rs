//! What this kernel can do with links, found out by doing it.

use crate::{BridgeSpec, ErrorKind, Link, LinkError, LinkKind, Links, NetNs};

/// Facilities that some kernels lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Bridges can keep VLANs apart.
    pub vlan_filtering: bool,
}

impl Capabilities {
    /// As this bridge shows them: it has the property or its kernel does not know it.
    pub fn of(bridge: &Link) -> Self {
        Self { vlan_filtering: bridge.vlan_filtering.is_some() }
    }

    /// Looks at a bridge that is there. Where there is none, tries each facility
    /// in a namespace of its own, which ends with the call: no link of the machine is touched. A bridge takes tens of milliseconds to
    /// make, which every start of an instance would pay.
    ///
    /// # Errors
    /// When looking or trying was not possible.
    pub async fn probe(here: &Links) -> Result<Self, LinkError> {
        let there = here.list().await?.into_iter().find(|link| link.kind == LinkKind::Bridge);
        if let Some(bridge) = there {
            return Ok(Self::of(&bridge));
        }
        let links = Links::of(NetNs::create()?);
        let spec = BridgeSpec { vlan_filtering: true, ..BridgeSpec::new("probe") };
        let vlan_filtering = match links.ensure_bridge(&spec).await {
            Ok(bridge) => bridge.vlan_filtering == Some(true),
            Err(error) if error.kind() == ErrorKind::Unsupported => false,
            Err(error) => return Err(error),
        };
        Ok(Self { vlan_filtering })
    }
}
