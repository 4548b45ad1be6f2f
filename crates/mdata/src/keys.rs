//! Which map a key belongs to, and what it says (metadata.md sections 3.1, 4.2 to 4.4).

use serde_json::Value;
use triton_types::JsonMap;

use crate::{Answer, sdc, value::render};

/// Behaviour of upstream that is not ours unless an operator wants it (ruling 31).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compatibility {
    /// `sdc:customer_metadata.KEY` can be read, past namespaces.
    pub customer_metadata_by_sdc: bool,
    /// The guest may set and delete `operator-script`.
    pub operator_script_by_guest: bool,
}

/// Where a key is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// The customer's.
    Customer,
    /// The operator's, of which a guest sees parts.
    Internal,
}

impl Map {
    /// The property of the VM object.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Customer => "customer_metadata",
            Self::Internal => "internal_metadata",
        }
    }
}

/// The namespace of a key, if the VM declares it as internal.
fn namespace<'a>(vm: &JsonMap, key: &'a str) -> Option<&'a str> {
    let (prefix, _) = key.split_once(':')?;
    let declared = vm.get("internal_metadata_namespaces")?.as_array()?;
    declared.iter().any(|name| name.as_str() == Some(prefix)).then_some(prefix)
}

fn is_internal(vm: &JsonMap, key: &str) -> bool {
    key.ends_with("_pw") || namespace(vm, key).is_some()
}

fn map(vm: &JsonMap, map: Map) -> Result<&JsonMap, Answer> {
    let found = vm.get(map.name()).and_then(Value::as_object);
    found.ok_or_else(|| Answer::failure(format!("Zone did not contain {}", map.name())))
}

/// The answer to GET of `key`, which is trimmed and not empty.
pub fn get(vm: &JsonMap, key: &str, compatibility: Compatibility) -> Answer {
    if let Some(key) = key.strip_prefix("sdc:") {
        return sdc::get(vm, key, compatibility);
    }
    match map(vm, if is_internal(vm, key) { Map::Internal } else { Map::Customer }) {
        Ok(map) => render(map.get(key)),
        Err(answer) => answer,
    }
}

/// The answer to KEYS.
pub fn keys(vm: &JsonMap) -> Answer {
    let (customer, internal) = match (map(vm, Map::Customer), map(vm, Map::Internal)) {
        (Ok(customer), Ok(internal)) => (customer, internal),
        (Err(answer), _) | (_, Err(answer)) => return answer,
    };
    let customer = customer.keys().filter(|key| !is_internal(vm, key));
    let internal = internal.keys().filter(|key| is_internal(vm, key));
    Answer::Value(customer.chain(internal).map(String::as_str).collect::<Vec<_>>().join("\n"))
}

/// Where a guest's PUT or DELETE of `key` goes, or the answer that refuses it.
///
/// # Errors
/// For keys of the host and of internal namespaces.
pub fn target(vm: &JsonMap, key: &str, compatibility: Compatibility) -> Result<Map, Answer> {
    let refused = |namespace: &str| Err(Answer::failure(format!("Cannot update the \"{namespace}\" Namespace.")));
    if key.starts_with("sdc:") {
        return refused("sdc");
    }
    if let Some(namespace) = namespace(vm, key) {
        return refused(namespace);
    }
    match key {
        "operator-script" if compatibility.operator_script_by_guest => Ok(Map::Internal),
        "operator-script" => refused("operator-script"),
        key if key.ends_with("_pw") => Ok(Map::Internal),
        _ => Ok(Map::Customer),
    }
}
