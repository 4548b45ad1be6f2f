//! Replies of cn-agent (cn-agent.md sections 2.3, 2.4 and 2.8).

use axum::http::StatusCode;
use serde_json::Value;

use super::is_time;
use crate::{agent::Reply, violations::Problem};

/// The reply to a task: JSON; on failure `error` as a string, `details` an object if there, and neither `code` nor `message`.
/// Refusals before a task runs have the form of restify instead; 404 without a body means that the agent has not started yet.
pub(crate) fn task_reply(reply: &Reply) -> Vec<Problem> {
    let mut problems = Vec::new();
    if reply.body.is_empty() && reply.status == StatusCode::NOT_FOUND {
        return problems;
    }
    let kind = reply.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("application/json") {
        problems.push(Problem::new("content-type", format!("application/json is needed, not {kind:?}")));
    }
    let Ok(body) = serde_json::from_slice::<Value>(&reply.body) else {
        problems.push(Problem::new("body", "is not JSON"));
        return problems;
    };
    match reply.status {
        StatusCode::OK => {
            if body.is_null() {
                problems.push(Problem::new("body", "success without a value is {}, not null"));
            }
        }
        StatusCode::INTERNAL_SERVER_ERROR => {
            if body["error"].as_str().is_none_or(str::is_empty) {
                problems.push(Problem::new("error", format!("a non-empty string is needed, not {}", body["error"])));
            }
            let details = body.get("details");
            if details.is_some_and(|details| !details.is_object() || details.get("restCode").is_some_and(|code| !code.is_string())) {
                problems.push(Problem::new("details", "an object with restCode as a string, or no key, is needed"));
            }
            for key in ["code", "message"] {
                if body.get(key).is_some() {
                    problems.push(Problem::new(key, "is no key of a failed task"));
                }
            }
        }
        StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_REQUEST => {
            if !body["code"].is_string() || !body["message"].is_string() {
                problems.push(Problem::new("body", "code and message are needed in a refusal"));
            }
        }
        other => problems.push(Problem::new("status", format!("{} is no status of POST /tasks", other.as_u16()))),
    }
    problems
}

/// `GET /history`: a bare array, entries oldest first.
pub(crate) fn history(body: &Value) -> Vec<Problem> {
    let Some(entries) = body.as_array() else {
        return vec![Problem::new("body", "a bare array is needed")];
    };
    let mut problems = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let mut check = |field: &str, good: bool| {
            if !good {
                problems.push(Problem::new(format!("{index}.{field}"), format!("is not of its type: {}", entry[field])));
            }
        };
        check("started_at", is_time(&entry["started_at"]));
        check("task", entry["task"].is_string());
        check("status", ["active", "finished", "failed"].iter().any(|word| entry["status"] == *word));
        check("errorCount", entry["errorCount"].is_u64());
        check("messages", entry["messages"].is_array());
        check("log", entry["log"].is_array());
        check("params", entry.get("params").is_some());
        let ended = entry.get("finished_at");
        check("finished_at", if entry["status"] == "active" { ended.is_none() } else { ended.is_some_and(is_time) });
    }
    problems
}
