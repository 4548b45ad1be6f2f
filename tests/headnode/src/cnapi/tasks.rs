//! Task records: what became of a request to an agent (cn-agent.md section 4.3).

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use semver::Version;
use serde_json::{Value, json};

use crate::{
    JsonMap,
    agent::Outcome,
    call::Call,
    error::ApiError,
    shared::Shared,
    store::{Kind, Store},
};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/tasks/{id}", get(show)).route("/tasks/{id}/wait", get(wait))
}

async fn show(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.task(&id).map(Json)
}

async fn wait(State(shared): State<Arc<Shared>>, Path(id): Path<String>, call: Call) -> Result<Json<Value>, ApiError> {
    let limit = Duration::from_secs(call.number("timeout").unwrap_or(3600).min(3600));
    shared.wait_for_task(&id, limit).await.map(Json)
}

/// A task that has an id.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub id: String,
}

impl Shared {
    pub(crate) fn task(&self, id: &str) -> Result<Value, ApiError> {
        self.store.get(Kind::Task, id)?.ok_or_else(|| ApiError::not_found(format!("Task {id} not found")))
    }

    /// The task once it is no longer active.
    pub(crate) async fn wait_for_task(&self, id: &str, limit: Duration) -> Result<Value, ApiError> {
        let mut ended = self.ended.subscribe();
        let done = async {
            loop {
                let task = self.task(id)?;
                if task["status"] != "active" {
                    return Ok(task);
                }
                if ended.changed().await.is_err() {
                    return Ok(task);
                }
            }
        };
        tokio::time::timeout(limit, done).await.map_err(|_| ApiError::internal(format!("Timed out waiting for task {id}")))?
    }

    /// The server, if a task may be sent to it: its status is running, and its cn-agent is recent enough for `task`.
    pub(crate) fn server_for(&self, uuid: &str, task: &str) -> Result<Value, ApiError> {
        let server = self.server(uuid)?;
        if server["status"] != "running" {
            return Err(ApiError::precondition(format!("Server {uuid} is not running (status {})", server["status"])));
        }
        let least = match task {
            "command_execute" => Version::new(2, 6, 0),
            "agents_uninstall" => Version::new(2, 8, 0),
            "server_sysinfo" => Version::new(2, 10, 0),
            "server_reboot" => Version::new(2, 11, 0),
            "recovery_config" => Version::new(2, 13, 0),
            _ => return Ok(server),
        };
        let agents = server["agents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = agents.iter().find(|agent| agent["name"] == "cn-agent").and_then(|agent| agent["version"].as_str());
        let version = text.and_then(|text| Version::parse(text).ok());
        if version.is_some_and(|version| version >= least) {
            return Ok(server);
        }
        let found = text.unwrap_or("none");
        Err(ApiError::precondition(format!("Server {uuid} needs cn-agent {least} or later for {task}, its version is {found}")))
    }

    /// Sends a task and returns at once; the record follows.
    pub(crate) fn start_task(self: &Arc<Self>, uuid: &str, task: &'static str, params: JsonMap, req_id: &str) -> Result<Started, ApiError> {
        let server = self.server_for(uuid, task)?;
        let id = uuid::Uuid::new_v4().to_string();
        let record = json!({
            "id": id, "req_id": req_id, "task": task, "server_uuid": uuid, "status": "active", "timestamp": self.clock.iso(), "history": [],
        });
        self.store.put(Kind::Task, &id, record)?;
        let (shared, req_id, started) = (Arc::clone(self), req_id.to_owned(), Started { id: id.clone() });
        self.tracker.spawn(async move {
            let outcome = shared.run_task(&server, task, params, &req_id, shared.limits.task).await;
            if let Outcome::Complete(body) = &outcome {
                shared.take_vm(&body["vm"], server["uuid"].as_str().unwrap_or_default());
            }
            let now = shared.clock.iso();
            let done = shared.store.update(Kind::Task, &id, |record| Some(finished(record?, outcome, &now)));
            if let Err(error) = done {
                tracing::error!(%error, id, "the task's record could not be stored");
            }
            shared.notify_ended();
        });
        Ok(started)
    }

    /// Sends a task and waits for its value.
    pub(crate) async fn call_task(
        &self,
        uuid: &str,
        task: &str,
        params: JsonMap,
        req_id: &str,
        limit: Duration,
    ) -> Result<Value, ApiError> {
        let server = self.server_for(uuid, task)?;
        match self.run_task(&server, task, params, req_id, limit).await {
            Outcome::Complete(value) => Ok(value),
            Outcome::Failure { rest_code, .. }
                if rest_code.as_deref() == Some("VmNotFound") && matches!(task, "machine_load" | "machine_proc" | "machine_info") =>
            {
                Err(ApiError::not_found("VM not found"))
            }
            Outcome::Failure { message, .. } => Err(ApiError::internal(message)),
        }
    }
}

fn finished(mut record: Value, outcome: Outcome, now: &str) -> Value {
    match outcome {
        Outcome::Complete(body) => {
            record["status"] = json!("complete");
            record["history"] = json!([{"name": "finish", "timestamp": now, "event": body}]);
        }
        Outcome::Failure { message, .. } => {
            let message = if message.is_empty() { "no error given" } else { &message };
            record["status"] = json!("failure");
            record["history"] = json!([
                {"name": "error", "timestamp": now, "event": {"error": {"message": message}}},
                {"name": "finish", "timestamp": now, "event": {}},
            ]);
        }
    }
    record
}

/// Tasks and jobs that were under way when the stand-in ended have nobody who waits for their agent.
pub(crate) fn fail_interrupted(store: &Store, now: &str) -> rusqlite::Result<()> {
    for task in store.list(Kind::Task)?.into_iter().filter(|task| task["status"] == "active") {
        let message = "CNAPI was restarted while the task was active".to_owned();
        let id = task["id"].as_str().unwrap_or_default().to_owned();
        store.put(Kind::Task, &id, finished(task, Outcome::Failure { message, rest_code: None }, now))?;
    }
    for mut job in store.list(Kind::Job)?.into_iter().filter(|job| job["execution"] == "running") {
        let id = job["uuid"].as_str().unwrap_or_default().to_owned();
        job["execution"] = json!("failed");
        job["error"] = json!("VMAPI was restarted while the job was running");
        store.put(Kind::Job, &id, job)?;
    }
    Ok(())
}
