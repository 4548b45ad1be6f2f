//! Why a rule is refused: a field and upstream's message for it.

use std::fmt;

/// One thing wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RuleError {
    /// The field of the rule object that is wrong.
    pub field: &'static str,
    /// Upstream's words for it (firewaller.md section 4.4).
    pub message: String,
}

impl RuleError {
    /// An error of the given field.
    pub fn new(field: &'static str, message: impl Into<String>) -> Self {
        Self { field, message: message.into() }
    }

    /// An error of the rule's text.
    pub(crate) fn text(message: impl Into<String>) -> Self {
        Self::new("rule", message)
    }
}

/// Everything wrong with a rule object, in upstream's order; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleErrors(pub Vec<RuleError>);

impl fmt::Display for RuleErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("invalid rule"),
            [one] => one.fmt(f),
            [first, ..] => write!(f, "first of {} errors: {first}", self.0.len()),
        }
    }
}

impl std::error::Error for RuleErrors {}

impl From<RuleError> for RuleErrors {
    fn from(error: RuleError) -> Self {
        Self(vec![error])
    }
}

/// A token as a message quotes it: whole, unless it is so long that the message would be no help.
pub(crate) fn quoted(token: &str) -> String {
    const LONGEST: usize = 1024;
    match token.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &token[..end]),
        None => token.to_owned(),
    }
}
