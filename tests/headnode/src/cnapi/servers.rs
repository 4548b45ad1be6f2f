//! Server records: registration, agents, heartbeats, status (cn-agent.md sections 5 and 7.1).

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    call::{Call, path_uuid},
    error::ApiError,
    judge,
    shared::Shared,
    store::Kind,
};

type Here = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/ping", get(async || Json(json!({"ready": true}))))
        .route("/servers", get(list))
        .route("/servers/{server}", get(show).post(update).delete(remove))
        .route("/servers/{server}/sysinfo", post(register))
        .route("/servers/{server}/events/heartbeat", post(heartbeat))
        .route("/servers/{server}/events/status", post(status))
}

/// Heavy fields, left out of a list unless `extras` names them.
const EXTRAS: [&str; 3] = ["sysinfo", "vms", "agents"];

async fn list(State(shared): Here, call: Call) -> Result<Json<Vec<Value>>, ApiError> {
    let extras: Vec<&str> = call.text("extras").unwrap_or_default().split(',').collect();
    let uuids: Option<Vec<&str>> = call.text("uuids").map(|list| list.split(',').collect());
    let wanted = |server: &Value| {
        let text = |key: &str| server[key].as_str().unwrap_or_default();
        uuids.as_ref().is_none_or(|uuids| uuids.contains(&text("uuid")))
            && call.text("hostname").is_none_or(|name| name == text("hostname"))
            && call.text("setup").is_none_or(|setup| (setup == "true") == (server["setup"] == true))
    };
    let mut servers = shared.servers()?;
    servers.retain(wanted);
    for server in &mut servers {
        if let Some(map) = server.as_object_mut() {
            map.retain(|key, _| !EXTRAS.contains(&key.as_str()) || extras.contains(&"all") || extras.contains(&key.as_str()));
        }
    }
    Ok(Json(servers))
}

async fn show(State(shared): Here, Path(server): Path<String>) -> Result<Json<Value>, ApiError> {
    shared.server(&server).map(Json)
}

