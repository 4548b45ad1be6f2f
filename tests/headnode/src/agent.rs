//! Requests of the headnode to a cn-agent: where it is found, what is sent, how the reply is read (cn-agent.md section 4).

use std::{net::IpAddr, time::Duration};

use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderValue, Request, StatusCode},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use md5::{Digest, Md5};
use serde_json::{Value, json};

use crate::{Api, Direction, JsonMap, record::Begun, shared::Shared, violations::Problem};

/// Most bytes of an agent's reply: 5 MiB of standard output and error each, escaped.
const REPLY_LIMIT: usize = 64 << 20;

#[derive(Clone, Debug)]
pub(crate) struct AgentClient(Client<HttpConnector, Full<Bytes>>);

impl AgentClient {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(3600)));
        Self(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector))
    }
}

/// How a task ended, as CNAPI sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// Any 2xx: its body.
    Complete(Value),
    /// Anything else.
    Failure {
        message: String,
        /// `details.restCode`.
        rest_code: Option<String>,
    },
}

/// A reply as it came.
pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The agent's address by its server's sysinfo. Tasks and the other endpoints differ in when `CN Agent IP` counts.
pub(crate) fn address(sysinfo: &Value, for_task: bool) -> Result<String, String> {
    let ip_of = |value: &Value| value.as_str().and_then(|text| text.parse::<IpAddr>().ok());
    let given = ip_of(&sysinfo["CN Agent IP"]).filter(|_| !for_task || sysinfo["System Type"] == "Virtual");
    let tag = sysinfo["Admin NIC Tag"].as_str().unwrap_or("admin");
    let tagged = || {
        let interfaces = sysinfo["Network Interfaces"].as_object()?;
        let carries = |nic: &&Value| nic["NIC Names"].as_array().is_some_and(|names| names.iter().any(|name| name == tag));
        interfaces.values().find(carries).and_then(|nic| ip_of(&nic["ip4addr"]))
    };
    let ip = given.or_else(|| ip_of(&sysinfo["Admin IP"])).or_else(tagged).ok_or("no admin IP in the server's sysinfo")?;
    let port = sysinfo["CN Agent Port"].as_u64().unwrap_or(5309);
    Ok(match ip {
        IpAddr::V4(ip) => format!("{ip}:{port}"),
        IpAddr::V6(ip) => format!("[{ip}]:{port}"),
    })
}

/// RFC 4648 with padding; the digests it is used for are short.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

impl Shared {
    /// One request to the agent of `server`, recorded. `body` is sent as JSON.
    pub(crate) async fn ask_agent(
        &self,
        server: &Value,
        method: &str,
        path: &str,
        body: Option<&Value>,
        req_id: &str,
        limit: Duration,
    ) -> Result<Reply, String> {
        let uuid = server["uuid"].as_str().unwrap_or_default();
        let address = address(&server["sysinfo"], path == "/tasks")?;
        let body = Bytes::from(body.map(Value::to_string).unwrap_or_default());
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("x-server-uuid", uuid)
            .header("accept", "application/json")
            .header("accept-version", "*")
            .header("user-agent", "restify/1.5.2 (x64-sunos; v8/6.2.414.75; OpenSSL/1.0.2) node/8.17.0")
            .header("date", jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
            .body(Full::new(body.clone()))
            .map_err(|error| error.to_string())?;
        let headers = request.headers_mut();
        headers.insert("x-request-id", HeaderValue::from_str(req_id).unwrap_or(HeaderValue::from_static("invalid")));
        if !body.is_empty() {
            headers.insert("content-type", HeaderValue::from_static("application/json"));
            if let Ok(digest) = HeaderValue::from_str(&base64(&Md5::digest(&body))) {
                headers.insert("content-md5", digest);
            }
        }
        let seq = self.record.begin(Begun {
            time: self.clock.iso(),
            api: Api::Agent,
            direction: Direction::Sent,
            method,
            path: &format!("http://{address}{path}"),
            headers: request.headers(),
            body: &body,
        });
        let exchange = async {
            let response = self.agents.0.request(request).await.map_err(|error| describe(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, REPLY_LIMIT).collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>(Reply { status: parts.status, headers: parts.headers, body })
        };
        let reply =
            tokio::time::timeout(limit, exchange).await.map_err(|_| format!("request timeout after {} s", limit.as_secs_f64()))??;
        self.record.end(seq, reply.status.as_u16(), &reply.body);
        Ok(reply)
    }

    /// Runs one task and judges the reply.
    pub(crate) async fn run_task(&self, server: &Value, task: &str, params: JsonMap, req_id: &str, limit: Duration) -> Outcome {
        let body = json!({"task": task, "params": params});
        let uuid = server["uuid"].as_str();
        match self.ask_agent(server, "POST", "/tasks", Some(&body), req_id, limit).await {
            Err(message) => Outcome::Failure { message, rest_code: None },
            Ok(reply) => {
                let problems = crate::judge::task_reply(&reply);
                let named = problems.into_iter().map(|p| Problem::new(format!("{task}: {}", p.field), p.message));
                self.violations.add(&self.clock.iso(), uuid, "task-reply", named);
                outcome(&reply)
            }
        }
    }
}

/// The cause beneath the client library's own words.
fn describe(error: &hyper_util::client::legacy::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn outcome(reply: &Reply) -> Outcome {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if reply.status.is_success() {
        return Outcome::Complete(body);
    }
    let message = match &body["error"] {
        Value::Null => body["message"].as_str().map_or_else(|| format!("HTTP status {}", reply.status.as_u16()), str::to_owned),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Outcome::Failure { message, rest_code: body["details"]["restCode"].as_str().map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_found_as_cnapi_finds_it() {
        let nics = json!({"e0": {"NIC Names": ["external"], "ip4addr": "8.8.8.8"}, "e1": {"NIC Names": ["rack"], "ip4addr": "10.0.0.7"}});
        let found = |sysinfo: Value| address(&sysinfo, true);
        assert_eq!(found(json!({"Admin IP": "10.0.0.5", "CN Agent Port": 5310})).unwrap(), "10.0.0.5:5310");
        assert_eq!(
            found(json!({"Admin IP": "dhcp", "Admin NIC Tag": "rack", "Network Interfaces": nics})).unwrap(),
            "10.0.0.7:5309",
            "dhcp is no address"
        );
        assert_eq!(found(json!({"CN Agent IP": "1.2.3.4", "Admin IP": "10.0.0.5"})).unwrap(), "10.0.0.5:5309");
        assert_eq!(found(json!({"CN Agent IP": "1.2.3.4", "System Type": "Virtual"})).unwrap(), "1.2.3.4:5309");
        assert_eq!(address(&json!({"CN Agent IP": "1.2.3.4", "Admin IP": "10.0.0.5"}), false).unwrap(), "1.2.3.4:5309");
        assert!(found(json!({"Network Interfaces": nics})).is_err());
    }

    #[test]
    fn digests_are_written_with_padding() {
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!((base64(b"abc").as_str(), base64(b"ab").as_str()), ("YWJj", "YWI="));
    }
}
