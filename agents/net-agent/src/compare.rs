//! Who is right about which field of a NIC, and what follows from a difference (net-agent.md sections 1 and 4). Pure.

use std::net::Ipv4Addr;

use serde_json::{Value, json};
use triton_types::JsonMap;

/// The node is right: pushed to NAPI.
pub const LOCAL: [&str; 6] = ["belongs_to_type", "belongs_to_uuid", "cn_uuid", "owner_uuid", "primary", "state"];
/// What NAPI decides about a guest's protection.
pub const PROTECTION: [&str; 4] = ["allow_dhcp_spoofing", "allow_ip_spoofing", "allow_mac_spoofing", "allow_restricted_traffic"];
/// What NAPI decides about a guest's address. `model` and `allow_unfiltered_promisc` are not among them: a container has neither, and
/// would be told of them for ever.
const ADDRESS: [(&str, Kind); 5] =
    [("gateway", Kind::Ipv4), ("mtu", Kind::Number), ("network_uuid", Kind::Text), ("nic_tag", Kind::Text), ("vlan_id", Kind::Number)];
/// What of a network concerns its NICs.
pub const NETWORK: [&str; 7] = ["gateway", "mtu", "netmask", "nic_tag", "resolvers", "routes", "vlan_id"];

/// What a field of NAPI's must be to be believed.
#[derive(Clone, Copy)]
enum Kind {
    Ipv4,
    Number,
    Text,
}

impl Kind {
    fn is(self, value: &Value) -> bool {
        match self {
            Self::Ipv4 => ipv4(Some(value)).is_some(),
            Self::Number => value.is_u64(),
            Self::Text => value.as_str().is_some_and(|text| !text.is_empty()),
        }
    }
}

fn ipv4(value: Option<&Value>) -> Option<Ipv4Addr> {
    value?.as_str()?.parse().ok()
}

/// A protection as either side may write it: absent, null, `false`, `"false"` and `"0"` are the same.
pub fn is_on(value: Option<&Value>) -> bool {
    match value {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => matches!(text.as_str(), "true" | "1"),
        _ => false,
    }
}

/// Fields that NAPI has to be told: those that the node knows and NAPI has otherwise. `primary` is told only when it is true.
pub fn to_napi(local: &JsonMap, remote: &JsonMap) -> JsonMap {
    let mut told = JsonMap::new();
    for field in LOCAL {
        let Some(value) = local.get(field) else { continue };
        let differs = if field == "primary" { is_on(Some(value)) && !is_on(remote.get(field)) } else { remote.get(field) != Some(value) };
        if differs {
            told.insert(field.to_owned(), value.clone());
        }
    }
    told
}

