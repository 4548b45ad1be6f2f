//! NICs.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{Refusals, check_version, deleted, differing, networks::holds, stamp, tagged};
use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::{Field, Kind},
};

type Here = State<Arc<Shared>>;

/// Protections and the like: stored and shown only when true.
const FLAGS: [&str; 6] =
    ["allow_dhcp_spoofing", "allow_ip_spoofing", "allow_mac_spoofing", "allow_restricted_traffic", "allow_unfiltered_promisc", "underlay"];
/// What is taken as it comes.
const PLAIN: [&str; 4] = ["belongs_to_uuid", "owner_uuid", "cn_uuid", "model"];

/// A MAC address with colons from any of the forms that NAPI takes.
pub(super) fn mac_of(text: &str) -> Option<String> {
    let octets: Vec<String> = if text.len() == 12 && text.is_ascii() {
        (0..6).map(|n| text[2 * n..2 * n + 2].to_owned()).collect()
    } else {
        text.split([':', '-']).map(|octet| format!("{octet:0>2}")).collect()
    };
    let hex = |octet: &String| octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
    (octets.len() == 6 && octets.iter().all(hex)).then(|| octets.join(":").to_lowercase())
}

fn truthy(value: &Value) -> bool {
    matches!(value, Value::Bool(true)) || matches!(value.as_str(), Some("true" | "1"))
}

impl Shared {
    fn nic(&self, mac: &str) -> Result<Value, ApiError> {
        let nic = mac_of(mac).map(|mac| self.store.get(Kind::Nic, &mac)).transpose()?.flatten();
        nic.ok_or_else(|| ApiError::not_found("nic not found"))
    }

    /// A NIC as it is shown: with what its network says.
    fn shown_nic(&self, nic: &Value) -> Value {
        let mut body = super::shown(nic);
        let network = nic["network_uuid"].as_str().and_then(|id| self.store.get(Kind::Network, id).ok().flatten());
        if let Some(network) = network {
            for key in ["gateway", "gateway_provisioned", "internet_nat", "fabric", "mtu", "netmask", "nic_tag", "resolvers", "vlan_id"] {
                if let Some(value) = network.get(key) {
                    body[key] = value.clone();
                }
            }
            if network["routes"].as_object().is_some_and(|routes| !routes.is_empty()) {
                body["routes"] = network["routes"].clone();
            }
        }
        body
    }

    /// Checks what a request sets, and sets it.
    fn set_nic(&self, nic: &mut Value, call: &Call, wrong: &mut Refusals) -> Result<(), ApiError> {
        let mac = nic["mac"].as_str().unwrap_or_default().to_owned();
        for field in ["belongs_to_uuid", "owner_uuid", "cn_uuid", "network_uuid"] {
            if call.params.get(field).is_some_and(|value| value.as_str().is_none_or(|text| uuid(text).is_none())) {
                wrong.invalid(field, "invalid UUID");
            }
        }
        for (field, words) in [("belongs_to_type", &["other", "server", "zone"]), ("state", &["provisioning", "stopped", "running"])] {
            match call.params.get(field) {
                None => {}
                Some(value) if value.as_str().is_some_and(|word| words.contains(&word)) => nic[field] = value.clone(),
                Some(_) => wrong.invalid(field, &format!("must be one of: {}", words.join(", "))),
            }
        }
        for field in PLAIN {
            if let Some(value) = call.params.get(field) {
                nic[field] = value.clone();
            }
        }
        for field in FLAGS {
            match call.params.get(field) {
                None => {}
                Some(value) if truthy(value) => nic[field] = json!(true),
                Some(_) => drop(nic.as_object_mut().and_then(|map| map.remove(field))),
            }
        }
        if let Some(value) = call.params.get("primary") {
            nic["primary"] = json!(truthy(value));
        }
        if let Some(tags) = call.params.get("nic_tags_provided") {
            let names: Vec<&str> = tags.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            for name in &names {
                if self.store.get(Kind::NicTag, name)?.is_none() {
                    wrong.invalid("nic_tags_provided", "nic tag does not exist");
                }
            }
            nic["nic_tags_provided"] = json!(names);
        }
        self.set_address(nic, &mac, call, wrong)
    }

