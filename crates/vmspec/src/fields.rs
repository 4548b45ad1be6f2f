//! Names of fields in `-o`, `-s` and filters, and their values in a VM object (instances.md sections 4.3, 4.4).

use serde_json::{Value, json};
use triton_types::JsonMap;

use crate::{property, table::Kind};

/// Keys of a NIC that fields may name.
const NIC_FIELDS: [&str; 9] = ["dhcp_server", "gateway", "interface", "ip", "mac", "model", "netmask", "nic_tag", "vlan_id"];

/// Objects whose keys fields may name.
const MAPS: [&str; 4] = ["tags", "customer_metadata", "internal_metadata", "routes"];

/// Width of a dotted column.
const DOTTED_WIDTH: usize = 20;

/// A field of a VM object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    /// A property of its own.
    Plain(String),
    /// `tags.role`
    Entry { map: &'static str, key: String },
    /// `nics.0.ip`; without an index `nics.*.ip`, any NIC.
    Nic { index: Option<usize>, key: &'static str },
    /// `resolvers.0`
    Resolver(usize),
}

impl Field {
    /// Reads a name that can be listed, or one with `nics.*`.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        if let Some((head, rest)) = name.split_once('.') {
            if let Some(map) = MAPS.into_iter().find(|map| *map == head) {
                return (!rest.is_empty()).then(|| Self::Entry { map, key: rest.to_owned() });
            }
            return match head {
                "resolvers" => index(rest).map(Self::Resolver),
                "nics" => {
                    let (which, key) = rest.split_once('.')?;
                    let key = NIC_FIELDS.into_iter().find(|known| *known == key)?;
                    let index = if which == "*" { None } else { Some(index(which)?) };
                    Some(Self::Nic { index, key })
                }
                _ => None,
            };
        }
        property(name).filter(|p| p.column.is_some()).map(|_| Self::Plain(name.to_owned()))
    }

    /// As [`Field::parse`], and every other key that a VM object may have (`lookup -o nics`).
    pub(crate) fn parse_any(name: &str) -> Option<Self> {
        let of_object = || property(name).filter(|p| p.create || matches!(p.kind, Kind::ReadOnly));
        Self::parse(name).or_else(|| of_object().map(|_| Self::Plain(name.to_owned())))
    }

    /// It stands for more than one value.
    pub(crate) fn is_wildcard(&self) -> bool {
        matches!(self, Self::Nic { index: None, .. })
    }

    /// It is the MAC of a NIC, which filters compare with leading zeros.
    pub(crate) fn is_mac(&self) -> bool {
        matches!(self, Self::Nic { key: "mac", .. })
    }

    /// Header and width of its column.
    pub(crate) fn column(&self, name: &str) -> (String, usize) {
        let column = match self {
            Self::Plain(name) => property(name).and_then(|p| p.column),
            _ => None,
        };
        let title = column.and_then(|c| c.title).map_or_else(|| name.to_uppercase(), str::to_owned);
        (title, column.map_or(DOTTED_WIDTH, |c| c.width))
    }

    /// Its value, `None` when the object has none.
    pub(crate) fn value(&self, vm: &JsonMap) -> Option<Value> {
        match self {
            Self::Plain(name) => plain(name, vm),
            Self::Entry { map, key } => vm.get(*map)?.get(key).cloned(),
            Self::Resolver(index) => vm.get("resolvers")?.get(index).cloned(),
            Self::Nic { index, key } => nic_value(vm.get("nics")?.get((*index)?)?, key),
        }
        .filter(|value| !value.is_null())
    }

    /// Its values: of a wildcard one for each NIC that has the key.
    pub(crate) fn values(&self, vm: &JsonMap) -> Vec<Value> {
        match self {
            Self::Nic { index: None, key } => match vm.get("nics") {
                Some(Value::Array(nics)) => nics.iter().filter_map(|nic| nic_value(nic, key)).collect(),
                _ => Vec::new(),
            },
            _ => self.value(vm).into_iter().collect(),
        }
    }
}

/// `ram` and `type` are not stored: they come from `max_physical_memory` and `brand`.
fn plain(name: &str, vm: &JsonMap) -> Option<Value> {
    let given = vm.get(name).cloned();
    match name {
        "ram" => vm.get("max_physical_memory").cloned().or(given),
        "type" => given.or_else(|| match vm.get("brand").and_then(Value::as_str) {
            Some("lx") => Some(json!("LX")),
            _ => None,
        }),
        _ => given,
    }
}

fn nic_value(nic: &Value, key: &str) -> Option<Value> {
    match key {
        "dhcp_server" => nic.get(key).or_else(|| nic.get("allow_dhcp_spoofing")).cloned(),
        _ => nic.get(key).cloned(),
    }
}

fn index(text: &str) -> Option<usize> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
