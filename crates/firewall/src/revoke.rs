//! Which established connections are judged anew (section 12.4).
//!
//! A firewall that is switched on forgets what its instance's addresses had open while it was off. A change of rules leaves
//! established connections alone, as on SmartOS, unless `/usr/triton/config/firewall.json` has `"revoke": "on-change"`.

use std::{collections::BTreeSet, net::IpAddr};

use serde::Deserialize;
use triton_files::{Layout, read_json};
use triton_nft::{Connections, NftError};
use triton_types::InstanceUuid;

use crate::{FirewallError, LocalVm, StoreError};

/// When established connections are forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Revocation {
    /// When an instance's firewall is switched on.
    #[default]
    OnEnable,
    /// Also when a rule changes that names it.
    OnChange,
}

#[derive(Debug, Default, Deserialize)]
struct Settings {
    #[serde(default)]
    revoke: Revocation,
}

impl Revocation {
    pub(crate) fn read(layout: &Layout) -> Result<Self, FirewallError> {
        let settings: Option<Settings> = read_json(&layout.config().join("firewall.json")).map_err(StoreError::from)?;
        Ok(settings.unwrap_or_default().revoke)
    }
}

/// Forgets the connections of these instances in every zone: another network's with the same address are then only judged anew, too.
pub(crate) fn forget(locals: &[LocalVm], these: &BTreeSet<InstanceUuid>) {
    let addresses: BTreeSet<IpAddr> =
        locals.iter().filter(|vm| these.contains(&vm.facts.uuid)).flat_map(|vm| vm.facts.ips.iter().copied()).collect();
    if addresses.is_empty() {
        return;
    }
    let forgotten = Connections::open().and_then(|mut connections| connections.forget(|_, address| addresses.contains(&address)));
    match forgotten {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "established connections are judged anew"),
        Err(error @ NftError::Refused { .. }) if error.is_unsupported() => {}
        Err(error) => tracing::warn!(%error, "established connections could not be judged anew"),
    }
}
