//! The keys of a NIC and of a file system in a payload, and which values each may have (instances.md sections 2.4, 2.5).
//!
//! Rules whose breach has an error text of its own (allowed_ips, netmask, gateways, the primary flag of an update) are
//! checked where the value is read, not here.

use std::{net::IpAddr, str::FromStr};

use serde_json::Value;
use triton_types::{ImageUuid, Mac, NicAddress, NicTag};

use crate::{limits, table::one_line, value};

/// One key of a NIC or a file system.
pub(crate) struct SubKey {
    /// The key.
    pub name: &'static str,
    /// Must be there when the element is added.
    pub required: bool,
    /// Whether a value is good; the flag is true when the element is added, false when it is updated.
    pub good: fn(&Value, bool) -> bool,
}

const fn key(name: &'static str, good: fn(&Value, bool) -> bool) -> SubKey {
    SubKey { name, required: false, good }
}

const fn required(name: &'static str, good: fn(&Value, bool) -> bool) -> SubKey {
    SubKey { name, required: true, good }
}

/// Keys of a NIC for brand `lx`.
pub(crate) static NIC_KEYS: &[SubKey] = &[
    key("mac", mac),
    required("nic_tag", nic_tag),
    key("ips", ips),
    key("ip", |v, _| text(v, |ip| ip == "dhcp" || ip == "addrconf" || ip.parse::<std::net::Ipv4Addr>().is_ok())),
    key("netmask", |v, _| text(v, |_| true)),
    key("gateways", |v, _| list(v, limits::GATEWAYS_PER_NIC, |_| true)),
    key("gateway", |v, _| text(v, |_| true)),
    key("primary", |v, add| !add || value::is_blank(v) || flag(v)),
    key("vlan_id", |v, _| matches!(value::integer(v, 0, 4094), Ok(id) if id != Some(1))),
    key("mtu", |v, _| value::integer(v, 576, 9000).is_ok()),
    key("network_uuid", |v, _| text(v, parses::<ImageUuid>)),
    key("interface", |v, add| add || text(v, |name| interface_index(name).is_some())),
    key("allow_ip_spoofing", |v, _| value::is_blank(v) || flag(v)),
    key("allow_mac_spoofing", |v, _| value::is_blank(v) || flag(v)),
    key("allow_dhcp_spoofing", |v, _| value::is_blank(v) || flag(v)),
    key("dhcp_server", |v, _| value::is_blank(v) || flag(v)),
    key("allow_restricted_traffic", |v, _| value::is_blank(v) || flag(v)),
    key("allowed_ips", |v, _| value::list(v).is_ok()),
    key("allowed_dhcp_cids", |v, _| list(v, usize::MAX, dhcp_cid)),
    key("blocked_outgoing_ports", |v, _| list(v, limits::BLOCKED_PORTS_PER_NIC, |port| port.parse::<u16>().is_ok_and(|p| p > 0))),
    key("vrrp_vrid", |v, _| value::integer(v, 0, 255).is_ok()),
    key("vrrp_primary_ip", |v, _| text(v, parses::<IpAddr>)),
];

/// Keys of NICs of virtual machines: dropped without a warning (section 2.4).
pub(crate) const SILENT_NIC_KEYS: &[&str] = &["allow_unfiltered_promisc", "model"];

/// Keys of a file system.
pub(crate) static FILESYSTEM_KEYS: &[SubKey] = &[
    required("type", |v, add| word(v, add, one_line)),
    required("source", |v, add| word(v, add, |source| path(source) || parses::<ImageUuid>(source))),
    required("target", |v, _| word(v, true, path)),
    key("raw", |v, _| text(v, path)),
    key("options", |v, _| list(v, limits::LIST, one_line)),
];

fn parses<T: FromStr>(text: &str) -> bool {
    text.parse::<T>().is_ok()
}

fn flag(value: &Value) -> bool {
    value::boolean(value).is_ok()
}

/// A text that is blank or passes the rule.
fn text(value: &Value, rule: fn(&str) -> bool) -> bool {
    value::text(value).is_ok_and(|text| text.is_none_or(rule))
}

/// A text that passes the rule, and is not blank when the element is added.
fn word(value: &Value, add: bool, rule: fn(&str) -> bool) -> bool {
    value::text(value).is_ok_and(|text| text.map_or(!add, rule))
}

fn list(value: &Value, most: usize, rule: fn(&str) -> bool) -> bool {
    value::list(value).is_ok_and(|list| list.len() <= most && list.iter().all(|item| rule(item)))
}

/// A MAC; one that a NIC can be given when the NIC is added (the kernel refuses group and zero addresses).
fn mac(value: &Value, add: bool) -> bool {
    match value::text(value) {
        Ok(Some(text)) => text.parse::<Mac>().is_ok_and(|mac| !add || (mac.0[0] & 1 == 0 && mac.0 != [0; 6])),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn nic_tag(value: &Value, add: bool) -> bool {
    matches!(value::text(value), Ok(Some(text)) if text.parse::<NicTag>().is_ok() && (add || !text.contains('/')))
}

fn ips(value: &Value, _: bool) -> bool {
    list(value, limits::IPS_PER_NIC, parses::<NicAddress>)
}

fn dhcp_cid(text: &str) -> bool {
    let hex = text.strip_prefix("0x").unwrap_or_default();
    !hex.is_empty() && text.len().is_multiple_of(2) && text.len() <= limits::DHCP_CID_LENGTH && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An absolute path without `..`, of one line.
fn path(text: &str) -> bool {
    text.starts_with('/') && one_line(text) && text.split('/').all(|part| part != "..")
}

/// The number in `eth<N>` or `net<N>`.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("eth").or_else(|| name.strip_prefix("net"))?;
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|index| plain && *index <= limits::INTERFACE_INDEX)
}
