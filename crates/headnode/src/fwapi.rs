//! FWAPI, as the agent that keeps this node's firewall uses it (firewaller.md section 7).

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use triton_types::{InstanceUuid, OwnerUuid};

use crate::{BaseUrl, Call, HttpClient, HttpError, HttpFailure, HttpOptions, Names};

/// All rules of one owner, and more than 100,000 names.
const MAX_REPLY: usize = 64 << 20;

/// A rule as FWAPI has it.
type Object = Map<String, Value>;

/// What this node has of one owner.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Question {
    /// The owner.
    pub owner_uuid: OwnerUuid,
    /// Their instances here.
    pub vms: Vec<InstanceUuid>,
    /// The values of each tag of these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Vec<String>>,
}

/// Which instances elsewhere the rules of an owner speak of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Peers {
    /// Tags: `true` for every value, else the values.
    #[serde(default)]
    pub tags: Map<String, Value>,
    /// Instances by uuid.
    #[serde(default)]
    pub vms: Vec<InstanceUuid>,
    /// All of them.
    #[serde(default, rename = "allVMs")]
    pub all_vms: bool,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Answer {
    /// Rules about these instances, enabled or not, the owner's and global ones.
    pub rules: Vec<Object>,
    /// Whom they speak of on their other side.
    #[serde(flatten)]
    pub peers: Peers,
}

/// Rules of the data centre.
#[derive(Clone, Debug)]
pub struct FwApi {
    client: HttpClient,
    base: BaseUrl,
}

impl FwApi {
    /// The client; one request may take 60 s.
    pub fn new(user_agent: &str, base: BaseUrl) -> Self {
        Self::with_names(user_agent, base, Names::system())
    }

    /// As [`FwApi::new`], with names looked up so.
    pub fn with_names(user_agent: &str, base: BaseUrl, names: Names) -> Self {
        let mut options = HttpOptions { names, ..HttpOptions::new(user_agent) };
        options.idle_connections = 3;
        options.request_timeout = Duration::from_secs(60);
        options.max_reply = MAX_REPLY;
        Self { client: HttpClient::new(options), base }
    }

    /// The service's URL.
    pub fn url(&self) -> &BaseUrl {
        &self.base
    }

    /// The rules that concern what this node has of one owner.
    ///
    /// # Errors
    /// For every answer but 200 with all of it.
    pub async fn resolve(&self, question: &Question, request_id: &str) -> Result<Answer, HttpError> {
        self.post("/resolve", serde_json::to_vec(question).unwrap_or_default(), request_id).await
    }

    /// Gives FWAPI a rule that was made on this node; returns what it made of it.
    ///
    /// # Errors
    /// 422 when FWAPI does not take it.
    pub async fn create_rule(&self, rule: &Value, request_id: &str) -> Result<Object, HttpError> {
        self.post("/rules", rule.to_string().into_bytes(), request_id).await
    }

    async fn post<T: for<'de> Deserialize<'de>>(&self, path: &str, body: Vec<u8>, request_id: &str) -> Result<T, HttpError> {
        let mut call = Call::new(Method::POST, path);
        call.body = Some(Bytes::from(body));
        call.request_id = Some(request_id.to_owned());
        let reply = self.client.call(&self.base, call).await?;
        serde_json::from_slice(&reply.body).map_err(|error| HttpError {
            method: Method::POST,
            url: format!("{}{path}", self.base),
            source: Box::new(HttpFailure::Unexpected(error.to_string())),
        })
    }
}
