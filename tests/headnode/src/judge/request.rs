//! The form of cn-agent's requests, and its list of agents (cn-agent.md sections 4.6 and 5).

use axum::http::HeaderMap;
use semver::Version;
use serde_json::Value;

use crate::{call::uuid, violations::Problem};

/// Headers of a request of the cn-agent of `server`.
pub(crate) fn from_agent(server: &str, headers: &HeaderMap) -> Vec<Problem> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut problems = Vec::new();
    if !text("content-type").starts_with("application/json") {
        problems.push(Problem::new("content-type", format!("application/json is needed, not {:?}", text("content-type"))));
    }
    let agent = text("user-agent");
    // cn-agent/2.15.0 (linux; x86_64) server/<uuid>
    let well_formed = agent.strip_prefix("cn-agent/").and_then(|rest| rest.split_once(' ')).is_some_and(|(version, rest)| {
        Version::parse(version).is_ok() && rest.starts_with('(') && rest.ends_with(&format!(") server/{server}"))
    });
    if !well_formed {
        problems.push(Problem::new("user-agent", format!("cn-agent/<version> (…) server/{server} is needed, not {agent:?}")));
    }
    problems
}

/// The agents list. CNAPI takes any array, and then decides by the version of `cn-agent` which tasks it sends.
pub(crate) fn agents(list: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let entries = list.as_array().map(Vec::as_slice).unwrap_or_default();
    for (index, entry) in entries.iter().enumerate() {
        for field in ["name", "version"] {
            if entry[field].as_str().is_none_or(str::is_empty) {
                problems.push(Problem::new(format!("agents.{index}.{field}"), "a non-empty string is needed"));
            }
        }
        for field in ["image_uuid", "uuid"] {
            if entry.get(field).is_some_and(|value| value.as_str().is_none_or(|text| uuid(text).is_none())) {
                problems.push(Problem::new(format!("agents.{index}.{field}"), "a uuid, or no key, is needed"));
            }
        }
    }
    let own = entries.iter().find(|entry| entry["name"] == "cn-agent").and_then(|entry| entry["version"].as_str());
    let promised = Version::new(2, 15, 0);
    match own.map(Version::parse) {
        Some(Ok(version)) if version >= promised || (version.major, version.minor, version.patch) == (2, 15, 0) => {}
        _ => problems.push(Problem::new("agents", format!("an entry cn-agent of version {promised} or later is needed, not {own:?}"))),
    }
    problems
}
