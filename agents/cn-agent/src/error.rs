//! How a task fails, and what CNAPI is told about it.

use serde_json::{Value, json};

use triton_types::JsonMap;

use crate::TaskName;

/// A task did not succeed. Becomes a 500 with `{"error": ..., "details": ...}` (cn-agent.md section 2.4).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It failed, in words for operators and job logs.
    #[error("{message}")]
    Failed {
        /// For the caller, verbatim.
        message: String,
        /// `details.restCode`: CNAPI maps `VmNotFound` to 404.
        rest_code: Option<String>,
    },
    /// Parameters of a type that the task cannot work with, or a defect: upstream's worker died of it.
    #[error("Child task process {0} did not terminate cleanly. (1)")]
    Crashed(TaskName),
    /// It ran longer than it may.
    #[error("child task process timed out after {0} seconds")]
    TimedOut(Seconds),
    /// The agent is stopping and the task was given up.
    #[error("the agent is shutting down")]
    Cancelled,
}

/// A time in milliseconds that prints as seconds with three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u128);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl TaskError {
    /// A failure with a message only.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), rest_code: None }
    }

    /// The reply's body.
    pub fn body(&self) -> JsonMap {
        let mut body = JsonMap::new();
        body.insert("error".to_owned(), Value::from(self.to_string()));
        if let Self::Failed { rest_code: Some(code), .. } = self {
            body.insert("details".to_owned(), json!({"restCode": code}));
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 12
    #[test]
    fn a_rest_code_is_the_detail_and_without_one_there_is_none() {
        let error = TaskError::Failed { message: "no such".into(), rest_code: Some("VmNotFound".into()) };
        assert_eq!(Value::Object(error.body()).to_string(), r#"{"error":"no such","details":{"restCode":"VmNotFound"}}"#);
        assert_eq!(Value::Object(TaskError::failed("boom").body()).to_string(), r#"{"error":"boom"}"#);
    }

    #[test]
    fn times_are_printed_with_three_decimals() {
        assert_eq!(TaskError::TimedOut(Seconds(3_600_013)).to_string(), "child task process timed out after 3600.013 seconds");
        assert_eq!(TaskError::TimedOut(Seconds(2007)).to_string(), "child task process timed out after 2.007 seconds");
        assert_eq!(TaskError::Crashed(TaskName::MachineLoad).to_string(), "Child task process machine_load did not terminate cleanly. (1)");
    }
}
