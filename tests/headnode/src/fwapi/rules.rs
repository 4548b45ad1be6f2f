//! `/rules`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{invalid, language, with_update};
use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

pub(super) async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let mut rules = shared.store.list(Kind::FwRule)?;
    rules.retain(|rule| {
        let names = |text: &str, what: &dyn Fn(&language::Side) -> bool| {
            language::read(text).is_some_and(|rule| what(&rule.from) || what(&rule.to))
        };
        let text = rule["rule"].as_str().unwrap_or_default();
        call.text("owner_uuid").is_none_or(|owner| rule["owner_uuid"] == owner)
            && (call.params.get("global").is_none() || rule["global"] == call.flag("global"))
            && (call.params.get("enabled").is_none() || rule["enabled"] == call.flag("enabled"))
            && call.text("vm").is_none_or(|vm| names(text, &|side| side.vms.iter().any(|named| named == vm)))
            && call.text("tag").is_none_or(|tag| names(text, &|side| side.tags.iter().any(|(key, _)| key == tag)))
    });
    let number = |key: &str, default: usize| call.number(key).and_then(|number| usize::try_from(number).ok()).unwrap_or(default);
    Ok(Json(rules.into_iter().skip(number("offset", 0)).take(number("limit", 1000).min(1000)).collect()))
}

pub(super) async fn show(State(shared): Here, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(shared.store.get(Kind::FwRule, &id)?.ok_or_else(|| ApiError::not_found("rule not found"))?))
}

pub(super) async fn create(State(shared): Here, call: Call) -> Result<Response, ApiError> {
    let id = match call.params.get("uuid") {
        None => Uuid::new_v4().to_string(),
        Some(id) => id.as_str().filter(|id| uuid(id).is_some()).ok_or_else(|| invalid("uuid", "Invalid rule UUID"))?.to_owned(),
    };
    let rule = checked(json!({"uuid": id, "enabled": false, "log": false}), &call)?;
    shared.store.put(Kind::FwRule, &id, rule.clone())?;
    let update = shared.announce("fw.add_rule", &rule);
    Ok(with_update(StatusCode::ACCEPTED, &update, Some(rule)))
}

pub(super) async fn update(State(shared): Here, Path(id): Path<String>, call: Call) -> Result<Response, ApiError> {
    let old = shared.store.get(Kind::FwRule, &id)?.ok_or_else(|| ApiError::not_found("rule not found"))?;
    let rule = checked(old, &call)?;
    shared.store.put(Kind::FwRule, &id, rule.clone())?;
    let update = shared.announce("fw.update_rule", &rule);
    Ok(with_update(StatusCode::ACCEPTED, &update, Some(rule)))
}

pub(super) async fn remove(State(shared): Here, Path(id): Path<String>) -> Result<Response, ApiError> {
    let rule = shared.store.get(Kind::FwRule, &id)?.ok_or_else(|| ApiError::not_found("rule not found"))?;
    shared.store.delete(Kind::FwRule, &id)?;
    let update = shared.announce("fw.del_rule", &rule);
    Ok(with_update(StatusCode::NO_CONTENT, &update, None))
}

/// The rule with the fields of the request, if FWAPI would take it.
fn checked(mut rule: Value, call: &Call) -> Result<Value, ApiError> {
    for field in ["rule", "enabled", "log", "owner_uuid", "global", "description"] {
        if let Some(value) = call.params.get(field) {
            rule[field] = value.clone();
        }
    }
    let text = rule["rule"].as_str().ok_or_else(|| invalid("rule", "No rule specified"))?;
    let read = language::read(text).ok_or_else(|| invalid("rule", "is not in the form that the stand-in reads"))?;
    if !read.from.names_any() && !read.to.names_any() {
        return Err(invalid("rule", "rule does not affect VMs"));
    }
    for field in ["enabled", "log"] {
        if !rule[field].is_boolean() {
            return Err(invalid(field, &format!("{field} must be true or false")));
        }
    }
    let owned = !rule["owner_uuid"].is_null();
    if owned && rule["owner_uuid"].as_str().is_none_or(|owner| uuid(owner).is_none()) {
        return Err(invalid("owner_uuid", "Invalid owner UUID"));
    }
    match (owned, rule["global"] == true) {
        (true, true) => return Err(invalid("global", "cannot specify both global and owner_uuid")),
        (false, false) => return Err(invalid("owner_uuid", "owner_uuid required")),
        _ => {}
    }
    rule["version"] = json!(format!("{}.{:06}", jiff::Timestamp::now().as_millisecond(), rand::random_range(0..1_000_000)));
    Ok(rule)
}
