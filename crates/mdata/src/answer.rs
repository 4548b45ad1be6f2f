//! From a verdict to bytes (metadata.md sections 2.3 and 2.5).

use crate::Frame;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A value.
    Value(String),
    /// PUT and DELETE succeeded.
    Done,
    /// There is no such key.
    NotFound,
    /// It failed, with a text for version 2.
    Failure(Option<String>),
}

impl Answer {
    /// A failure with a text.
    pub fn failure(text: impl Into<String>) -> Self {
        Self::Failure(Some(text.into()))
    }

    /// The bytes of version 1.
    pub fn version_1(&self) -> String {
        match self {
            Self::Value(value) => {
                let mut text = String::with_capacity(value.len() + 16);
                text.push_str("SUCCESS\n");
                for (index, line) in value.split('\n').enumerate() {
                    if index > 0 {
                        text.push('\n');
                    }
                    if line.starts_with('.') {
                        text.push('.');
                    }
                    text.push_str(line);
                }
                text.push_str("\n.\n");
                text
            }
            Self::Done => "SUCCESS\nOK\n.\n".to_owned(),
            Self::NotFound => "NOTFOUND\n".to_owned(),
            Self::Failure(_) => "FAILURE\n".to_owned(),
        }
    }

    /// The line of version 2 that answers the request of this identifier.
    pub fn version_2(&self, request: &str) -> String {
        let frame = match self {
            Self::Value(value) => Frame::new(request, "SUCCESS", Some(value.as_bytes())),
            Self::Done => Frame::new(request, "SUCCESS", Some(b"OK")),
            Self::NotFound => Frame::new(request, "NOTFOUND", None),
            Self::Failure(text) => Frame::new(request, "FAILURE", text.as_deref().map(str::as_bytes)),
        };
        frame.encode()
    }

    /// The word of the result, for logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Value(_) | Self::Done => "SUCCESS",
            Self::NotFound => "NOTFOUND",
            Self::Failure(_) => "FAILURE",
        }
    }
}
