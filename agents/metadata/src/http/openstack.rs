//! The shape of OpenStack, as far as cloud-init needs it: version 2015-10-15. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value, json};
use triton_types::JsonMap;

use super::page::{Page, customer, keys, name, nics, text, user_data};

/// Versions that are there.
pub(crate) const VERSIONS: [&str; 3] = ["2012-08-10", "2015-10-15", "latest"];

/// Customer's keys that have a place of their own, or none.
const ELSEWHERE: [&str; 3] = ["root_authorized_keys", "user-data", "user-script"];

/// What is at a path below a version; `None` for nothing.
pub(crate) fn page(vm: &JsonMap, path: &[&str], vendor_data: impl FnOnce() -> String) -> Option<Page> {
    match path {
        [] => {
            let user_data = user_data(vm).map(|_| "user_data");
            Some(Page::list(["meta_data.json", "network_data.json", "vendor_data.json", "vendor_data2.json"].into_iter().chain(user_data)))
        }
        ["meta_data.json"] => Some(Page::json(&meta(vm))),
        ["user_data"] => user_data(vm).map(Page::text),
        ["vendor_data.json"] => {
            let text = customer(vm, "cloud-init:vendor-data").map_or_else(vendor_data, str::to_owned);
            Some(Page::json(&json!({"cloud-init": text})))
        }
        ["vendor_data2.json"] => Some(Page::json(&json!({}))),
        ["network_data.json"] => Some(Page::json(&network(vm))),
        _ => None,
    }
}

fn meta(vm: &JsonMap) -> Value {
    let keys: Map<String, Value> = keys(vm).iter().enumerate().map(|(index, key)| (format!("key-{index}"), json!(key))).collect();
    let own = vm.get("customer_metadata").and_then(Value::as_object).into_iter().flatten();
    let own = own.filter(|(key, value)| {
        let special = key.contains(':') || key.ends_with("_pw") || ELSEWHERE.contains(&key.as_str());
        value.is_string() && !special
    });
    let own: JsonMap = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut meta =
        json!({"uuid": text(vm, "uuid"), "hostname": name(vm), "name": text(vm, "alias").unwrap_or_else(|| name(vm)), "meta": own});
    if !keys.is_empty() {
        meta["public_keys"] = Value::Object(keys);
    }
    for (key, property) in [("availability_zone", "datacenter_name"), ("project_id", "owner_uuid")] {
        if let Some(value) = text(vm, property) {
            meta[key] = json!(value);
        }
    }
    meta
}

fn texts(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// Every NIC by its MAC; only the primary one has a gateway, as everywhere.
fn network(vm: &JsonMap) -> Value {
    let (mut links, mut networks) = (Vec::new(), Vec::new());
    for (index, nic) in nics(vm).enumerate() {
        let Some(mac) = nic.get("mac").and_then(Value::as_str) else { continue };
        let link = format!("link{index}");
        let mut entry = json!({"id": link, "type": "phy", "ethernet_mac_address": mac});
        if let Some(mtu) = nic.get("mtu").filter(|mtu| mtu.is_number()) {
            entry["mtu"] = mtu.clone();
        }
        links.push(entry);
        let primary = nic.get("primary") == Some(&Value::Bool(true));
        let mut gateways: Vec<IpAddr> = texts(nic.get("gateways")).filter_map(|text| text.parse().ok()).filter(|_| primary).collect();
        for address in texts(nic.get("ips")) {
            let id = format!("network{}", networks.len());
            match address {
                "dhcp" => networks.push(json!({"id": id, "type": "ipv4_dhcp", "link": link})),
                "addrconf" => networks.push(json!({"id": id, "type": "ipv6_slaac", "link": link})),
                net => networks.extend(fixed(net, &mut gateways).map(|mut network| {
                    network["id"] = json!(id);
                    network["link"] = json!(link);
                    network
                })),
            }
        }
    }
    let services: Vec<Value> = texts(vm.get("resolvers")).map(|address| json!({"type": "dns", "address": address})).collect();
    json!({"links": links, "networks": networks, "services": services})
}

/// An address with the first gateway of its family, which no other address then has.
fn fixed(net: &str, gateways: &mut Vec<IpAddr>) -> Option<Value> {
    let (address, length) = net.split_once('/')?;
    let (address, length): (IpAddr, u32) = (address.parse().ok()?, length.parse().ok()?);
    let (kind, most, any) = if address.is_ipv4() { ("ipv4", 32_u32, "0.0.0.0") } else { ("ipv6", 128, "::") };
    let ones = u128::MAX.checked_shl(most.checked_sub(length)?).unwrap_or(0);
    let netmask = if address.is_ipv4() { IpAddr::V4((ones as u32).into()) } else { IpAddr::V6(ones.into()) };
    let gateway = gateways.iter().position(|gateway| gateway.is_ipv4() == address.is_ipv4()).map(|at| gateways.remove(at));
    let routes: Vec<Value> = gateway.iter().map(|gateway| json!({"network": any, "netmask": any, "gateway": gateway})).collect();
    Some(json!({"type": kind, "ip_address": address, "netmask": netmask, "routes": routes}))
}
