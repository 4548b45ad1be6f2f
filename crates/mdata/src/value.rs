//! How stored values are told (metadata.md section 3.3).

use serde_json::Value;

use crate::Answer;

/// The answer to a GET that found `value`.
pub(crate) fn render(value: Option<&Value>) -> Answer {
    match value {
        None | Some(Value::Null) => Answer::NotFound,
        Some(Value::Object(_)) => Answer::Failure(None),
        Some(Value::Array(list)) => match list.as_slice() {
            [] => Answer::Value(String::new()),
            // Upstream asks its language whether the whole array is a number.
            [one] => scalar(one).filter(|text| is_numeric(text)).map_or(Answer::Failure(None), Answer::Value),
            _ => Answer::Failure(None),
        },
        Some(value) => scalar(value).map_or(Answer::Failure(None), Answer::Value),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn is_numeric(text: &str) -> bool {
    let text = text.trim();
    text.is_empty() || (text.parse::<f64>().is_ok() && !text.contains(['n', 'N', 'i', 'I']))
}
