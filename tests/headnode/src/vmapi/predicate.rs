//! `predicate` of `GET /vms`: and, or, eq, ne over fields and `tag.<name>` (firewaller.md section 7.3).

use serde_json::Value;

/// Why it is no predicate; null is none and always holds.
pub(super) fn check(predicate: &Value) -> Result<(), String> {
    let Some(object) = predicate.as_object() else {
        return if predicate.is_null() { Ok(()) } else { Err("is no object".to_owned()) };
    };
    let Some((word, list)) = object.iter().next().filter(|_| object.len() == 1) else { return Err("has not one key".to_owned()) };
    let list = list.as_array().ok_or_else(|| format!("{word} has no list"))?;
    match word.as_str() {
        "and" | "or" if list.len() < 2 => Err(format!("{word} needs two members")),
        "and" | "or" => list.iter().try_for_each(|part| if part.is_null() { Err("has a null member".to_owned()) } else { check(part) }),
        "eq" | "ne" if list.len() == 2 && list.iter().all(Value::is_string) => Ok(()),
        _ => Err(format!("{word} is not understood")),
    }
}

/// Whether it holds for an instance. A tag is found by a part of its value, as the real search does: whoever asks looks again.
pub(super) fn holds(predicate: &Value, vm: &Value) -> bool {
    let Some((word, list)) = predicate.as_object().and_then(|object| object.iter().next()) else { return true };
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    match (word.as_str(), list) {
        ("and", parts) => parts.iter().all(|part| holds(part, vm)),
        ("or", parts) => parts.iter().any(|part| holds(part, vm)),
        ("eq", [field, value]) => equals(field, value, vm),
        ("ne", [field, value]) => !equals(field, value, vm),
        _ => false,
    }
}

fn equals(field: &Value, value: &Value, vm: &Value) -> bool {
    let (field, value) = (field.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
    match field.strip_prefix("tag.") {
        None => vm[field] == value,
        Some(tag) => match &vm["tags"][tag] {
            Value::Null => false,
            _ if value == "*" => true,
            Value::String(text) => text.contains(value),
            other => other.to_string().contains(value),
        },
    }
}