/// Fields that a guest's NIC has to be given, as `update_nics` takes them, without the `mac`: those that NAPI has and the node has
/// otherwise. `ips` are all addresses of the NIC: NAPI knows the first IPv4 one.
pub fn to_guest(local: &JsonMap, ips: &[String], remote: &JsonMap) -> JsonMap {
    let mut given = JsonMap::new();
    for field in PROTECTION {
        let wanted = is_on(remote.get(field));
        if wanted != is_on(local.get(field)) {
            given.insert(field.to_owned(), json!(wanted));
        }
    }
    for (field, kind) in ADDRESS {
        if let Some(value) = remote.get(field).filter(|value| kind.is(value))
            && local.get(field) != Some(value)
        {
            given.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(ips) = addresses(local, ips, remote) {
        given.insert("ips".to_owned(), json!(ips));
    }
    given
}

/// The addresses as they should be, if NAPI has another first IPv4 address or netmask. A NIC that is given its address by DHCP keeps that.
fn addresses(local: &JsonMap, ips: &[String], remote: &JsonMap) -> Option<Vec<String>> {
    let (ip, netmask) = (ipv4(remote.get("ip"))?, ipv4(remote.get("netmask"))?);
    let bits = ipnet::ipv4_mask_to_prefix(netmask).ok()?;
    let same = ipv4(local.get("ip")) == Some(ip) && ipv4(local.get("netmask")) == Some(netmask);
    if same || ips.iter().any(|ip| ip == "dhcp") {
        return None;
    }
    let new = format!("{ip}/{bits}");
    let mut wanted = ips.to_vec();
    match wanted.iter_mut().find(|ip| ip.parse::<ipnet::Ipv4Net>().is_ok()) {
        Some(first) => *first = new,
        None => wanted.insert(0, new),
    }
    Some(wanted)
}

/// True if any of `fields` is another in `new` than in `old`; what was never seen is another.
pub fn changed(old: Option<&JsonMap>, new: &JsonMap, fields: &[&str]) -> bool {
    old.is_none_or(|old| fields.iter().any(|field| old.get(*field) != new.get(*field)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(value: Value) -> JsonMap {
        let Value::Object(map) = value else { panic!("no object: {value}") };
        map
    }

    /// net-agent case 5, 10, 33
    #[test]
    fn napi_is_told_what_differs_and_of_primary_only_that_it_is() {
        let local = map(json!({"belongs_to_type": "zone", "owner_uuid": "o", "state": "running", "cn_uuid": "c"}));
        let mut remote = local.clone();
        remote.extend(map(json!({"primary": true, "vlan_id": 0, "mtu": 1500})));
        assert!(to_napi(&local, &remote).is_empty(), "primary that is not known here is not taken back");
        remote.insert("state".to_owned(), json!("provisioning"));
        remote.insert("primary".to_owned(), json!(false));
        assert_eq!(to_napi(&local, &remote), map(json!({"state": "running"})));
        let mut primary = local.clone();
        primary.insert("primary".to_owned(), json!(true));
        assert_eq!(to_napi(&primary, &remote), map(json!({"primary": true, "state": "running"})));
        primary.insert("primary".to_owned(), json!(false));
        remote.insert("primary".to_owned(), json!(true));
        assert_eq!(to_napi(&primary, &remote), map(json!({"state": "running"})));
    }

    /// net-agent case 12, 33
    #[test]
    fn protections_are_compared_by_what_they_mean_and_other_fields_by_value() {
        let ips = ["10.0.0.5/24".to_owned()];
        let base = json!({"ip": "10.0.0.5", "netmask": "255.255.255.0", "vlan_id": 0, "mtu": 1500, "nic_tag": "external"});
        let with = |extra: Value| {
            let mut all = map(base.clone());
            all.extend(map(extra));
            all
        };
        for (local, remote) in [
            (json!({"allow_ip_spoofing": false}), json!({})),
            (json!({}), json!({"allow_ip_spoofing": null})),
            (json!({}), json!({"allow_ip_spoofing": "0"})),
            (json!({"allow_ip_spoofing": "true"}), json!({"allow_ip_spoofing": true})),
            (json!({"model": "virtio"}), json!({})),
            (json!({}), json!({"model": "virtio", "allow_unfiltered_promisc": true})),
            // Of a wrong type: not believed.
            (json!({}), json!({"mtu": "1500", "gateway": 5, "nic_tag": "", "ip": "fd00::5", "netmask": "64"})),
        ] {
            assert_eq!(to_guest(&with(local), &ips, &with(remote.clone())), map(json!({})), "{remote}");
        }
        let given = to_guest(&with(json!({"allow_mac_spoofing": true})), &ips, &with(json!({"allow_ip_spoofing": "1", "mtu": 9000})));
        assert_eq!(given, map(json!({"allow_ip_spoofing": true, "allow_mac_spoofing": false, "mtu": 9000})));
        assert_eq!(to_guest(&with(json!({"vlan_id": "0"})), &ips, &with(json!({}))), map(json!({"vlan_id": 0})), "a text is no number");
    }

    #[test]
    fn another_address_replaces_the_first_ipv4_one_and_no_other() {
        let local = map(json!({"ip": "10.0.0.5", "netmask": "255.255.255.0"}));
        let ips = |list: &[&str]| list.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>();
        let remote = map(json!({"ip": "10.0.1.6", "netmask": "255.255.0.0"}));
        let given = to_guest(&local, &ips(&["fd00::5/64", "10.0.0.5/24", "10.0.0.7/24"]), &remote);
        assert_eq!(given["ips"], json!(["fd00::5/64", "10.0.1.6/16", "10.0.0.7/24"]));
        assert_eq!(to_guest(&map(json!({})), &ips(&["addrconf"]), &remote)["ips"], json!(["10.0.1.6/16", "addrconf"]));
        assert!(to_guest(&map(json!({})), &ips(&["dhcp"]), &remote).is_empty());
    }

    /// net-agent case 51
    #[test]
    fn a_change_is_that_of_a_listed_field_by_value_or_of_what_was_never_seen() {
        let old = map(json!({"a": [1, {"b": 2}], "c": 1}));
        assert!(changed(None, &old, &["a"]));
        assert!(!changed(Some(&old), &old, &["a", "c", "none"]));
        let mut new = old.clone();
        new.insert("c".to_owned(), json!(2));
        assert!(!changed(Some(&old), &new, &["a"]) && changed(Some(&old), &new, &["c"]));
        new.insert("a".to_owned(), json!([1, {"b": 3}]));
        assert!(changed(Some(&old), &new, &["a"]));
    }
}