    fn set_address(&self, nic: &mut Value, mac: &str, call: &Call, wrong: &mut Refusals) -> Result<(), ApiError> {
        let address = match call.params.get("ip") {
            None => None,
            Some(value) => match value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()) {
                Some(address) => Some(address),
                None => {
                    wrong.invalid("ip", "invalid IP address");
                    return Ok(());
                }
            },
        };
        let network = match call.text("network_uuid") {
            Some(id) => {
                let network = self.store.get(Kind::Network, id)?;
                if network.is_none() {
                    wrong.invalid("network_uuid", "network does not exist");
                }
                network
            }
            None if address.is_some() && nic.get("network_uuid").is_none() => {
                let (Some(tag), Some(vlan)) = (call.text("nic_tag"), call.number("vlan_id")) else {
                    for field in ["nic_tag", "vlan_id"].into_iter().filter(|field| !call.params.contains_key(*field)) {
                        wrong.missing(field);
                    }
                    return Ok(());
                };
                let all = self.store.list(Kind::Network)?;
                let fits = |network: &&Value| {
                    network["nic_tag"] == tag && network["vlan_id"] == vlan && address.is_some_and(|ip| holds(network, ip))
                };
                let mut found = all.iter().filter(fits);
                match (found.next(), found.next()) {
                    (Some(network), None) => Some(network.clone()),
                    (None, _) => {
                        wrong.invalid("ip", &format!("No networks found matching parameters: nic_tag={tag}, vlan_id={vlan}"));
                        None
                    }
                    _ => {
                        wrong.invalid("ip", "More than 1 network found matching parameters");
                        None
                    }
                }
            }
            None => nic["network_uuid"].as_str().map(|id| self.store.get(Kind::Network, id)).transpose()?.flatten(),
        };
        let Some(network) = network else { return Ok(()) };
        if network["fabric"] == true && nic.get("cn_uuid").is_none() {
            wrong.missing("cn_uuid");
        }
        let owners = network["owner_uuids"].as_array();
        let owned = owners.is_none_or(|owners| owners.contains(&nic["owner_uuid"]));
        if !owned && call.params.get("check_owner").is_none_or(truthy) {
            wrong.invalid("owner_uuid", "owner cannot provision on network");
        }
        let address = match address.or_else(|| nic["ip"].as_str().and_then(|ip| ip.parse().ok())) {
            Some(address) => address,
            None => match self.free_address(&network)? {
                Some(address) => address,
                None => return Err(ApiError::subnet_full()),
            },
        };
        if !holds(&network, address) {
            wrong.invalid("ip", "ip cannot be outside subnet");
            return Ok(());
        }
        let user = self
            .store
            .with(Kind::Nic, Field::Ip, &address.to_string())?
            .into_iter()
            .find(|other| other["network_uuid"] == network["uuid"] && other["mac"] != mac);
        if user.is_some() {
            wrong.add("ip", "UsedBy", "ip in use");
            return Ok(());
        }
        nic["network_uuid"] = network["uuid"].clone();
        nic["ip"] = json!(address.to_string());
        Ok(())
    }

    fn free_address(&self, network: &Value) -> Result<Option<Ipv4Addr>, ApiError> {
        let bound = |key: &str| network[key].as_str().and_then(|text| text.parse::<Ipv4Addr>().ok()).map(u32::from);
        let (Some(first), Some(last)) = (bound("provision_start_ip"), bound("provision_end_ip")) else { return Ok(None) };
        let used: Vec<Value> = self.store.list(Kind::Nic)?;
        let taken = |ip: &str| used.iter().any(|nic| nic["network_uuid"] == network["uuid"] && nic["ip"] == ip);
        Ok((first..=last).map(Ipv4Addr::from).find(|ip| !taken(&ip.to_string()) && network["gateway"] != ip.to_string()))
    }

    /// At most one NIC of an owner is primary.
    fn clear_other_primaries(&self, nic: &Value) -> Result<(), ApiError> {
        if nic["primary"] != true {
            return Ok(());
        }
        let others = self.store.with(Kind::Nic, Field::BelongsTo, nic["belongs_to_uuid"].as_str().unwrap_or_default())?;
        for other in others.iter().filter(|other| other["primary"] == true && other["mac"] != nic["mac"]) {
            self.store.update(Kind::Nic, other["mac"].as_str().unwrap_or_default(), |old| {
                let mut other = old?;
                other["primary"] = json!(false);
                stamp(&mut other);
                Some(other)
            })?;
        }
        Ok(())
    }

    fn publish_nic(&self, changed: &[&str], nic: &Value) {
        let mut item = json!({"changedResourceId": nic["mac"], "belongs_to_uuid": nic["belongs_to_uuid"], "etag": super::version(nic)});
        if let Some(cn) = nic.get("cn_uuid") {
            item["cn_uuid"] = cn.clone();
        }
        self.feed.publish("nic", changed, item);
    }
}

