//! One NIC of a payload, brought to the stored keys: deprecated keys converted, lists counted, false flags removed
//! (instances.md section 2.4). The result is laid over an existing NIC, or completed to a new one.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::{Value, json};
use triton_types::{JsonMap, Mac, Nic, NicAddress};

use crate::{PayloadError, error::excerpt, limits, nic_keys::interface_index, nics::INTERFACE_PREFIX, value};

/// What a payload says of one NIC.
pub(crate) struct NicInput {
    /// Which NIC, or the address wanted for a new one.
    pub mac: Option<Mac>,
    /// It is to be the primary NIC.
    pub primary: bool,
    /// Stored keys; null for a key to remove.
    keys: JsonMap,
}

impl NicInput {
    /// Reads a NIC that passed validation. `add` tells a NIC to add from one to update.
    pub(crate) fn read(mut input: JsonMap, add: bool) -> Result<Self, PayloadError> {
        let primary = read_primary(&input, add)?;
        let text = |name: &str| input.get(name).and_then(Value::as_str).map(str::trim).filter(|t| !t.is_empty());
        let mac = text("mac").and_then(|mac| mac.parse().ok());
        let mut keys = JsonMap::new();
        if let Some(tag) = text("nic_tag") {
            keys.insert("nic_tag".to_owned(), tag.into());
        }
        if let Some(index) = text("interface").filter(|_| !add).and_then(interface_index) {
            keys.insert("interface".to_owned(), format!("{INTERFACE_PREFIX}{index}").into());
        }
        for name in ["network_uuid", "vrrp_primary_ip"] {
            if input.contains_key(name) {
                keys.insert(name.to_owned(), text(name).map_or(Value::Null, Value::from));
            }
        }
        if let Some(ips) = read_ips(&input)? {
            keys.insert("ips".to_owned(), ips);
        }
        if let Some(gateways) = read_gateways(&input)? {
            keys.insert("gateways".to_owned(), gateways);
        }
        for name in ["vlan_id", "mtu", "vrrp_vrid"] {
            if let Some(number) = input.get(name) {
                keys.insert(name.to_owned(), json!(value::integer(number, 0, limits::INTEGER).ok().flatten()));
            }
        }
        if let Some(old_name) = input.get("dhcp_server").cloned()
            && !input.contains_key("allow_dhcp_spoofing")
        {
            input.insert("allow_dhcp_spoofing".to_owned(), old_name);
        }
        for name in ["allow_ip_spoofing", "allow_mac_spoofing", "allow_dhcp_spoofing", "allow_restricted_traffic"] {
            if let Some(flag) = input.get(name) {
                let on = value::boolean(flag).unwrap_or(false);
                keys.insert(name.to_owned(), if on { Value::Bool(true) } else { Value::Null });
            }
        }
        read_lists(&input, &mut keys)?;
        Ok(Self { mac, primary, keys })
    }

    /// A NIC to add, complete but for its interface name's meaning.
    pub(crate) fn build(self, interface: String, mac: Mac) -> Result<Nic, PayloadError> {
        let mut map = JsonMap::new();
        map.insert("interface".to_owned(), interface.into());
        map.insert("mac".to_owned(), mac.to_string().into());
        self.overlay(map)
    }

    /// An existing NIC with these changes.
    pub(crate) fn change(self, nic: &Nic) -> Result<Nic, PayloadError> {
        let primary = self.primary || nic.primary;
        let Ok(Value::Object(map)) = serde_json::to_value(nic) else {
            return Err(PayloadError::Inconsistent { reason: format!("NIC {} is no JSON object", nic.mac) });
        };
        self.overlay(map).map(|nic| Nic { primary, ..nic })
    }

    fn overlay(self, mut map: JsonMap) -> Result<Nic, PayloadError> {
        for (key, value) in self.keys {
            if value.is_null() {
                map.shift_remove(&key);
            } else {
                map.insert(key, value);
            }
        }
        let mut nic: Nic =
            serde_json::from_value(Value::Object(map)).map_err(|error| PayloadError::Inconsistent { reason: error.to_string() })?;
        nic.primary = self.primary;
        Ok(nic)
    }
}

