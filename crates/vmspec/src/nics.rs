//! The NICs of an instance after a payload: added, updated, removed, named and ordered (instances.md section 2.4).

use std::collections::HashSet;

use serde_json::Value;
use triton_types::{InstanceUuid, JsonMap, Mac, Nic};

use crate::{PayloadError, World, limits, network_checks, nic_input::NicInput, primary, validate::Warnings, value};

/// Interface names are this and the lowest free number, in VM objects and inside the guest.
pub const INTERFACE_PREFIX: &str = "net";

/// What a payload asks of the NICs.
#[derive(Default)]
pub(crate) struct NicWishes {
    pub add: Vec<JsonMap>,
    pub update: Vec<JsonMap>,
    pub remove: Vec<Mac>,
}

impl NicWishes {
    /// Takes the NIC properties out of a payload that passed validation.
    pub(crate) fn take(payload: &mut JsonMap) -> Self {
        let mut objects = |name: &str| match payload.shift_remove(name) {
            Some(Value::Array(list)) => {
                list.into_iter().filter_map(|v| if let Value::Object(map) = v { Some(map) } else { None }).collect()
            }
            _ => Vec::new(),
        };
        let (mut add, added, update): (Vec<_>, Vec<_>, _) = (objects("nics"), objects("add_nics"), objects("update_nics"));
        add.extend(added);
        let remove = payload.shift_remove("remove_nics").and_then(|list| value::list(&list).ok()).unwrap_or_default();
        Self { add, update, remove: remove.iter().filter_map(|mac| mac.parse().ok()).collect() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.add.is_empty() && self.update.is_empty() && self.remove.is_empty()
    }
}

/// The NICs of instance `vm` after the wishes. Nothing is kept on an error.
pub(crate) fn apply(
    vm: InstanceUuid,
    old: &[Nic],
    wishes: NicWishes,
    world: &dyn World,
    warnings: &mut Warnings,
) -> Result<Vec<Nic>, PayloadError> {
    if wishes.is_empty() {
        return Ok(old.to_vec());
    }
    if wishes.add.len() > limits::NICS || wishes.update.len() > limits::NICS {
        return Err(PayloadError::TooMany { field: "nics", limit: limits::NICS });
    }
    let added = wishes.add.into_iter().map(|nic| NicInput::read(nic, true)).collect::<Result<Vec<_>, _>>()?;
    let mut updated = Vec::with_capacity(wishes.update.len().min(limits::NICS));
    for nic in wishes.update {
        if value::text(nic.get("mac").unwrap_or(&Value::Null)).is_ok_and(|mac| mac.is_none()) {
            return Err(PayloadError::NicWithoutMac);
        }
        updated.push(NicInput::read(nic, false)?);
    }
    if added.iter().chain(&updated).filter(|nic| nic.primary).count() > 1 {
        return Err(PayloadError::SeveralPrimaries);
    }

    let mut nics = removed(old, &wishes.remove, warnings);
    let had_none_left = nics.is_empty();
    let mut touched = HashSet::new();
    let mut new_primary = None;
    for input in updated {
        let mac = input.mac.ok_or(PayloadError::NicWithoutMac)?;
        let nic = nics.iter_mut().find(|nic| nic.mac == mac).ok_or(PayloadError::UnknownNic(mac))?;
        let wants_primary = input.primary;
        let mut changed = with_vrrp_mac(input.change(nic)?, nic.vrrp_vrid.is_some(), &touched);
        changed.primary = nic.primary;
        touched.insert(changed.mac);
        if wants_primary {
            new_primary = Some(changed.mac);
        }
        *nic = changed;
    }
    let mut taken: HashSet<Mac> = nics.iter().map(|nic| nic.mac).chain(added.iter().filter_map(|nic| nic.mac)).collect();
    let mut indices: HashSet<u32> = nics.iter().map(Nic::index).collect();
    let mut next = 0;
    for input in added {
        while !indices.insert(next) {
            next += 1;
        }
        let mac = input.mac.unwrap_or_else(|| random_mac(&taken));
        let wants_primary = input.primary;
        let mut nic = with_vrrp_mac(input.build(format!("{INTERFACE_PREFIX}{next}"), mac)?, false, &taken);
        nic.primary = false;
        taken.insert(nic.mac);
        touched.insert(nic.mac);
        if wants_primary {
            new_primary = Some(nic.mac);
        }
        nics.push(nic);
    }
    if nics.len() > limits::NICS {
        return Err(PayloadError::TooMany { field: "nics", limit: limits::NICS });
    }
    nics.sort_by_key(Nic::index);
    let lost_primary = old.iter().any(|nic| nic.primary && wishes.remove.contains(&nic.mac));
    primary::settle(&mut nics, new_primary, lost_primary, had_none_left);
    network_checks::check(vm, old, &nics, &touched, world)?;
    Ok(nics)
}

fn removed(old: &[Nic], remove: &[Mac], warnings: &mut Warnings) -> Vec<Nic> {
    let remove: HashSet<Mac> = remove.iter().copied().collect();
    for mac in remove.iter().filter(|mac| !old.iter().any(|nic| nic.mac == **mac)) {
        warnings.push(format!("no NIC to remove with MAC {mac}"));
    }
    old.iter().filter(|nic| !remove.contains(&nic.mac)).cloned().collect()
}

/// VRRP dictates the MAC; a NIC that is no longer a VRRP one gets an address of its own again.
fn with_vrrp_mac(mut nic: Nic, was_vrrp: bool, taken: &HashSet<Mac>) -> Nic {
    match nic.vrrp_vrid {
        Some(vrid) => nic.mac = Mac([0x00, 0x00, 0x5e, 0x00, 0x01, vrid]),
        None if was_vrrp => nic.mac = random_mac(taken),
        None => {}
    }
    nic
}

/// A locally administered unicast address: a random digit from 1 to f, then 2 (section 2.4).
fn random_mac(taken: &HashSet<Mac>) -> Mac {
    loop {
        let mut octets: [u8; 6] = rand::random();
        octets[0] = (octets[0] & 0xf0) | 0x02;
        let mac = Mac(octets);
        // At most 64 of 15 * 2^40 addresses are taken: the loop ends.
        if octets[0] != 0x02 && !taken.contains(&mac) {
            return mac;
        }
    }
}
