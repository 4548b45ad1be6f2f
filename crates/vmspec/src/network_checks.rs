//! What must hold of an instance's NICs together, and beside those of the other instances (instances.md section 2.4).

use std::collections::HashSet;

use triton_types::{InstanceUuid, Mac, Nic, NicAddress, NicTag, VmConfig};

use crate::{NicTagStatus, OtherInstance, PayloadError, World, limits};

/// Checks the NICs as they would be; `touched` names those that the payload adds or changes, `old` are those before it. Other instances are
/// asked for only when a NIC takes a MAC or an address that it did not have: there may be thousands of them.
pub(crate) fn check(vm: InstanceUuid, old: &[Nic], nics: &[Nic], touched: &HashSet<Mac>, world: &dyn World) -> Result<(), PayloadError> {
    duplicates(nics)?;
    let changed: Vec<&Nic> = nics.iter().filter(|nic| touched.contains(&nic.mac)).collect();
    if changed
        .iter()
        .any(|nic| nic.allowed_ips.len() + nic.ips.len() + usize::from(nic.vrrp_primary_ip.is_some()) > limits::ADDRESSES_PER_NIC)
    {
        return Err(PayloadError::TooManyAddresses);
    }
    vrrp(nics)?;
    tags(&changed, world)?;
    let had = |nic: &&Nic| old.iter().any(|old| old.mac == nic.mac && addresses(nic).all(|place| addresses(old).any(|had| had == place)));
    let taking: Vec<&Nic> = changed.into_iter().filter(|nic| !had(nic)).collect();
    if taking.is_empty() { Ok(()) } else { conflicts(vm, &taking, &world.other_instances()) }
}

fn duplicates(nics: &[Nic]) -> Result<(), PayloadError> {
    let (mut macs, mut ips, mut names) = (HashSet::new(), HashSet::new(), HashSet::new());
    for nic in nics {
        if !macs.insert(nic.mac) {
            return Err(PayloadError::DuplicateMac(nic.mac));
        }
        if !names.insert(nic.interface.as_str()) {
            return Err(PayloadError::DuplicateInterface(nic.interface.clone()));
        }
        if let Some(ip) = nic.ips.iter().find(|ip| ip.net().is_some() && !ips.insert(**ip)) {
            return Err(PayloadError::DuplicateIp(*ip));
        }
    }
    Ok(())
}

fn vrrp(nics: &[Nic]) -> Result<(), PayloadError> {
    if !nics.is_empty() && nics.iter().all(|nic| nic.vrrp_vrid.is_some()) {
        return Err(PayloadError::OnlyVrrp);
    }
    for nic in nics.iter().filter(|nic| nic.vrrp_vrid.is_some()) {
        let Some(primary) = nic.vrrp_primary_ip else { continue };
        let known = nics
            .iter()
            .any(|other| other.vrrp_vrid.is_none() && other.ips.iter().any(|ip| ip.net().is_some_and(|net| net.addr() == primary)));
        if !known {
            return Err(PayloadError::VrrpPrimaryIp { nic: nic.mac });
        }
    }
    Ok(())
}

fn tags(nics: &[&Nic], world: &dyn World) -> Result<(), PayloadError> {
    let mut unknown: Vec<NicTag> = Vec::new();
    for nic in nics {
        match world.nic_tag(&nic.nic_tag) {
            NicTagStatus::Unknown if !unknown.contains(&nic.nic_tag) => unknown.push(nic.nic_tag.clone()),
            NicTagStatus::Unknown | NicTagStatus::Virtual => {}
            NicTagStatus::Physical => {
                if let Some(mtu) = nic.mtu.filter(|mtu| *mtu < 1500) {
                    return Err(PayloadError::MtuTooSmall { nic_tag: nic.nic_tag.clone(), mtu });
                }
            }
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(PayloadError::UnknownNicTags(unknown)) }
}

/// Whether the NICs of a configuration are free beside `others`: to be asked again under the lock under which the
/// configuration is stored, since another creation may have come in between.
///
/// # Errors
/// [`PayloadError::Conflict`].
pub fn check_conflicts(config: &VmConfig, others: &[OtherInstance]) -> Result<(), PayloadError> {
    conflicts(config.uuid, &config.nics.iter().collect::<Vec<_>>(), others)
}

/// The same MAC anywhere, or the same address on the same tag and VLAN (none is VLAN 0).
fn conflicts(vm: InstanceUuid, nics: &[&Nic], others: &[OtherInstance]) -> Result<(), PayloadError> {
    let macs: HashSet<Mac> = nics.iter().map(|nic| nic.mac).collect();
    let places: HashSet<_> = nics.iter().flat_map(|nic| addresses(nic)).collect();
    for other in others {
        if other.uuid == vm || other.failed {
            continue;
        }
        for nic in &other.nics {
            if macs.contains(&nic.mac) || addresses(nic).any(|place| places.contains(&place)) {
                return Err(PayloadError::Conflict { vm: other.uuid, mac: nic.mac });
            }
        }
    }
    Ok(())
}

fn addresses(nic: &Nic) -> impl Iterator<Item = (&NicTag, u16, NicAddress)> {
    let fixed = nic.ips.iter().filter(|ip| ip.net().is_some());
    fixed.map(|ip| (&nic.nic_tag, nic.vlan_id.unwrap_or(0), *ip))
}
