//! Which VLANs a NIC of an instance may be on.

use std::sync::OnceLock;

use triton_link::{Capabilities, LinkKind, Links};

use crate::{NicTagError, kernel};

/// A VLAN that a NIC cannot be on here.
#[derive(Debug, thiserror::Error)]
pub enum VlanError {
    /// No VLAN of Triton (ruling 62).
    #[error("vlan_id {0} is not allowed: 0, or 2 to 4094")]
    Range(u16),
    /// The kernel's bridges cannot keep VLANs apart.
    #[error("vlan_id {0}: this machine's kernel has no bridge VLAN filtering; only vlan_id 0 is possible here")]
    Unsupported(u16),
    /// It could not be found out.
    #[error(transparent)]
    Probe(#[from] NicTagError),
}

/// Whether bridges of this kernel can keep VLANs apart. Found out once per process.
///
/// # Errors
/// When trying was not possible.
pub fn vlan_support() -> Result<bool, NicTagError> {
    match SUPPORT.get() {
        Some(support) => Ok(*support),
        None => kernel::ask(async |links| support_by(&links, None).await),
    }
}

static SUPPORT: OnceLock<bool> = OnceLock::new();

/// As [`vlan_support`], by `bridge` if it is there: to read all links of a node takes longer the more guests it has.
pub(crate) async fn support_by(links: &Links, bridge: Option<&str>) -> Result<bool, NicTagError> {
    if let Some(support) = SUPPORT.get() {
        return Ok(*support);
    }
    let found = match bridge {
        Some(name) => links.get(name).await?.filter(|link| link.kind == LinkKind::Bridge),
        None => None,
    };
    let support = match found {
        Some(bridge) => Capabilities::of(&bridge),
        None => Capabilities::probe(links).await?,
    };
    Ok(*SUPPORT.get_or_init(|| support.vlan_filtering))
}

/// Whether a NIC may be on `vlan_id`, 0 being untagged.
///
/// # Errors
/// If it is out of range, or other than 0 where the kernel cannot keep VLANs apart.
pub fn check_vlan(vlan_id: u16) -> Result<(), VlanError> {
    match vlan_id {
        0 => Ok(()),
        2..=4094 if vlan_support()? => Ok(()),
        2..=4094 => Err(VlanError::Unsupported(vlan_id)),
        _ => Err(VlanError::Range(vlan_id)),
    }
}
