//! A task's parameters: whatever CNAPI passed on, read leniently.
//!
//! CNAPI hands over its whole request, with keys that are none of a task's business and with booleans and numbers as strings
//! (cn-agent.md section 3). Unknown keys are ignored; `null` is the same as absent.

use std::str::FromStr;

use serde_json::Value;
use triton_types::{InstanceUuid, JsonMap};

use crate::TaskError;

/// The value of `params`. Anything but an object has no keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Params(JsonMap);

impl Params {
    /// Takes the parameters as they were sent.
    pub fn new(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            _ => Self::default(),
        }
    }

    /// A parameter, unless it is absent or null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A parameter that is a text, unless it is empty.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// True for `true` and `"true"`.
    pub fn flag(&self, key: &str) -> bool {
        match self.get(key) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// An identity that must be there.
    ///
    /// # Errors
    /// When it is absent or no such identity.
    pub fn id<T: FromStr>(&self, key: &str) -> Result<T, TaskError>
    where
        T::Err: std::fmt::Display,
    {
        match self.get(key) {
            None => Err(TaskError::failed(format!("Required '{key}' param not found"))),
            Some(Value::String(text)) => text.parse().map_err(|error: T::Err| TaskError::failed(format!("Invalid '{key}' param: {error}"))),
            Some(_) => Err(TaskError::failed(format!("Invalid '{key}' param: not a string"))),
        }
    }

    /// The instance that the task is about, if it names one.
    pub fn instance(&self) -> Option<InstanceUuid> {
        self.text("uuid")?.parse().ok()
    }

    /// All of them.
    pub fn as_map(&self) -> &JsonMap {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn booleans_may_be_strings_and_nothing_else_is_true() {
        let params = Params::new(json!({"a": true, "b": "true", "c": "yes", "d": 1, "e": null}));
        assert_eq!(["a", "b", "c", "d", "e", "f"].map(|key| params.flag(key)), [true, true, false, false, false, false]);
    }

    #[test]
    fn a_missing_or_wrong_identity_is_named() {
        let params = Params::new(json!({"uuid": "nope", "n": 1}));
        let text = |key| params.id::<InstanceUuid>(key).unwrap_err().to_string();
        assert_eq!(text("image_uuid"), "Required 'image_uuid' param not found");
        assert!(text("uuid").contains("nope"));
        assert_eq!(text("n"), "Invalid 'n' param: not a string");
    }

    #[test]
    fn params_that_are_no_object_have_no_keys() {
        assert_eq!(Params::new(json!(["a"])), Params::default());
    }
}
