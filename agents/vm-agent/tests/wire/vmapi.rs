//! A VMAPI on a loopback port: stores what it is given, records every request, and can be told to refuse.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Instant,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, put},
};
use serde_json::{Map, Value, json};

/// One request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Instant,
    pub line: String,
    pub agent: String,
    pub has_date: bool,
    pub body: Value,
}

#[derive(Default)]
pub struct Store {
    pub vms: BTreeMap<String, Map<String, Value>>,
    pub requests: Vec<Request>,
    /// Statuses of the next requests whose line begins so; 0 closes the connection.
    pub refusals: VecDeque<(&'static str, u16)>,
    /// Requests for this path get this status until it is cleared.
    pub stubborn: Option<(String, u16)>,
}

#[derive(Clone, Default)]
pub struct Vmapi(pub Arc<Mutex<Store>>);

impl Vmapi {
    pub async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/vms", get(list).put(put_all)).route("/vms/{uuid}", put(put_one)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    /// The lines of all requests so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().requests.iter().map(|request| request.line.clone()).collect()
    }

    pub fn refuse(&self, line: &'static str, status: u16, times: usize) {
        self.0.lock().unwrap().refusals.extend(std::iter::repeat_n((line, status), times));
    }

    pub fn get(&self, uuid: &str) -> Option<Map<String, Value>> {
        self.0.lock().unwrap().vms.get(uuid).cloned()
    }

    fn record(&self, line: String, headers: &HeaderMap, body: &[u8]) -> Option<Response> {
        let mut store = self.0.lock().unwrap();
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let body = serde_json::from_slice(body).unwrap_or_default();
        let refusal = store.refusals.front().filter(|(prefix, _)| line.starts_with(prefix)).map(|(_, status)| *status);
        if refusal.is_some() {
            store.refusals.pop_front();
        }
        let stubborn = store.stubborn.as_ref().filter(|(path, _)| line.contains(path.as_str())).map(|(_, status)| *status);
        let request = Request { at: Instant::now(), agent: text("user-agent").unwrap(), has_date: text("date").is_some(), line, body };
        store.requests.push(request);
        refusal.or(stubborn).map(|status| {
            let body = Json(json!({"code": "Refused", "message": "told so"}));
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        })
    }
}

async fn list(State(vmapi): State<Vmapi>, Query(query): Query<Vec<(String, String)>>, headers: HeaderMap) -> Response {
    let text: Vec<String> = query.iter().map(|(key, value)| format!("{key}={value}")).collect();
    if let Some(refusal) = vmapi.record(format!("GET /vms?{}", text.join("&")), &headers, b"") {
        return refusal;
    }
    let marker = query.iter().find(|(key, _)| key == "marker").map(|(_, value)| serde_json::from_str::<Value>(value).unwrap());
    let after = marker.map(|marker| marker["uuid"].as_str().unwrap().to_owned()).unwrap_or_default();
    let store = vmapi.0.lock().unwrap();
    let active = store.vms.iter().filter(|(uuid, vm)| **uuid > after && vm["state"] != "destroyed" && vm["state"] != "failed");
    Json(active.map(|(_, vm)| vm.clone()).take(1000).collect::<Vec<_>>()).into_response()
}

async fn put_all(State(vmapi): State<Vmapi>, Query(query): Query<BTreeMap<String, String>>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = vmapi.record(format!("PUT /vms?server_uuid={}", query["server_uuid"]), &headers, &body) {
        return refusal;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let vms = body["vms"].as_object().unwrap().iter().map(|(uuid, vm)| (uuid.clone(), vm.as_object().unwrap().clone()));
    vmapi.0.lock().unwrap().vms.extend(vms);
    StatusCode::OK.into_response()
}

async fn put_one(State(vmapi): State<Vmapi>, Path(uuid): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refusal) = vmapi.record(format!("PUT /vms/{uuid}"), &headers, &body) {
        return refusal;
    }
    let vm: Map<String, Value> = serde_json::from_slice(&body).unwrap();
    assert_eq!(vm["uuid"], uuid.as_str());
    vmapi.0.lock().unwrap().vms.insert(uuid, vm.clone());
    Json(vm).into_response()
}