pub(super) async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let number = |key: &str| call.number(key).map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let limit = number("limit").unwrap_or(1000);
    if limit == 0 || limit > 1000 {
        let mut wrong = Refusals::default();
        wrong.invalid("limit", "invalid value: must be an integer between 1 and 1000");
        wrong.check()?;
    }
    let keys = ["belongs_to_type", "belongs_to_uuid", "owner_uuid", "cn_uuid", "state", "network_uuid"];
    let mut nics = shared.store.list(Kind::Nic)?;
    nics.retain(|nic| keys.into_iter().all(|key| call.text(key).is_none_or(|wanted| wanted.split(',').any(|wanted| nic[key] == wanted))));
    let page = nics.iter().skip(number("offset").unwrap_or(0)).take(limit);
    Ok(Json(page.map(|nic| shared.shown_nic(nic)).collect()))
}

pub(super) async fn show(State(shared): Here, Path(mac): Path<String>) -> Result<Response, ApiError> {
    if mac.contains(':') {
        let problem = crate::violations::Problem::new(format!("/nics/{mac}"), "software does not use colons in paths");
        shared.violations.add(&shared.clock.iso(), None, "request", [problem]);
    }
    let nic = shared.nic(&mac)?;
    Ok(tagged(&nic, shared.shown_nic(&nic)))
}

pub(super) async fn create(State(shared): Here, call: Call) -> Result<Response, ApiError> {
    let mut wrong = Refusals::default();
    for field in ["belongs_to_uuid", "belongs_to_type", "owner_uuid"] {
        if !call.params.contains_key(field) {
            wrong.missing(field);
        }
    }
    let mac = match call.params.get("mac") {
        None => format!("90:b8:d0:{:02x}:{:02x}:{:02x}", rand::random::<u8>(), rand::random::<u8>(), rand::random::<u8>()),
        Some(given) => match given.as_str().and_then(mac_of) {
            Some(mac) => mac,
            None => {
                wrong.invalid("mac", "invalid MAC address");
                String::new()
            }
        },
    };
    if shared.store.get(Kind::Nic, &mac)?.is_some() {
        wrong.add("mac", "Duplicate", "Already exists");
    }
    let now = shared.clock.iso();
    let mut nic = json!({"mac": mac, "primary": false, "state": "provisioning", "created_timestamp": now, "modified_timestamp": now});
    shared.set_nic(&mut nic, &call, &mut wrong)?;
    wrong.check()?;
    stamp(&mut nic);
    shared.store.put(Kind::Nic, &mac, nic.clone())?;
    shared.clear_other_primaries(&nic)?;
    shared.publish_nic(&["create"], &nic);
    Ok(tagged(&nic, shared.shown_nic(&nic)))
}

pub(super) async fn update(State(shared): Here, Path(mac): Path<String>, call: Call) -> Result<Response, ApiError> {
    let old = shared.nic(&mac)?;
    check_version(&call.headers, &old)?;
    let mut wrong = Refusals::default();
    let mut new = old.clone();
    shared.set_nic(&mut new, &call, &mut wrong)?;
    wrong.check()?;
    let changed = differing(&old, &new);
    new["modified_timestamp"] = json!(shared.clock.iso());
    stamp(&mut new);
    shared.store.put(Kind::Nic, new["mac"].as_str().unwrap_or_default(), new.clone())?;
    shared.clear_other_primaries(&new)?;
    let changed: Vec<&str> = changed.iter().map(String::as_str).collect();
    shared.publish_nic(&changed, &new);
    Ok(tagged(&new, shared.shown_nic(&new)))
}

pub(super) async fn remove(State(shared): Here, Path(mac): Path<String>, call: Call) -> Result<Response, ApiError> {
    let nic = shared.nic(&mac)?;
    check_version(&call.headers, &nic)?;
    shared.store.delete(Kind::Nic, nic["mac"].as_str().unwrap_or_default())?;
    shared.publish_nic(&["delete"], &nic);
    Ok(deleted())
}
