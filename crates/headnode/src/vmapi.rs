//! VMAPI, as the agent that reports this node's instances uses it (vm-agent.md section 3).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::Method;
use serde_json::{Map, Value};
use triton_types::{InstanceUuid, Packed, ServerUuid};

use crate::{BaseUrl, Call, HttpClient, HttpError, HttpFailure, HttpOptions, Names};

/// VMAPI's largest page of instances, which is also its default (vm-agent.md section 5).
const PAGE: usize = 1000;
/// Pages that are read at most: far above what one node can hold.
const PAGES: usize = 64;
/// A page of instances with large metadata.
const MAX_REPLY: usize = 128 << 20;

/// A VM object as VMAPI has it.
type Object = Map<String, Value>;

/// The instances of one compute node in VMAPI.
#[derive(Clone, Debug)]
pub struct VmApi {
    single: HttpClient,
    bulk: HttpClient,
    base: BaseUrl,
    server: ServerUuid,
}

impl VmApi {
    /// The client of `server`. One instance may take 30 s, a list or a bulk report 60 s (section 3.2).
    pub fn new(user_agent: &str, base: BaseUrl, server: ServerUuid) -> Self {
        Self::with_names(user_agent, base, server, Names::system())
    }

    /// As [`VmApi::new`], with names looked up so.
    pub fn with_names(user_agent: &str, base: BaseUrl, server: ServerUuid, names: Names) -> Self {
        let mut options = HttpOptions { names, ..HttpOptions::new(user_agent) };
        options.idle_connections = 4;
        options.request_timeout = Duration::from_secs(30);
        let single = HttpClient::new(options.clone());
        options.request_timeout = Duration::from_secs(60);
        options.max_reply = MAX_REPLY;
        Self { single, bulk: HttpClient::new(options), base, server }
    }

    /// The service's URL.
    pub fn url(&self) -> &BaseUrl {
        &self.base
    }

    /// All instances that VMAPI believes to be on this node, neither destroyed nor failed. Read page by page (ruling 4).
    ///
    /// # Errors
    /// When any page cannot be had: a part of the list is worth nothing.
    pub async fn active(&self) -> Result<BTreeMap<InstanceUuid, Packed>, HttpError> {
        self.pages(&[("server_uuid", self.server.to_string()), ("state", "active".to_owned())], None, |vm| Packed::from(&vm)).await
    }

    /// All instances that a predicate (JSON) describes, page by page (ruling 4).
    ///
    /// # Errors
    /// When any page cannot be had: a part of the list is worth nothing.
    pub async fn matching(&self, predicate: &Value, request_id: &str) -> Result<BTreeMap<InstanceUuid, Object>, HttpError> {
        self.pages(&[("predicate", predicate.to_string())], Some(request_id), |vm| vm).await
    }

    /// One instance; `None` when VMAPI does not know it.
    ///
    /// # Errors
    /// When VMAPI does not answer with it.
    pub async fn get(&self, uuid: InstanceUuid, request_id: &str) -> Result<Option<Object>, HttpError> {
        let mut call = Call::new(Method::GET, format!("/vms/{uuid}"));
        call.request_id = Some(request_id.to_owned());
        let reply = match self.single.call(&self.base, call).await {
            Err(error) if error.is_not_found() => return Ok(None),
            reply => reply?,
        };
        serde_json::from_slice(&reply.body).map(Some).map_err(|error| HttpError {
            method: Method::GET,
            url: format!("{}/vms/{uuid}", self.base),
            source: Box::new(HttpFailure::Unexpected(format!("no instance: {error}"))),
        })
    }

    /// All instances that `query` asks for, each as `keep` makes it.
    async fn pages<T>(
        &self,
        query: &[(&'static str, String)],
        request_id: Option<&str>,
        keep: impl Fn(Object) -> T,
    ) -> Result<BTreeMap<InstanceUuid, T>, HttpError> {
        let mut all = BTreeMap::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES {
            let mut call = Call::new(Method::GET, "/vms");
            call.query = query.to_vec();
            call.request_id = request_id.map(str::to_owned);
            call.query.extend(marker.take().map(|uuid| ("marker", format!(r#"{{"uuid":"{uuid}"}}"#))));
            let reply = self.bulk.call(&self.base, call).await?;
            let unexpected = |reason: String| HttpError {
                method: Method::GET,
                url: format!("{}/vms", self.base),
                source: Box::new(HttpFailure::Unexpected(reason)),
            };
            let page: Vec<Object> =
                serde_json::from_slice(&reply.body).map_err(|error| unexpected(format!("no list of instances: {error}")))?;
            let (count, before) = (page.len(), all.len());
            for vm in page {
                let uuid = vm.get("uuid").and_then(Value::as_str).unwrap_or_default();
                marker = Some(uuid.to_owned());
                let uuid = uuid.parse().map_err(|_| unexpected(format!("an instance has the uuid {uuid:?}")))?;
                all.insert(uuid, keep(vm));
            }
            // A page that adds nothing is the same page again: a service without markers.
            if count < PAGE || all.len() == before {
                return Ok(all);
            }
        }
        Ok(all)
    }

    /// Reports several instances at once: `body` is `{"vms":{"<uuid>":<object>,...}}`.
    ///
    /// # Errors
    /// When VMAPI did not store all of them; those before the first failure may be stored.
    pub async fn put_all(&self, body: Bytes) -> Result<(), HttpError> {
        let mut call = Call::new(Method::PUT, "/vms");
        call.query = vec![("server_uuid", self.server.to_string())];
        call.body = Some(body);
        self.bulk.call(&self.base, call).await.map(drop)
    }

    /// Reports one instance: `body` is its whole object, which replaces what VMAPI has.
    ///
    /// # Errors
    /// When VMAPI did not store it.
    pub async fn put(&self, uuid: InstanceUuid, body: Bytes) -> Result<(), HttpError> {
        let mut call = Call::new(Method::PUT, format!("/vms/{uuid}"));
        call.body = Some(body);
        self.single.call(&self.base, call).await.map(drop)
    }
}
