//! Networks and NIC tags.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{Refusals, check_version, deleted, differing, shown, stamp, tagged};
use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

/// What a change of a network may set.
const CHANGEABLE: [&str; 8] = ["description", "gateway", "mtu", "name", "owner_uuids", "resolvers", "routes", "family"];

/// First address and prefix length of `a.b.c.d/n`.
pub(super) fn subnet(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, bits) = text.split_once('/')?;
    Some((address.parse().ok()?, bits.parse().ok().filter(|bits| (8..=32).contains(bits))?))
}

fn mask(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

/// True if `network` holds the address.
pub(super) fn holds(network: &Value, address: Ipv4Addr) -> bool {
    let Some((base, bits)) = network["subnet"].as_str().and_then(subnet) else { return false };
    u32::from(base) & mask(bits) == u32::from(address) & mask(bits)
}

pub(super) async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let wanted = |network: &Value| ["name", "nic_tag"].into_iter().all(|key| call.text(key).is_none_or(|value| network[key] == value));
    Ok(Json(shared.store.list(Kind::Network)?.iter().filter(|network| wanted(network)).map(shown).collect()))
}

pub(super) async fn create(State(shared): Here, call: Call) -> Result<Response, ApiError> {
    let mut wrong = Refusals::default();
    for field in ["name", "nic_tag", "subnet", "provision_start_ip", "provision_end_ip"] {
        if call.text(field).is_none() {
            wrong.missing(field);
        }
    }
    if call.number("vlan_id").is_none_or(|vlan| vlan == 1 || vlan > 4094) {
        wrong.invalid("vlan_id", "must be 0 or 2 to 4094");
    }
    let parsed = call.text("subnet").and_then(subnet);
    if call.text("subnet").is_some() && parsed.is_none() {
        wrong.invalid("subnet", "Subnet must be in CIDR form");
    }
    if let Some(tag) = call.text("nic_tag")
        && shared.store.get(Kind::NicTag, tag)?.is_none()
    {
        wrong.invalid("nic_tag", "nic tag does not exist");
    }
    if call.number("mtu").is_some_and(|mtu| !(576..=9000).contains(&mtu)) {
        wrong.invalid("mtu", "must be an integer between 576 and 9000");
    }
    wrong.check()?;
    let (_, bits) = parsed.unwrap_or((Ipv4Addr::UNSPECIFIED, 32));
    let id = call.text("uuid").filter(|text| uuid(text).is_some()).map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
    let mut network = json!({
        "uuid": id, "family": "ipv4", "fabric": false, "internet_nat": false, "gateway_provisioned": false,
        "mtu": call.number("mtu").unwrap_or(1500), "vlan_id": call.number("vlan_id"), "resolvers": [], "routes": {},
        "netmask": Ipv4Addr::from(mask(bits)).to_string(),
    });
    for field in ["name", "nic_tag", "subnet", "provision_start_ip", "provision_end_ip", "gateway", "resolvers", "routes", "owner_uuids"] {
        if let Some(value) = call.params.get(field) {
            network[field] = value.clone();
        }
    }
    stamp(&mut network);
    shared.store.put(Kind::Network, &id, network.clone())?;
    shared.feed.publish("network", &["create"], json!({"changedResourceId": id}));
    Ok(tagged(&network, shown(&network)))
}

impl Shared {
    pub(super) fn network(&self, id: &str) -> Result<Value, ApiError> {
        self.store.get(Kind::Network, id)?.ok_or_else(|| ApiError::not_found("network not found"))
    }
}

pub(super) async fn show(State(shared): Here, Path(id): Path<String>) -> Result<Response, ApiError> {
    let network = shared.network(&id)?;
    Ok(tagged(&network, shown(&network)))
}

pub(super) async fn update(State(shared): Here, Path(id): Path<String>, call: Call) -> Result<Response, ApiError> {
    let old = shared.network(&id)?;
    check_version(&call.headers, &old)?;
    let mut new = old.clone();
    for field in CHANGEABLE {
        match call.params.get(field) {
            None => {}
            Some(Value::Null) => drop(new.as_object_mut().and_then(|map| map.remove(field))),
            Some(value) => new[field] = value.clone(),
        }
    }
    let changed = differing(&old, &new);
    stamp(&mut new);
    shared.store.put(Kind::Network, &id, new.clone())?;
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    shared.feed.publish("network", &changed, json!({"changedResourceId": id}));
    Ok(tagged(&new, shown(&new)))
}

pub(super) async fn remove(State(shared): Here, Path(id): Path<String>, call: Call) -> Result<Response, ApiError> {
    check_version(&call.headers, &shared.network(&id)?)?;
    shared.store.delete(Kind::Network, &id)?;
    shared.feed.publish("network", &["delete"], json!({"changedResourceId": id}));
    Ok(deleted())
}

pub(super) async fn tags(State(shared): Here) -> Result<Json<Vec<Value>>, ApiError> {
    Ok(Json(shared.store.list(Kind::NicTag)?.iter().map(shown).collect()))
}

pub(super) async fn create_tag(State(shared): Here, call: Call) -> Result<Response, ApiError> {
    let mut wrong = Refusals::default();
    let name = call.text("name").unwrap_or_default();
    if name.is_empty() {
        wrong.missing("name");
    } else if name.len() > 30 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        wrong.invalid("name", "NIC tag names may only have alphanumeric characters and underscores");
    } else if shared.store.get(Kind::NicTag, name)?.is_some() {
        wrong.add("name", "Duplicate", "Already exists");
    }
    wrong.check()?;
    let mut tag = json!({"name": name, "uuid": uuid::Uuid::new_v4(), "mtu": call.number("mtu").unwrap_or(1500)});
    stamp(&mut tag);
    shared.store.put(Kind::NicTag, name, tag.clone())?;
    Ok(tagged(&tag, shown(&tag)))
}

pub(super) async fn show_tag(State(shared): Here, Path(name): Path<String>) -> Result<Response, ApiError> {
    let tag = shared.store.get(Kind::NicTag, &name)?.ok_or_else(|| ApiError::not_found("nic tag not found"))?;
    Ok(tagged(&tag, shown(&tag)))
}

pub(super) async fn remove_tag(State(shared): Here, Path(name): Path<String>) -> Result<Response, ApiError> {
    if shared.store.delete(Kind::NicTag, &name)? { Ok(deleted()) } else { Err(ApiError::not_found("nic tag not found")) }
}
