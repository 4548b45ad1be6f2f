//! Link aggregations.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    response::Response,
};
use serde_json::{Value, json};

use super::{Refusals, check_version, deleted, nics::mac_of, shown, stamp, tagged};
use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

pub(super) async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let ours = |aggr: &Value| call.text("belongs_to_uuid").is_none_or(|wanted| aggr["belongs_to_uuid"] == wanted);
    Ok(Json(shared.store.list(Kind::Aggregation)?.iter().filter(|aggr| ours(aggr)).map(shown).collect()))
}

pub(super) async fn create(State(shared): Here, call: Call) -> Result<Response, ApiError> {
    let mut wrong = Refusals::default();
    let name = call.text("name").unwrap_or_default();
    if !(name.ends_with(|c: char| c.is_ascii_digit()) && name.len() <= 31 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        wrong.invalid("name", "aggregation names are letters, digits and underscores and end in a digit");
    }
    if call.text("lacp_mode").is_some_and(|mode| !["off", "active", "passive"].contains(&mode)) {
        wrong.invalid("lacp_mode", "must be one of: off, active, passive");
    }
    let macs: Vec<String> =
        call.params.get("macs").and_then(Value::as_array).into_iter().flatten().filter_map(|mac| mac_of(mac.as_str()?)).collect();
    let mut server = None;
    if macs.is_empty() {
        wrong.missing("macs");
    }
    for mac in &macs {
        match shared.store.get(Kind::Nic, mac)? {
            None => wrong.invalid("macs", "MACs must exist as NICs"),
            Some(nic) if nic["belongs_to_type"] != "server" => wrong.invalid("macs", "MACs must belong to a server"),
            Some(nic) => {
                let owner = nic["belongs_to_uuid"].clone();
                if server.get_or_insert_with(|| owner.clone()) != &owner {
                    wrong.invalid("macs", "all MACs must belong to the same server");
                }
            }
        }
    }
    for tag in call.params.get("nic_tags_provided").and_then(Value::as_array).into_iter().flatten() {
        if shared.store.get(Kind::NicTag, tag.as_str().unwrap_or_default())?.is_none() {
            wrong.invalid("nic_tags_provided", "nic tag does not exist");
        }
    }
    if call.text("belongs_to_uuid").is_some_and(|text| uuid(text).is_none()) {
        wrong.invalid("belongs_to_uuid", "invalid UUID");
    }
    let server = server.unwrap_or_default();
    let id = format!("{}-{name}", server.as_str().unwrap_or_default());
    if shared.store.get(Kind::Aggregation, &id)?.is_some() {
        wrong.add("name", "Duplicate", "Already exists");
    }
    wrong.check()?;
    let mut aggr = json!({
        "id": id, "name": name, "belongs_to_uuid": server, "lacp_mode": call.text("lacp_mode").unwrap_or("off"), "macs": macs,
        "nic_tags_provided": call.params.get("nic_tags_provided").cloned().unwrap_or_else(|| json!([])),
    });
    stamp(&mut aggr);
    shared.store.put(Kind::Aggregation, &id, aggr.clone())?;
    publish(&shared, "create", &aggr);
    Ok(tagged(&aggr, shown(&aggr)))
}

fn publish(shared: &Shared, what: &str, aggr: &Value) {
    let item = json!({"changedResourceId": aggr["id"], "belongs_to_uuid": aggr["belongs_to_uuid"], "name": aggr["name"]});
    shared.feed.publish("aggregation", &[what], item);
}

fn find(shared: &Shared, id: &str) -> Result<Value, ApiError> {
    shared.store.get(Kind::Aggregation, id)?.ok_or_else(|| ApiError::not_found("aggregation not found"))
}

pub(super) async fn show(State(shared): Here, Path(id): Path<String>) -> Result<Response, ApiError> {
    let aggr = find(&shared, &id)?;
    Ok(tagged(&aggr, shown(&aggr)))
}

pub(super) async fn remove(State(shared): Here, Path(id): Path<String>, call: Call) -> Result<Response, ApiError> {
    let aggr = find(&shared, &id)?;
    check_version(&call.headers, &aggr)?;
    shared.store.delete(Kind::Aggregation, &id)?;
    publish(&shared, "delete", &aggr);
    Ok(deleted())
}
