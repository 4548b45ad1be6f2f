//! CNAPI, as an agent of a compute node uses it (cn-agent.md section 5).

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde_json::json;
use triton_types::ServerUuid;

use crate::{BaseUrl, Call, HttpClient, HttpError};

/// The messages of one compute node. The caller keeps at most one in flight.
#[derive(Clone, Debug)]
pub struct CnApi {
    client: HttpClient,
    base: BaseUrl,
    server: ServerUuid,
}

impl CnApi {
    /// The client of `server`.
    pub fn new(client: HttpClient, base: BaseUrl, server: ServerUuid) -> Self {
        Self { client, base, server }
    }

    /// The service's URL.
    pub fn url(&self) -> &BaseUrl {
        &self.base
    }

    /// Registers the node, or refreshes what is known of it. CNAPI accepts servers that it does not know.
    ///
    /// # Errors
    /// 404 `ResourceNotFound` ([`HttpError::is_not_found`]) means a CNAPI without this request: give up.
    pub async fn post_sysinfo(&self, sysinfo: &impl Serialize) -> Result<(), HttpError> {
        self.post("/sysinfo", &json!({"sysinfo": to_value(sysinfo)})).await
    }

    /// Replaces the list of installed agents.
    ///
    /// # Errors
    /// 404 until the server is known.
    pub async fn post_agents(&self, agents: &impl Serialize) -> Result<(), HttpError> {
        self.post("", &json!({"agents": to_value(agents)})).await
    }

    /// Says that the node lives.
    ///
    /// # Errors
    /// When CNAPI did not take it.
    pub async fn heartbeat(&self) -> Result<(), HttpError> {
        self.post("/events/heartbeat", &json!({})).await
    }

    /// Posts instances, memory and disk figures.
    ///
    /// # Errors
    /// 404 until the server is known.
    pub async fn post_status(&self, status: &impl Serialize) -> Result<(), HttpError> {
        self.post("/events/status", status).await
    }

    async fn post(&self, path: &str, body: &impl Serialize) -> Result<(), HttpError> {
        let mut call = Call::new(Method::POST, format!("/servers/{}{path}", self.server));
        // What has no text (a map with keys that are no strings) is a defect of the caller; it is sent as null.
        call.body = Some(serde_json::to_vec(body).map_or_else(|_| Bytes::from_static(b"null"), Bytes::from));
        self.client.call(&self.base, call).await.map(drop)
    }
}

/// What cannot be serialised (a map with keys that are no strings) is a defect of the caller; it is sent as null.
fn to_value(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