async fn remove(State(shared): Here, Path(server): Path<String>) -> Result<StatusCode, ApiError> {
    shared.server(&server)?;
    shared.store.delete(Kind::Server, &server)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Fields that `POST /servers/:uuid` may set. Others are ignored, as CNAPI ignores them.
const UPDATABLE: [&str; 8] =
    ["agents", "setup", "setting_up", "reserved", "comments", "rack_identifier", "overprovision_ratios", "transitional_status"];

async fn update(State(shared): Here, Path(server): Path<String>, call: Call) -> Result<StatusCode, ApiError> {
    shared.server(&server)?;
    if let Some(agents) = call.params.get("agents") {
        if !agents.is_array() {
            return Err(ApiError::invalid_argument("'agents' must be an array"));
        }
        let mut problems = judge::agents(agents);
        problems.extend(judge::from_agent(&server, &call.headers));
        shared.violations.add(&shared.clock.iso(), Some(&server), "agents", problems);
    }
    shared.store.update(Kind::Server, &server, |record| {
        let mut record = record?;
        for field in UPDATABLE {
            if let Some(value) = call.params.get(field) {
                record[field] = value.clone();
            }
        }
        Some(record)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn register(State(shared): Here, Path(server): Path<String>, call: Call) -> Result<StatusCode, ApiError> {
    let problems = judge::from_agent(&server, &call.headers);
    shared.violations.add(&shared.clock.iso(), Some(&server), "request", problems);
    let sysinfo = call.body.get("sysinfo").filter(|sysinfo| sysinfo.is_object());
    let sysinfo = sysinfo.ok_or_else(|| ApiError::invalid_argument("'sysinfo' must be an object"))?;
    shared.store_sysinfo(&server, sysinfo)?;
    Ok(StatusCode::OK)
}

async fn heartbeat(State(shared): Here, Path(server): Path<String>, call: Call) -> Result<StatusCode, ApiError> {
    let id = path_uuid(&server, "Server")?;
    let mut problems = judge::from_agent(&server, &call.headers);
    if call.body != json!({}) {
        problems.push(crate::violations::Problem::new("body", format!("{{}} is needed, not {}", call.body)));
    }
    shared.violations.add(&shared.clock.iso(), Some(&server), "heartbeat", problems);
    let now = shared.clock.now();
    // Accepted of an unknown server too, which it does not create.
    if shared.store.get(Kind::Server, &server)?.is_some() {
        Shared::lock(&shared.heartbeats).insert(id, now);
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn status(State(shared): Here, Path(server): Path<String>, call: Call) -> Result<StatusCode, ApiError> {
    shared.server(&server)?;
    let request = judge::from_agent(&server, &call.headers);
    let problems = judge::status(&call.body);
    let count = problems.len();
    let now = shared.clock.iso();
    shared.violations.add(&now, Some(&server), "request", request);
    shared.violations.add(&now, Some(&server), "status", problems);
    let body = call.body;
    shared.store.update(Kind::Server, &server, |record| {
        let mut record = record?;
        record["standin"]["status_seen"] = json!(true);
        record["standin"]["status_problems"] = json!(count);
        // A missing list becomes an empty one, as in CNAPI.
        record["vms"] = body.get("vms").filter(|vms| vms.is_object()).cloned().unwrap_or_else(|| json!({}));
        for (from, to) in
            [("availrmem_bytes", "memory_available_bytes"), ("arcsize_bytes", "memory_arc_bytes"), ("total_bytes", "memory_total_bytes")]
        {
            record[to] = body["meminfo"][from].clone();
        }
        for (key, value) in body["diskinfo"].as_object().into_iter().flatten() {
            record[format!("disk_{key}")] = value.clone();
        }
        record["zpool_status"] = body["zpoolStatus"].clone();
        record["status_timestamp"] = body["timestamp"].clone();
        Some(record)
    })?;
    Ok(StatusCode::NO_CONTENT)
}

impl Shared {
    /// Makes or updates the server's record from a sysinfo document.
    pub(crate) fn store_sysinfo(&self, server: &str, sysinfo: &Value) -> Result<(), ApiError> {
        path_uuid(server, "Server")?;
        if let Some(reason) = judge::refuse_sysinfo(server, sysinfo) {
            return Err(ApiError::internal(reason));
        }
        let problems = judge::sysinfo(sysinfo);
        let count = problems.len();
        self.violations.add(&self.clock.iso(), Some(server), "sysinfo", problems);
        let created =
            sysinfo["Zpool Creation"].as_i64().map_or_else(|| self.clock.iso(), |secs| crate::clock::iso(secs.saturating_mul(1000)));
        self.store.update(Kind::Server, server, |record| {
            let mut record = record.unwrap_or_else(|| {
                json!({
                    "uuid": server, "hostname": sysinfo["Hostname"], "datacenter": self.datacenter, "created": created,
                    "reserved": false, "headnode": false, "agents": [], "vms": {}, "overprovision_ratios": {},
                    "transitional_status": "", "standin": {"status_seen": false, "status_problems": 0},
                })
            });
            let flag = |value: &Value| value == &Value::Bool(true) || value.as_str() == Some("true");
            record["setup"] = json!(flag(&sysinfo["Setup"]));
            record["sysinfo"] = sysinfo.clone();
            record["standin"]["sysinfo_problems"] = json!(count);
            record["current_platform"] = sysinfo["Live Image"].clone();
            record["system_type"] = sysinfo["System Type"].clone();
            record["ram"] = sysinfo["MiB of Memory"].clone();
            let booted = &sysinfo["Boot Time"];
            let seconds = booted.as_i64().or_else(|| booted.as_str()?.parse().ok());
            record["last_boot"] = json!(seconds.map(|secs| crate::clock::iso(secs.saturating_mul(1000))));
            if record["agents"].as_array().is_none_or(Vec::is_empty) {
                record["agents"] = sysinfo.get("SDC Agents").filter(|agents| agents.is_array()).cloned().unwrap_or_else(|| json!([]));
            }
            if let Some(headnode) = sysinfo["Boot Parameters"].get("headnode") {
                record["headnode"] = json!(headnode == "true");
            }
            Some(record)
        })?;
        Ok(())
    }
}
