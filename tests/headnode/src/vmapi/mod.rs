//! VMAPI, as far as provisioning, lifecycle by HTTP and the reports of agents need it.

mod jobs;
mod predicate;
mod provision;
mod report;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use crate::{
    call::{Call, uuid},
    error::ApiError,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/ping", get(async || Json(json!({"status": "OK"}))))
        .route("/vms", get(list).post(provision::provision).put(report::put_all))
        .route("/vms/{uuid}", get(show).post(jobs::action).delete(jobs::destroy).put(report::put_one))
        .route("/jobs/{uuid}", get(jobs::show))
        .with_state(shared)
}

async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let limit = call.number("limit").unwrap_or(1000).min(1000);
    let offset = call.number("offset").unwrap_or(0);
    let predicate = match call.text("predicate") {
        None => Value::Null,
        Some(text) => serde_json::from_str(text).map_err(|_| ApiError::validation("predicate", "is not JSON"))?,
    };
    predicate::check(&predicate).map_err(|message| ApiError::validation("predicate", message))?;
    let mut vms = shared.store.list(Kind::Vm)?;
    vms.retain(|vm| predicate::holds(&predicate, vm));
    vms.retain(|vm| {
        let state = vm["state"].as_str().unwrap_or_default();
        let state_matches = match call.text("state") {
            None => true,
            Some("active") => !["destroyed", "failed"].contains(&state),
            Some(wanted) => wanted == state,
        };
        let same = |key: &str| call.text(key).is_none_or(|wanted| vm[key] == wanted);
        state_matches && ["server_uuid", "owner_uuid", "alias", "brand"].into_iter().all(same)
    });
    // Pages are continued after a marker: an object with the uuid of the last one that was read.
    vms.sort_by(|a, b| a["uuid"].as_str().cmp(&b["uuid"].as_str()));
    if let Some(marker) = call.text("marker") {
        let marker: Value = serde_json::from_str(marker).map_err(|_| ApiError::validation("marker", "is not JSON"))?;
        let after = marker["uuid"].as_str().ok_or_else(|| ApiError::validation("marker", "has no uuid"))?.to_owned();
        vms.retain(|vm| vm["uuid"].as_str() > Some(after.as_str()));
    }
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Json(vms.into_iter().skip(skip).take(usize::try_from(limit).unwrap_or(1000)).collect()))
}

async fn show(State(shared): Here, Path(vm): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.vm(&vm).map(Json)
}

impl Shared {
    pub(crate) fn vm(&self, vm: &str) -> Result<Value, ApiError> {
        self.store.get(Kind::Vm, vm)?.ok_or_else(|| ApiError::not_found(format!("VM {vm} not found")))
    }

    /// Keeps what a task returned of a VM.
    pub(crate) fn take_vm(&self, vm: &Value, server: &str) {
        let Some(id) = vm["uuid"].as_str().filter(|text| uuid(text).is_some()) else { return };
        let stored = self.store.update(Kind::Vm, id, |old| {
            let mut new = old.unwrap_or_else(|| json!({}));
            for (key, value) in vm.as_object().into_iter().flatten() {
                new[key] = value.clone();
            }
            if !server.is_empty() {
                new["server_uuid"] = json!(server);
            }
            Some(new)
        });
        if let Err(error) = stored {
            tracing::error!(%error, id, "the VM's record could not be stored");
        }
    }

    pub(crate) fn set_vm_state(&self, vm: &str, state: &str) {
        let stored = self.store.update(Kind::Vm, vm, |old| {
            let mut vm = old?;
            vm["state"] = json!(state);
            vm["zone_state"] = json!(state);
            Some(vm)
        });
        if let Err(error) = stored {
            tracing::error!(%error, vm, "the VM's state could not be stored");
        }
    }
}
