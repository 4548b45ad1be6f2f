//! From the value of a scalar or list property in a payload to the value that is stored (instances.md sections 2.1, 2.2, 2.9).
//!
//! Validation asks whether it succeeds, create and update use the result: the two cannot disagree.

use serde_json::{Value, json};
use triton_types::{ImageUuid, JsonMap};

use crate::{
    limits,
    table::{Fallback, Kind, Property},
    value::{self, Bad},
};

/// What a payload asks of one property.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wish {
    /// Store this.
    Set(Value),
    /// A blank value: unset it.
    Clear,
}

/// Reads the value of a property. Nested kinds (NICs, file systems) are checked elsewhere and are only passed through.
pub(crate) fn normalise(property: &Property, value: &Value) -> Result<Wish, Bad> {
    let wish = |value: Option<Value>| value.map_or(Wish::Clear, Wish::Set);
    match property.kind {
        Kind::Uuid | Kind::Image => match value {
            Value::String(text) if text.parse::<ImageUuid>().is_ok() => Ok(Wish::Set(value.clone())),
            _ => Err(Bad),
        },
        Kind::Pool => match value {
            Value::String(text) if !text.is_empty() => Ok(Wish::Set(value.clone())),
            _ => Err(Bad),
        },
        Kind::Boolean => Ok(Wish::Set(Value::Bool(value::boolean(value)?))),
        Kind::Text(rule) => match value::text(value)? {
            Some(text) if !rule(text) => Err(Bad),
            Some("off") if property.name.ends_with("_compression") => Ok(Wish::Clear),
            text => Ok(wish(text.map(Value::from))),
        },
        Kind::Integer(min, max) => whole(property, value::integer(value, min, max)?),
        Kind::Quota => Ok(Wish::Set(Value::Number(value::quota(value)?.unwrap_or_else(|| 0.into())))),
        Kind::List(rule) => elements(property, value::list(value)?, rule),
        Kind::FlatObject => value::flat_object(value).map(|map| Wish::Set(Value::Object(map.clone()))),
        Kind::Nics(_) | Kind::Filesystems(_) => Ok(Wish::Set(value.clone())),
        Kind::ReadOnly => Err(Bad),
    }
}

fn whole(property: &Property, number: Option<u64>) -> Result<Wish, Bad> {
    let Some(number) = number else { return Ok(Wish::Clear) };
    Ok(match property.name {
        "cpu_cap" if number == 0 => Wish::Clear,
        "cpu_shares" => Wish::Set(json!(number.min(limits::CPU_SHARES))),
        "zfs_root_recsize" | "zfs_data_recsize" => match number {
            0 => Wish::Set(json!(131_072)),
            512..=131_072 if number.is_power_of_two() => Wish::Set(json!(number)),
            _ => return Err(Bad),
        },
        _ => Wish::Set(json!(number)),
    })
}

fn elements(property: &Property, list: Vec<String>, rule: fn(&str) -> bool) -> Result<Wish, Bad> {
    // Keys to remove are only looked up; every other list becomes state of the machine.
    let bounded = !property.name.starts_with("remove_");
    if (bounded && list.len() > limits::LIST) || !list.iter().all(|item| rule(item)) {
        return Err(Bad);
    }
    Ok(match property.name {
        "limit_priv" | "fs_allowed" if list.is_empty() => Wish::Clear,
        "limit_priv" | "fs_allowed" => Wish::Set(Value::from(list.join(","))),
        _ => Wish::Set(Value::from(list)),
    })
}

/// Carries out the wish for a property of an existing instance. Memory sizes are not its matter.
pub(crate) fn apply_update(property: &Property, wish: Wish, config: &mut JsonMap) {
    let value = match (wish, property.fallback) {
        (Wish::Set(value), _) => Some(value),
        (Wish::Clear, Fallback::TextAtCreate(_)) => None,
        (Wish::Clear, fallback) => default_value(fallback),
    };
    match value {
        Some(value) => {
            config.insert(property.name.to_owned(), value);
        }
        None => {
            config.shift_remove(property.name);
        }
    }
}

/// What a property is at creation when the payload leaves it unset; `None` for absent, or when other rules decide.
pub(crate) fn default_value(fallback: Fallback) -> Option<Value> {
    match fallback {
        Fallback::None | Fallback::Memory => None,
        Fallback::Text(text) | Fallback::TextAtCreate(text) => Some(text.into()),
        Fallback::Integer(number) => Some(number.into()),
        Fallback::Boolean(flag) => Some(flag.into()),
        Fallback::EmptyList => Some(json!([])),
    }
}
