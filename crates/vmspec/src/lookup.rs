//! `vmadm lookup` and the lookups of agents (instances.md section 4.4).

use serde_json::{Value, json};
use triton_types::JsonMap;

use crate::{Filter, error::excerpt, fields::Field};

/// A lookup that cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// `-o` names a field that VM objects do not have.
    #[error("invalid order field: {0}")]
    Field(String),
    /// `-o` with a `*`.
    #[error("Invalid order key: \"{0}\"")]
    Wildcard(String),
    /// `-1`, and not exactly one instance matched.
    #[error("Requested unique lookup but found {0} results.")]
    NotUnique(usize),
}

/// The VM objects that pass all filters, in their order.
pub fn lookup<'a>(vms: &'a [JsonMap], filters: &[Filter]) -> Vec<&'a JsonMap> {
    vms.iter().filter(|vm| filters.iter().all(|filter| filter.matches(vm))).collect()
}

/// The only result of `lookup -1`.
///
/// # Errors
/// [`LookupError::NotUnique`] with the number of results.
pub fn unique<'a>(found: &[&'a JsonMap]) -> Result<&'a JsonMap, LookupError> {
    match found {
        [vm] => Ok(vm),
        _ => Err(LookupError::NotUnique(found.len())),
    }
}

/// `lookup -j -o`: each object reduced to these fields, in their order. A dotted field keeps its dotted name; a field that
/// the object lacks is left out.
///
/// # Errors
/// [`LookupError`]: an unknown field, or one with `*`.
pub fn select_fields(vms: &[&JsonMap], fields: &[&str]) -> Result<Vec<JsonMap>, LookupError> {
    let mut parsed = Vec::with_capacity(fields.len());
    for name in fields {
        let field = Field::parse_any(name).ok_or_else(|| LookupError::Field(excerpt(name)))?;
        if field.is_wildcard() {
            return Err(LookupError::Wildcard(excerpt(name)));
        }
        parsed.push((*name, field));
    }
    let pick = |vm: &JsonMap| parsed.iter().filter_map(|(name, field)| Some(((*name).to_owned(), field.value(vm)?))).collect();
    Ok(vms.iter().map(|vm| pick(vm)).collect())
}

/// Lookup for agents: instances with `do_not_inventory` are dropped unless `include_dni`. With `fields` each object has
/// exactly these keys, null for one it lacks, and `do_not_inventory` where that is true.
pub fn agent_lookup(vms: &[JsonMap], filters: &[Filter], fields: Option<&[&str]>, include_dni: bool) -> Vec<JsonMap> {
    let hidden = |vm: &JsonMap| vm.get("do_not_inventory") == Some(&Value::Bool(true));
    let found = lookup(vms, filters).into_iter().filter(|vm| include_dni || !hidden(vm));
    let Some(fields) = fields else { return found.cloned().collect() };
    let value = |name: &str, vm: &JsonMap| Field::parse_any(name).and_then(|field| field.value(vm)).unwrap_or_default();
    found
        .map(|vm| {
            let mut picked: JsonMap = fields.iter().map(|name| ((*name).to_owned(), value(name, vm))).collect();
            if hidden(vm) {
                picked.insert("do_not_inventory".to_owned(), json!(true));
            }
            picked
        })
        .collect()
}
