//! What rules need to know about instances: those of this node, and remote ones (firewaller.md sections 5.2 and 6).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde_json::{Value, json};
use triton_types::{InstanceUuid, JsonMap, OwnerUuid};

/// Tags of an instance, values as the text that rules compare with ([`tag_text`]).
pub type Tags = BTreeMap<String, String>;

/// An instance of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmFacts {
    /// Identity.
    pub uuid: InstanceUuid,
    /// Whose it is.
    pub owner: Option<OwnerUuid>,
    /// Its tags.
    pub tags: Tags,
    /// Every address of every NIC, except those that the guest finds out itself.
    pub ips: BTreeSet<IpAddr>,
    /// Whether its packets are filtered at all.
    pub firewall_enabled: bool,
    /// Its state as the VM object has it; `running` is when it has links.
    pub state: String,
}

impl VmFacts {
    /// From a VM object.
    ///
    /// # Errors
    ///
    /// Names the fields without which nothing can be said about it, in upstream's words.
    pub fn from_object(object: &JsonMap) -> Result<Self, String> {
        let uuid = object.get("uuid").and_then(Value::as_str).and_then(|text| text.parse::<InstanceUuid>().ok());
        let missing: Vec<_> = [("nics", object.contains_key("nics")), ("state", object.contains_key("state")), ("uuid", uuid.is_some())]
            .iter()
            .filter_map(|(field, present)| (!present).then_some(*field))
            .collect();
        let (Some(uuid), true) = (uuid, missing.is_empty()) else {
            let who = uuid.map_or_else(|| "without uuid".to_owned(), |uuid| uuid.to_string());
            return Err(format!("VM {who}: missing fields required for firewall: {}", missing.join(", ")));
        };
        Ok(Self {
            uuid,
            owner: owner_of(object).unwrap_or_default(),
            tags: tags_of(object.get("tags")),
            ips: nic_ips(object.get("nics")),
            firewall_enabled: object.get("firewall_enabled") == Some(&Value::Bool(true)),
            state: object.get("state").and_then(Value::as_str).unwrap_or_default().to_owned(),
        })
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.state == "running"
    }
}

/// An instance of another node, as far as a rule of this one needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteVm {
    /// Identity, also its file's name.
    pub uuid: InstanceUuid,
    /// Whose it is. One without an owner is a peer of every rule.
    pub owner: Option<OwnerUuid>,
    /// Its tags.
    pub tags: Tags,
    /// Its addresses, IPv4 first, in numeric order.
    pub ips: BTreeSet<IpAddr>,
}

/// Why an object is no remote VM, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteVmError {
    /// It has no `uuid`.
    #[error("Remote VM must have UUID")]
    NoUuid,
    /// Its `uuid` is none.
    #[error("Invalid Remote VM UUID: {0}")]
    Uuid(String),
    /// An address is none; `dhcp` in `ips` is none either.
    #[error("Invalid IP address: {0}")]
    Ip(String),
    /// Its `owner_uuid` is none.
    #[error("Invalid owner UUID: {0}")]
    Owner(String),
    /// It has no address at all, so nothing could be admitted by it.
    #[error("Remote VM \"{0}\": missing IPs")]
    NoIps(InstanceUuid),
}

impl RemoteVm {
    /// Reads a remote VM from a stored object, a caller's or a VM object of VMAPI: `nics` and `ips` are joined.
    ///
    /// # Errors
    ///
    /// Names the first field that is wrong. An object without addresses is accepted: see [`RemoteVm::with_ips`].
    pub fn parse(object: &JsonMap) -> Result<Self, RemoteVmError> {
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let uuid = object.get("uuid").filter(|value| !value.is_null()).ok_or(RemoteVmError::NoUuid)?;
        let uuid = uuid.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| RemoteVmError::Uuid(shown(uuid)))?;
        let mut ips = nic_ips(object.get("nics"));
        for ip in object.get("ips").and_then(Value::as_array).into_iter().flatten() {
            ips.insert(ip.as_str().and_then(address).ok_or_else(|| RemoteVmError::Ip(shown(ip)))?);
        }
        for nic in object.get("nics").and_then(Value::as_array).into_iter().flatten() {
            if let Some(bad) = nic_words(nic).find(|word| !is_automatic(word) && address(word).is_none()) {
                return Err(RemoteVmError::Ip(bad.to_owned()));
            }
        }
        let owner = owner_of(object).map_err(RemoteVmError::Owner)?;
        Ok(Self { uuid, owner, tags: tags_of(object.get("tags")), ips })
    }

    /// As [`RemoteVm::parse`], for adding and changing one, which needs an address.
    ///
    /// # Errors
    ///
    /// As [`RemoteVm::parse`], and [`RemoteVmError::NoIps`].
    pub fn with_ips(object: &JsonMap) -> Result<Self, RemoteVmError> {
        let parsed = Self::parse(object)?;
        if parsed.ips.is_empty() { Err(RemoteVmError::NoIps(parsed.uuid)) } else { Ok(parsed) }
    }

    /// From a VM object of VMAPI, kindly: addresses that are none are left out (section 6.2). Nothing when no address is
    /// left, or when the object names no instance.
    pub fn from_vmapi(object: &JsonMap) -> Option<Self> {
        let uuid = object.get("uuid")?.as_str()?.parse().ok()?;
        let ips = nic_ips(object.get("nics"));
        (!ips.is_empty()).then(|| Self { uuid, owner: owner_of(object).unwrap_or_default(), tags: tags_of(object.get("tags")), ips })
    }

    /// The object of the wire and of `/var/fw/vms`.
    pub fn to_json(&self) -> Value {
        let mut object = JsonMap::new();
        object.insert("uuid".into(), json!(self.uuid));
        object.insert("ips".into(), self.ips.iter().map(|ip| json!(ip)).collect());
        if !self.tags.is_empty() {
            object.insert("tags".into(), json!(self.tags));
        }
        if let Some(owner) = &self.owner {
            object.insert("owner_uuid".into(), json!(owner));
        }
        Value::Object(object)
    }
}

/// A tag's value as rules compare it: text as it is, everything else as upstream's language prints it.
pub fn tag_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

fn tags_of(tags: Option<&Value>) -> Tags {
    tags.and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key.clone(), tag_text(value))).collect()
}

/// The owner, absent when there is none; the text of what is none as error.
fn owner_of(object: &JsonMap) -> Result<Option<OwnerUuid>, String> {
    match object.get("owner_uuid") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| text.clone()),
        Some(other) => Err(other.to_string()),
    }
}

fn is_automatic(word: &str) -> bool {
    matches!(word, "dhcp" | "addrconf")
}

/// The address of `A` or `A/P`.
fn address(word: &str) -> Option<IpAddr> {
    word.split('/').next()?.parse().ok()
}

/// The addresses of one NIC: its `ips`, or its `ip` when it has none.
fn nic_words(nic: &Value) -> impl Iterator<Item = &str> {
    let several = nic.get("ips").and_then(Value::as_array);
    let one = if several.is_none() { nic.get("ip").and_then(Value::as_str) } else { None };
    several.into_iter().flatten().filter_map(Value::as_str).chain(one)
}

fn nic_ips(nics: Option<&Value>) -> BTreeSet<IpAddr> {
    nics.and_then(Value::as_array).into_iter().flatten().flat_map(nic_words).filter_map(address).collect()
}
