//! Keeping secrets and bulk out of what is recorded (cn-agent.md section 2.8): `/history` and the task logs are readable by others than
//! those who sent the task.

use serde_json::Value;

/// What stands where a secret was.
const HIDDEN: &str = "REDACTED";
/// Longest text that is kept whole, in bytes.
const LONGEST_TEXT: usize = 2048;
/// Most elements that are kept of an array or object.
const MOST_ELEMENTS: usize = 256;
/// Deepest nesting that is kept.
const DEEPEST: usize = 12;
/// Largest record in bytes, printed; beyond it only its size is kept.
const LARGEST: usize = 32 << 10;

/// Keys whose values may hold what only the owner of an instance, or root, may know.
fn is_secret(key: &str) -> bool {
    const WORDS: [&str; 12] = [
        "token",
        "customer_metadata",
        "internal_metadata",
        "set_customer_metadata",
        "set_internal_metadata",
        "script",
        "prepare_image_script",
        "env",
        "args",
        "stdout",
        "stderr",
        "payload",
    ];
    WORDS.contains(&key) || key.ends_with("_pw") || key.contains("password") || key.contains("secret") || key.ends_with("_token")
}

/// A copy of `value` that may be recorded: no secrets, and at most 32 KiB.
pub fn redact(value: &Value) -> Value {
    let copy = copy(value, 0);
    let size = serde_json::to_vec(&copy).map_or(0, |text| text.len());
    if size > LARGEST { Value::from(format!("{size} bytes, not kept")) } else { copy }
}

fn copy(value: &Value, depth: usize) -> Value {
    match value {
        Value::Object(_) | Value::Array(_) if depth >= DEEPEST => Value::from("nested too deeply, not kept"),
        Value::Object(map) => Value::Object(
            map.iter()
                .take(MOST_ELEMENTS)
                .map(|(key, value)| {
                    let kept = if is_secret(key) && !value.is_null() { Value::from(HIDDEN) } else { copy(value, depth + 1) };
                    (shorten(key), kept)
                })
                .collect(),
        ),
        Value::Array(list) => list.iter().take(MOST_ELEMENTS).map(|value| copy(value, depth + 1)).collect(),
        Value::String(text) => Value::from(shorten(text)),
        other => other.clone(),
    }
}

fn shorten(text: &str) -> String {
    if text.len() <= LONGEST_TEXT {
        return text.to_owned();
    }
    let end = (0..=LONGEST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}... ({} bytes)", &text[..end], text.len())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_hidden_at_any_depth_and_the_rest_stays() {
        let value = json!({"uuid": "u", "customer_metadata": {"root_authorized_keys": "k"}, "nested": [{"admin_pw": "p", "token": "t"}],
            "script": "echo hi", "env": {"A": "b"}, "stdout": "x", "db_password": "y", "internal_metadata": null});
        let text = redact(&value).to_string();
        assert_eq!(
            text,
            r#"{"uuid":"u","customer_metadata":"REDACTED","nested":[{"admin_pw":"REDACTED","token":"REDACTED"}],"script":"REDACTED","env":"REDACTED","stdout":"REDACTED","db_password":"REDACTED","internal_metadata":null}"#
        );
    }

    #[test]
    fn bulk_is_bounded_whatever_its_shape() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep]);
        }
        for value in [json!("ä".repeat(5 << 20)), json!(vec!["x".repeat(1000); 5000]), deep] {
            assert!(redact(&value).to_string().len() <= LARGEST + 100);
        }
    }
}
