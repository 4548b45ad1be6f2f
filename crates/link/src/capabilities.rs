//! What this kernel can do with links, found out by doing it.

use crate::{BridgeSpec, ErrorKind, LinkError, Links, NetNs};

/// Facilities that some kernels lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Bridges can keep VLANs apart.
    pub vlan_filtering: bool,
}

impl Capabilities {
    /// Tries each facility in a namespace of its own, which ends with the call: no link of the machine is touched.
    ///
    /// # Errors
    /// When trying was not possible.
    pub async fn probe() -> Result<Self, LinkError> {
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
