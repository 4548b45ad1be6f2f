//! One map of parameters from body and query, as restify made it (cn-agent.md section 2.2).

use std::time::Duration;

use axum::body::Body;
use http::{header, request::Parts};
use serde_json::Value;
use triton_agent::restify::{RestError, read_body};
use triton_types::JsonMap;

use super::LARGEST_BODY;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most fields of a form or query.
const MOST_FIELDS: usize = 1000;

/// The fields of the body (JSON or a form; other kinds have none), overlaid by those of the query that are not empty.
///
/// # Errors
/// 400 for malformed JSON, 413 for a body that is too large, 408 for one that does not arrive.
pub(super) async fn fields(head: &Parts, body: Body) -> Result<JsonMap, RestError> {
    let bytes = read_body(body, LARGEST_BODY, PATIENCE).await?;
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let mut fields = match kind.as_str() {
        _ if bytes.is_empty() => JsonMap::new(),
        "application/json" => json(&bytes)?,
        "application/x-www-form-urlencoded" => form(&bytes)?,
        _ => JsonMap::new(),
    };
    for (key, value) in form(head.uri.query().unwrap_or_default().as_bytes())? {
        if value != "" || !fields.contains_key(&key) {
            fields.insert(key, value);
        }
    }
    Ok(fields)
}

fn json(bytes: &[u8]) -> Result<JsonMap, RestError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Ok(JsonMap::new()),
        Err(error) => Err(RestError::invalid_content(format!("Invalid JSON: {error}"))),
    }
}

/// `a=1&a=2&b[c]=3` as `{"a":["1","2"],"b":{"c":"3"}}`.
fn form(bytes: &[u8]) -> Result<JsonMap, RestError> {
    let pairs: Vec<(String, String)> =
        serde_urlencoded::from_bytes(bytes).map_err(|error| RestError::invalid_content(format!("Invalid form: {error}")))?;
    let mut fields = JsonMap::new();
    for (key, value) in pairs.into_iter().take(MOST_FIELDS) {
        match key.strip_suffix(']').and_then(|key| key.split_once('[')).filter(|(outer, inner)| !outer.is_empty() && !inner.contains('[')) {
            Some((outer, "")) => add(fields.entry(outer.to_owned()).or_insert_with(|| Value::Array(Vec::new())), value),
            Some((outer, inner)) => {
                if let Value::Object(map) = fields.entry(outer.to_owned()).or_insert_with(|| Value::Object(JsonMap::new())) {
                    map.insert(inner.to_owned(), Value::from(value));
                }
            }
            None => match fields.get_mut(&key) {
                Some(present) => add(present, value),
                None => _ = fields.insert(key, Value::from(value)),
            },
        }
    }
    Ok(fields)
}

fn add(present: &mut Value, value: String) {
    match present {
        Value::Array(list) => list.push(Value::from(value)),
        other => *other = Value::Array(vec![other.take(), Value::from(value)]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn read(query: &str, kind: &str, body: &str) -> Result<JsonMap, RestError> {
        let request = http::Request::builder().uri(format!("/tasks?{query}")).header("content-type", kind).body(()).unwrap();
        fields(&request.into_parts().0, Body::from(body.to_owned())).await
    }

    #[tokio::test]
    async fn a_query_wins_over_the_body_unless_it_is_empty() {
        let merged = read("task=nop&x=&y=", "application/json; charset=utf-8", r#"{"task":"sleep","x":1,"params":{}}"#).await.unwrap();
        assert_eq!(Value::Object(merged), json!({"task": "nop", "x": 1, "params": {}, "y": ""}));
    }

    #[tokio::test]
    async fn forms_may_repeat_and_nest_keys() {
        let form = read("", "application/x-www-form-urlencoded", "task=nop&params[sleep]=1&params[b]=2&l=1&l=2&m[]=3").await.unwrap();
        assert_eq!(Value::Object(form), json!({"task": "nop", "params": {"sleep": "1", "b": "2"}, "l": ["1", "2"], "m": ["3"]}));
    }

    #[tokio::test]
    async fn other_kinds_of_bodies_are_not_read_and_broken_json_is_refused() {
        assert!(read("", "text/plain", r#"{"task":"nop"}"#).await.unwrap().is_empty());
        assert!(read("", "application/json", "").await.unwrap().is_empty());
        assert!(read("", "application/json", "[1]").await.unwrap().is_empty());
        let error = read("", "application/json", r#"{"task":"#).await.unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, Some("InvalidContent")));
        assert!(error.message.starts_with("Invalid JSON: "), "{}", error.message);
        let error = read("", "application/json", &"x".repeat(LARGEST_BODY + 1)).await.unwrap_err();
        assert_eq!(error.status.as_u16(), 413);
    }
}
