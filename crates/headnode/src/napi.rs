//! NAPI, as the agent that keeps this node's NICs in step uses it (net-agent.md section 3).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use serde_json::{Map, Value, json};
use triton_types::{Mac, NetworkUuid, ServerUuid};

use crate::{BaseUrl, Call, HttpClient, HttpError, HttpFailure, HttpOptions};

/// Largest page of a list (ruling 4).
const PAGE: usize = 1000;
/// Pages that are read at most: far above what one node can hold.
const PAGES: usize = 64;
/// Longest entity tag that is kept: a longer one is no tag.
const TAG: usize = 256;

/// A JSON object.
type Object = Map<String, Value>;

/// An object with the tag of its version.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagged {
    /// The object.
    pub object: Object,
    /// `Etag`, for [`Napi::delete_nic`].
    pub etag: Option<String>,
}

/// NICs, networks and aggregations.
#[derive(Clone, Debug)]
pub struct Napi {
    client: HttpClient,
    base: BaseUrl,
}

/// A MAC address as it stands in NAPI's paths: twelve digits.
pub fn mac_digits(mac: Mac) -> String {
    mac.0.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Napi {
    /// The client; one request may take 30 s.
    pub fn new(user_agent: &str, base: BaseUrl) -> Self {
        let mut options = HttpOptions::new(user_agent);
        options.idle_connections = 10;
        options.request_timeout = Duration::from_secs(30);
        Self { client: HttpClient::new(options), base }
    }

    /// The service's URL.
    pub fn url(&self) -> &BaseUrl {
        &self.base
    }

    /// One NIC.
    ///
    /// # Errors
    /// 404 when there is none, and whatever else a request can meet.
    pub async fn nic(&self, mac: Mac) -> Result<Tagged, HttpError> {
        self.object(Call::new(Method::GET, format!("/nics/{}", mac_digits(mac)))).await
    }

    /// Creates a NIC; `body` holds its `mac`.
    ///
    /// # Errors
    /// 422 when NAPI does not take a field.
    pub async fn create_nic(&self, body: &Object) -> Result<Tagged, HttpError> {
        self.object(with_body(Call::new(Method::POST, "/nics"), body)).await
    }

    /// Changes the fields of a NIC that `body` holds.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn update_nic(&self, mac: Mac, body: &Object) -> Result<Tagged, HttpError> {
        self.object(with_body(Call::new(Method::PUT, format!("/nics/{}", mac_digits(mac))), body)).await
    }

    /// Deletes a NIC if it still is the version of `etag`. That there is none is success.
    ///
    /// # Errors
    /// 412 when it changed meanwhile.
    pub async fn delete_nic(&self, mac: Mac, etag: &str) -> Result<(), HttpError> {
        self.delete(format!("/nics/{}", mac_digits(mac)), etag).await
    }

    /// All NICs of instances that NAPI has on `server`, page by page.
    ///
    /// # Errors
    /// When any page cannot be had: a part of the list is worth nothing.
    pub async fn nics_of(&self, server: ServerUuid) -> Result<Vec<Object>, HttpError> {
        let mut all: Vec<Object> = Vec::new();
        for _ in 0..PAGES {
            let mut call = Call::new(Method::GET, "/nics");
            call.query = vec![("belongs_to_type", "zone".to_owned()), ("cn_uuid", server.to_string()), ("limit", PAGE.to_string())];
            if !all.is_empty() {
                call.query.push(("offset", all.len().to_string()));
            }
            let reply = self.client.call(&self.base, call).await?;
            let page: Vec<Object> = serde_json::from_slice(&reply.body)
                .map_err(|error| self.unexpected(&Method::GET, "/nics", &format!("no list: {error}")))?;
            let count = page.len();
            let again = page.first().is_some_and(|first| all.first() == Some(first));
            if again {
                // A service without offsets: the first page is all there is.
                return Ok(all);
            }
            all.extend(page);
            if count < PAGE {
                return Ok(all);
            }
        }
        Ok(all)
    }

    /// One network.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn network(&self, uuid: NetworkUuid) -> Result<Object, HttpError> {
        Ok(self.object(Call::new(Method::GET, format!("/networks/{uuid}"))).await?.object)
    }

    /// One aggregation of links, by `<server>-<name>`.
    ///
    /// # Errors
    /// 404 when there is none.
    pub async fn aggregation(&self, server: ServerUuid, name: &str) -> Result<Tagged, HttpError> {
        self.object(Call::new(Method::GET, format!("/aggregations/{server}-{}", segment(name)))).await
    }

    /// Creates an aggregation.
    ///
    /// # Errors
    /// 422 when NAPI does not take a field.
    pub async fn create_aggregation(&self, body: &Object) -> Result<Tagged, HttpError> {
        self.object(with_body(Call::new(Method::POST, "/aggregations"), body)).await
    }

    /// Deletes an aggregation if it still is the version of `etag`. That there is none is success.
    ///
    /// # Errors
    /// 412 when it changed meanwhile.
    pub async fn delete_aggregation(&self, server: ServerUuid, name: &str, etag: &str) -> Result<(), HttpError> {
        self.delete(format!("/aggregations/{server}-{}", segment(name)), etag).await
    }

    async fn delete(&self, path: String, etag: &str) -> Result<(), HttpError> {
        let mut call = Call::new(Method::DELETE, path);
        call.if_match = Some(etag.to_owned());
        match self.client.call(&self.base, call).await {
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Ok(()),
            result => result.map(drop),
        }
    }

    async fn object(&self, call: Call<'_>) -> Result<Tagged, HttpError> {
        let (method, path) = (call.method.clone(), call.path.clone());
        let reply = self.client.call(&self.base, call).await?;
        let object =
            serde_json::from_slice(&reply.body).map_err(|error| self.unexpected(&method, &path, &format!("no object: {error}")))?;
        Ok(Tagged { object, etag: etag(&reply.headers) })
    }

    fn unexpected(&self, method: &Method, path: &str, reason: &str) -> HttpError {
        let url = format!("{}{path}", self.base);
        HttpError { method: method.clone(), url, source: Box::new(HttpFailure::Unexpected(reason.to_owned())) }
    }
}

fn with_body<'a>(mut call: Call<'a>, body: &Object) -> Call<'a> {
    call.body = Some(Bytes::from(json!(body).to_string()));
    call
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let tag = headers.get(header::ETAG)?.to_str().ok()?;
    (!tag.is_empty() && tag.len() <= TAG).then(|| tag.to_owned())
}

/// A name as one segment of a path: link names have no other characters, and whatever has is none of ours.
fn segment(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')).collect()
}
