//! `machine_update_nics`: a network changed, and its instances follow (cn-agent.md section 3.5).

use std::{collections::BTreeMap, net::Ipv4Addr};

use ipnet::Ipv4Net;
use serde_json::{Value, json};
use triton_types::{InstanceUuid, JsonMap};

use super::{Model, prefixed};
use crate::{Params, TaskContext, TaskError};

/// Updates every instance that is on the original network, one after the other.
pub(super) async fn machine_update_nics(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let change = Change::read(&context.params)?;
    let all = model.read(&context, |model| model.machines.list()).await?.map_err(|error| prefixed("vmadm.lookup error", &error))?;
    for vm in &all {
        let Some(uuid) = vm.get("uuid").and_then(Value::as_str).and_then(|uuid| uuid.parse::<InstanceUuid>().ok()) else { continue };
        let Some(update) = change.update_of(vm) else { continue };
        let result = model.change(&context, move |model| model.machines.update(uuid, update)).await?;
        result.map_err(|error| TaskError::failed(format!("Error updating VM \"{uuid}\": {error}")))?;
    }
    // NAPI's bulk request names no instance: there is none to show then.
    match context.params.get("uuid") {
        Some(_) => model.vm_result(&context, context.params.id("uuid")?).await,
        None => Ok(json!({})),
    }
}

/// A network as NAPI describes it.
#[derive(Debug)]
struct Network {
    uuid: Option<String>,
    subnet: Ipv4Net,
    tag: Option<String>,
    vlan: Option<String>,
    gateway: Option<String>,
    resolvers: Vec<Value>,
    routes: BTreeMap<String, Value>,
}