fn read_primary(input: &JsonMap, add: bool) -> Result<bool, PayloadError> {
    match input.get("primary") {
        None => Ok(false),
        Some(flag) => match value::boolean(flag) {
            Ok(true) => Ok(true),
            _ if add => Ok(false),
            _ => Err(PayloadError::PrimaryFlag { value: excerpt(&value::display(flag)) }),
        },
    }
}

/// `ips`, or the deprecated `ip` and `netmask`; `None` when neither is there.
fn read_ips(input: &JsonMap) -> Result<Option<Value>, PayloadError> {
    if let Some(ips) = input.get("ips") {
        let ips: Vec<String> = value::list(ips).unwrap_or_default();
        return Ok(Some(ips.iter().filter_map(|ip| ip.parse::<NicAddress>().ok()).map(|ip| ip.to_string()).collect()));
    }
    let Some(ip) = input.get("ip") else { return Ok(None) };
    let ip = match value::text(ip) {
        Ok(Some(word @ ("dhcp" | "addrconf"))) => return Ok(Some(json!([word]))),
        Ok(Some(ip)) => ip,
        _ => return Ok(Some(json!([]))),
    };
    let Some(netmask) = input.get("netmask").and_then(Value::as_str).filter(|mask| !mask.trim().is_empty()) else {
        return Err(PayloadError::MissingNetmask { nic: Value::Object(input.clone()).to_string().chars().take(512).collect() });
    };
    let invalid = || PayloadError::InvalidNetmask { netmask: excerpt(netmask) };
    let mask: Ipv4Addr = netmask.trim().parse().map_err(|_| invalid())?;
    let bits = ipnet::ipv4_mask_to_prefix(mask).map_err(|_| invalid())?;
    let cidr = format!("{ip}/{bits}");
    cidr.parse::<NicAddress>().map_err(|_| invalid())?;
    Ok(Some(json!([cidr])))
}

/// `gateways`, or the deprecated `gateway`; `None` when neither is there.
fn read_gateways(input: &JsonMap) -> Result<Option<Value>, PayloadError> {
    let Some(given) = input.get("gateways").or_else(|| input.get("gateway")) else { return Ok(None) };
    let list = value::list(given).unwrap_or_default();
    for gateway in &list {
        gateway.parse::<Ipv4Addr>().map_err(|_| PayloadError::InvalidGateway { gateway: excerpt(gateway) })?;
    }
    Ok(Some(list.into()))
}

fn read_lists(input: &JsonMap, keys: &mut JsonMap) -> Result<(), PayloadError> {
    let list = |name: &str| input.get(name).map(|given| value::list(given).unwrap_or_default());
    if let Some(ips) = list("allowed_ips") {
        if ips.len() > limits::ALLOWED_IPS_PER_NIC {
            return Err(PayloadError::TooManyAllowedIps);
        }
        if let Some(bad) = ips.iter().find(|ip| !is_allowed_ip(ip)) {
            return Err(PayloadError::InvalidAllowedIp(excerpt(bad)));
        }
        keys.insert("allowed_ips".to_owned(), ips.into());
    }
    if let Some(cids) = list("allowed_dhcp_cids") {
        if cids.len() > limits::DHCP_CIDS_PER_NIC {
            return Err(PayloadError::TooManyDhcpCids);
        }
        if cids.join(",").len() >= limits::DHCP_CIDS_LENGTH {
            return Err(PayloadError::DhcpCidsTooLong);
        }
        keys.insert("allowed_dhcp_cids".to_owned(), cids.into());
    }
    if let Some(ports) = list("blocked_outgoing_ports") {
        keys.insert("blocked_outgoing_ports".to_owned(), ports.iter().filter_map(|port| port.parse::<u16>().ok()).collect());
    }
    Ok(())
}

/// An address, or a network: IPv4 /1 to /32, IPv6 /1 to /128.
fn is_allowed_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok() || text.parse::<IpNet>().is_ok_and(|net| net.prefix_len() >= 1)
}
