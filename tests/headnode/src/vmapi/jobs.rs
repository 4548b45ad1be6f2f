//! Jobs: start, stop, reboot, kill, update and destroy by CNAPI's tasks.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{JsonMap, call::Call, error::ApiError, shared::Shared, store::Kind};

pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(job): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.store.get(Kind::Job, &job)?.map(Json).ok_or_else(|| ApiError::not_found(format!("Job {job} not found")))
}

pub(super) async fn action(State(shared): State<Arc<Shared>>, Path(vm): Path<String>, call: Call) -> Result<Response, ApiError> {
    let (name, task) = match call.text("action") {
        Some("start") => ("start", "machine_boot"),
        Some("stop") => ("stop", "machine_shutdown"),
        Some("reboot") => ("reboot", "machine_reboot"),
        Some("kill") => ("kill", "machine_kill"),
        Some("update") => ("update", "machine_update"),
        other => return Err(ApiError::validation("action", format!("{:?} is not supported", other.unwrap_or_default()))),
    };
    simple(&shared, &vm, name, task, call)
}

pub(super) async fn destroy(State(shared): State<Arc<Shared>>, Path(vm): Path<String>, call: Call) -> Result<Response, ApiError> {
    simple(&shared, &vm, "destroy", "machine_destroy", call)
}

/// The answer to a request that made a job.
pub(super) fn accepted(vm: &str, job: &str) -> Response {
    (StatusCode::ACCEPTED, Json(json!({"vm_uuid": vm, "job_uuid": job}))).into_response()
}

fn simple(shared: &Arc<Shared>, vm: &str, name: &'static str, task: &'static str, call: Call) -> Result<Response, ApiError> {
    let record = shared.vm(vm)?;
    let server = record["server_uuid"].as_str().unwrap_or_default().to_owned();
    let mut params = call.params;
    params.remove("action");
    params.insert("uuid".to_owned(), json!(vm));
    params.insert("server_uuid".to_owned(), json!(server));
    let job = shared.new_job(name, vm, &server, &params)?;
    params.insert("jobid".to_owned(), json!(job));
    let (here, id, vm_uuid) = (Arc::clone(shared), job.clone(), vm.to_owned());
    shared.tracker.spawn(async move {
        let result = here.job_task(&id, &server, task, params, &call.req_id).await;
        if result.is_ok() && task == "machine_destroy" {
            here.set_vm_state(&vm_uuid, "destroyed");
        }
        here.end_job(&id, &result.map(drop));
    });
    Ok(accepted(vm, &job))
}

impl Shared {
    pub(super) fn new_job(&self, name: &str, vm: &str, server: &str, params: &JsonMap) -> Result<String, ApiError> {
        let id = uuid::Uuid::new_v4().to_string();
        let job = json!({
            "uuid": id, "name": name, "execution": "running", "vm_uuid": vm, "server_uuid": server, "created_at": self.clock.iso(),
            "params": params, "chain_results": [],
        });
        self.store.put(Kind::Job, &id, job)?;
        Ok(id)
    }

    /// Adds one line to a job's account of itself.
    pub(super) fn job_step(&self, job: &str, name: &str, result: &Result<String, String>) {
        let now = self.clock.iso();
        let step = match result {
            Ok(text) => json!({"name": name, "result": text, "error": "", "finished_at": now}),
            Err(text) => json!({"name": name, "result": "", "error": text, "finished_at": now}),
        };
        let stored = self.store.update(Kind::Job, job, |record| {
            let mut record = record?;
            record["chain_results"].as_array_mut()?.push(step);
            Some(record)
        });
        if let Err(error) = stored {
            tracing::error!(%error, job, "the job's record could not be stored");
        }
    }

    /// Sends a task for a job and waits for its end.
    pub(super) async fn job_task(
        self: &Arc<Self>,
        job: &str,
        server: &str,
        task: &'static str,
        params: JsonMap,
        req_id: &str,
    ) -> Result<Value, String> {
        let run = async {
            let started = self.start_task(server, task, params, req_id).map_err(|error| error.message().to_owned())?;
            let record = self.wait_for_task(&started.id, self.limits.task).await.map_err(|error| error.message().to_owned())?;
            if record["status"] == "complete" {
                return Ok(record["history"][0]["event"].clone());
            }
            Err(record["history"][0]["event"]["error"]["message"].as_str().unwrap_or("no error given").to_owned())
        };
        let result: Result<Value, String> = run.await;
        self.job_step(job, &format!("cnapi.{task}"), &result.as_ref().map(|_| "OK".to_owned()).map_err(Clone::clone));
        result
    }

    pub(super) fn end_job(&self, job: &str, result: &Result<(), String>) {
        let stored = self.store.update(Kind::Job, job, |record| {
            let mut record = record?;
            record["execution"] = json!(if result.is_ok() { "succeeded" } else { "failed" });
            record["finished_at"] = json!(self.clock.iso());
            if let Err(error) = result {
                record["error"] = json!(error);
            }
            Some(record)
        });
        if let Err(error) = stored {
            tracing::error!(%error, job, "the job's record could not be stored");
        }
        self.notify_ended();
    }
}