/// A number or its text: `5` and `"5"` are the same VLAN.
fn loose(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

impl Network {
    fn read(value: &Value) -> Option<Self> {
        let subnet = value.get("subnet")?.as_str()?.parse().ok()?;
        Some(Self {
            uuid: text(value, "uuid"),
            subnet,
            tag: text(value, "nic_tag"),
            vlan: loose(value.get("vlan_id")),
            gateway: text(value, "gateway"),
            resolvers: value.get("resolvers").and_then(Value::as_array).cloned().unwrap_or_default(),
            routes: value.get("routes").and_then(Value::as_object).into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        })
    }

    /// True if the NIC's address is one of this network's, with its netmask and VLAN. The last address is not.
    fn holds(&self, nic: &Value) -> bool {
        let Some(address) = text(nic, "ip").and_then(|ip| ip.parse::<Ipv4Addr>().ok()) else { return false };
        let netmask = text(nic, "netmask").and_then(|netmask| netmask.parse::<Ipv4Addr>().ok());
        let vlan = loose(nic.get("vlan_id")).unwrap_or_else(|| "0".to_owned());
        self.subnet.contains(&address)
            && address != self.subnet.broadcast()
            && netmask == Some(self.subnet.netmask())
            && vlan == self.vlan.as_deref().unwrap_or("0")
    }
}

/// The request.
#[derive(Debug)]
struct Change {
    original: Network,
    networks: Vec<Network>,
}

impl Change {
    fn read(params: &Params) -> Result<Self, TaskError> {
        let mut invalid = Vec::new();
        let mut networks = Vec::new();
        match params.get("networks").and_then(Value::as_array).filter(|list| !list.is_empty()) {
            None => invalid.push("networks".to_owned()),
            Some(list) => {
                let mut bad = Vec::new();
                for value in list {
                    match Network::read(value) {
                        Some(network) => networks.push(network),
                        None => bad.push(text(value, "uuid").unwrap_or_else(|| "?".to_owned())),
                    }
                }
                if !bad.is_empty() {
                    invalid.push(format!("networks ({})", bad.join(", ")));
                }
            }
        }
        let original = params.get("original_network").and_then(Network::read);
        if original.is_none() {
            invalid.push("original_network".to_owned());
        }
        match original.filter(|_| invalid.is_empty()) {
            Some(original) => Ok(Self { original, networks }),
            None => {
                let plural = if invalid.len() == 1 { "" } else { "s" };
                Err(TaskError::failed(format!("Invalid request parameter{plural}: {}", invalid.join(", "))))
            }
        }
    }

    /// What an instance needs; `None` if it is not on the original network, or has everything.
    fn update_of(&self, vm: &Value) -> Option<JsonMap> {
        let nics = vm.get("nics").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let on_original =
            |nic: &&Value| (self.original.tag.is_none() || text(nic, "nic_tag") == self.original.tag) && self.original.holds(nic);
        if !nics.iter().any(|nic| on_original(&nic)) {
            return None;
        }
        let mut update = JsonMap::new();
        let renewed = self.networks.iter().find(|network| network.uuid == self.original.uuid);
        let gateway = renewed.or(self.networks.first()).and_then(|network| network.gateway.as_ref());
        let mut changed = Vec::new();
        for nic in nics.iter().filter(on_original) {
            if let (Some(gateway), Some(mac)) = (gateway, text(nic, "mac"))
                && text(nic, "gateway").as_ref() != Some(gateway)
            {
                changed.push(json!({"mac": mac, "gateway": gateway}));
            }
        }
        if !changed.is_empty() {
            update.insert("update_nics".to_owned(), Value::Array(changed));
        }
        let matched: Vec<&Network> = self.networks.iter().filter(|network| nics.iter().any(|nic| network.holds(nic))).collect();
        if vm.pointer("/internal_metadata/set_resolvers") != Some(&Value::Bool(false)) {
            let mut resolvers: Vec<Value> = Vec::new();
            for resolver in matched.iter().flat_map(|network| &network.resolvers) {
                if !resolvers.contains(resolver) {
                    resolvers.push(resolver.clone());
                }
            }
            if vm.get("resolvers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() != resolvers {
                update.insert("resolvers".to_owned(), Value::Array(resolvers));
            }
        }
        let wanted: BTreeMap<&String, &Value> = matched.iter().flat_map(|network| &network.routes).collect();
        let has = vm.get("routes").and_then(Value::as_object).cloned().unwrap_or_default();
        let set: JsonMap =
            wanted.iter().filter(|(to, via)| has.get(**to) != Some(**via)).map(|(to, via)| ((*to).clone(), (*via).clone())).collect();
        let remove: Vec<&String> = has.keys().filter(|to| !wanted.contains_key(*to)).collect();
        if !set.is_empty() {
            update.insert("set_routes".to_owned(), Value::Object(set));
        }
        if !remove.is_empty() {
            update.insert("remove_routes".to_owned(), json!(remove));
        }
        (!update.is_empty()).then_some(update)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Change, String> {
        Change::read(&Params::new(value)).map_err(|error| error.to_string())
    }

    /// cn-agent case 43
    #[test]
    fn what_is_missing_or_wrong_is_named() {
        assert_eq!(read(json!({})).unwrap_err(), "Invalid request parameters: networks, original_network");
        let original = json!({"subnet": "10.0.0.0/24"});
        assert_eq!(read(json!({"networks": [], "original_network": original})).unwrap_err(), "Invalid request parameter: networks");
        let error = read(json!({"networks": [{"uuid": "n1", "subnet": "10.0.0.0"}], "original_network": {}})).unwrap_err();
        assert_eq!(error, "Invalid request parameters: networks (n1), original_network");
    }

    #[test]
    fn instances_on_the_network_get_its_gateway_resolvers_and_routes() {
        let change = read(json!({
            "original_network": {"uuid": "n1", "subnet": "10.0.0.0/24", "nic_tag": "external", "vlan_id": 5, "gateway": "10.0.0.1"},
            "networks": [
                {"uuid": "n1", "subnet": "10.0.0.0/24", "vlan_id": "5", "gateway": "10.0.0.2", "resolvers": ["8.8.8.8", "9.9.9.9"], "routes": {"10.9.0.0/16": "10.0.0.3"}},
                {"uuid": "n2", "subnet": "10.1.0.0/24", "vlan_id": 0, "resolvers": ["9.9.9.9", "1.1.1.1"]},
            ],
        }))
        .unwrap();
        let nic = |ip: &str, vlan: Value| json!({"mac": format!("m{ip}"), "ip": ip, "netmask": "255.255.255.0", "nic_tag": "external", "vlan_id": vlan, "gateway": "10.0.0.1"});
        let mut vm = json!({"uuid": "v", "nics": [nic("10.0.0.7", json!(5)), nic("10.1.0.7", json!(0))], "resolvers": ["8.8.8.8"], "routes": {"10.8.0.0/16": "10.0.0.9"}});
        let update = change.update_of(&vm).unwrap();
        let expected = json!({
            "update_nics": [{"mac": "m10.0.0.7", "gateway": "10.0.0.2"}],
            "resolvers": ["8.8.8.8", "9.9.9.9", "1.1.1.1"],
            "set_routes": {"10.9.0.0/16": "10.0.0.3"},
            "remove_routes": ["10.8.0.0/16"],
        });
        assert_eq!(Value::Object(update), expected);
        vm["internal_metadata"] = json!({"set_resolvers": false});
        assert!(!change.update_of(&vm).unwrap().contains_key("resolvers"));
        for other in [nic("10.0.0.7", json!(6)), nic("10.0.1.7", json!(5)), nic("10.0.0.255", json!(5)), json!({"mac": "m", "ip": "dhcp"})]
        {
            assert_eq!(change.update_of(&json!({"nics": [other]})), None);
        }
    }
}
