//! VMAPI, as far as provisioning and lifecycle by HTTP need it. Reports of agents (`PUT /vms`, `PUT /vms/:uuid`) are kept as they come.

mod jobs;
mod provision;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
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
        .route("/vms", get(list).post(provision::provision).put(put_all))
        .route("/vms/{uuid}", get(show).post(jobs::action).delete(jobs::destroy).put(put_one))
        .route("/jobs/{uuid}", get(jobs::show))
        .with_state(shared)
}

async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let limit = call.number("limit").unwrap_or(1000).min(1000);
    let offset = call.number("offset").unwrap_or(0);
    let mut vms = shared.store.list(Kind::Vm)?;
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
    let skip = usize::try_from(offset).unwrap_or(usize::MAX);
    Ok(Json(vms.into_iter().skip(skip).take(usize::try_from(limit).unwrap_or(1000)).collect()))
}

async fn show(State(shared): Here, Path(vm): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.vm(&vm).map(Json)
}

/// The bulk report of vm-agent.
async fn put_all(State(shared): Here, call: Call) -> Result<StatusCode, ApiError> {
    let server = call.text("server_uuid").filter(|text| uuid(text).is_some());
    let server = server.ok_or_else(|| ApiError::validation("server_uuid", "is not a uuid"))?;
    let vms = call.params.get("vms").and_then(Value::as_object).ok_or_else(|| ApiError::validation("vms", "is not an object"))?;
    vms.values().for_each(|vm| shared.take_vm(vm, server));
    Ok(StatusCode::OK)
}

/// The report of one instance.
async fn put_one(State(shared): Here, Path(vm): Path<String>, call: Call) -> Result<Response, ApiError> {
    if uuid(&vm).is_none() || call.body["uuid"] != vm.as_str() {
        return Err(ApiError::validation("uuid", "is not the uuid of the path"));
    }
    let server = call.body["server_uuid"].as_str().unwrap_or_default();
    shared.take_vm(&call.body, server);
    Ok(Json(shared.vm(&vm)?).into_response())
}

impl Shared {
    pub(crate) fn vm(&self, vm: &str) -> Result<Value, ApiError> {
        self.store.get(Kind::Vm, vm)?.ok_or_else(|| ApiError::not_found(format!("VM {vm} not found")))
    }

    /// Keeps a VM object that an agent reported or a task returned.
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
