//! `POST /resolve`: the rules that concern some instances and tags of an owner, and whom these speak of (firewaller.md section 7.1).

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{
    invalid,
    language::{self, Side},
};
use crate::{
    JsonMap,
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
    violations::Problem,
};

pub(super) async fn resolve(State(shared): State<Arc<Shared>>, call: Call) -> Result<Json<Value>, ApiError> {
    let owner = call.text("owner_uuid").filter(|text| uuid(text).is_some()).ok_or_else(|| invalid("owner_uuid", "Invalid owner UUID"))?;
    let tags = match call.params.get("tags") {
        None => JsonMap::new(),
        Some(Value::Object(tags)) => tags.clone(),
        Some(_) => return Err(invalid("tags", "must be an object")),
    };
    let vms: Vec<&str> = match call.params.get("vms") {
        None => Vec::new(),
        Some(Value::Array(list)) => list
            .iter()
            .map(|vm| vm.as_str().filter(|vm| uuid(vm).is_some()))
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("vms", "Invalid UUID"))?,
        Some(_) => return Err(invalid("vms", "must be an array")),
    };
    if tags.values().any(|values| values.as_array().is_none_or(|list| list.is_empty() || !list.iter().all(Value::is_string))) {
        let problem = Problem::new("tags", "values are lists of texts");
        shared.violations.add(&shared.clock.iso(), None, "resolve", [problem]);
    }
    let asked = Asked { tags: &tags, vms: &vms };
    let (mut rules, mut found) = (Vec::new(), Found::default());
    for rule in shared.store.list(Kind::FwRule)? {
        if rule["owner_uuid"] != owner && rule["global"] != true {
            continue;
        }
        let Some(text) = rule["rule"].as_str().and_then(language::read) else { continue };
        let (from, to) = (asked.is_named_by(&text.from), asked.is_named_by(&text.to));
        if from && (!text.allow || text.priority > 0) {
            found.add(&text.to);
        }
        if to && (text.allow || text.priority > 0) {
            found.add(&text.from);
        }
        if from || to {
            rules.push(rule);
        }
    }
    Ok(Json(json!({"rules": rules, "tags": found.tags, "vms": found.vms, "allVMs": found.all, "owner_uuid": owner})))
}

struct Asked<'a> {
    tags: &'a JsonMap,
    vms: &'a [&'a str],
}

impl Asked<'_> {
    fn is_named_by(&self, side: &Side) -> bool {
        let has = |key: &str, value: &Option<String>| {
            self.tags.get(key).is_some_and(|values| match value {
                None => true,
                Some(value) => values.as_array().is_some_and(|list| list.iter().any(|has| has == value.as_str())),
            })
        };
        side.all || side.vms.iter().any(|vm| self.vms.contains(&vm.as_str())) || side.tags.iter().any(|(key, value)| has(key, value))
    }
}

#[derive(Default)]
struct Found {
    tags: JsonMap,
    vms: BTreeSet<String>,
    all: bool,
}

impl Found {
    fn add(&mut self, side: &Side) {
        self.all |= side.all;
        self.vms.extend(side.vms.iter().cloned());
        for (key, value) in &side.tags {
            match (value, self.tags.get_mut(key)) {
                (None, _) => drop(self.tags.insert(key.clone(), json!(true))),
                (Some(value), Some(Value::Array(list))) => list.push(json!(value)),
                (Some(value), None) => drop(self.tags.insert(key.clone(), json!([value]))),
                (Some(_), Some(_)) => {}
            }
        }
    }
}
