//! Filters of `vmadm list` and `vmadm lookup`: `key=value` and `key=~regex` (instances.md section 4.4).

use regex::{Regex, RegexBuilder};
use serde_json::Value;
use triton_types::{JsonMap, Mac};

use crate::{error::excerpt, fields::Field, limits, value};

/// Where a filter was given; it decides the text of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// `vmadm list`.
    List,
    /// `vmadm lookup`.
    Lookup,
}

/// A filter that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FilterError {
    /// Unknown key in `list`.
    #[error("Invalid filter key: \"{0}\"")]
    FilterKey(String),
    /// Unknown key in `lookup`.
    #[error("Invalid lookup key: \"{0}\"")]
    LookupKey(String),
    /// Not a `key=value` pair.
    #[error("Invalid filter: \"{0}\" (must be key=value or key=~regex)")]
    Form(String),
    /// A pattern that is no regular expression, or too large.
    #[error("Invalid regular expression for \"{key}\": {reason}")]
    Pattern {
        /// The filter's key.
        key: String,
        /// Why, in one line.
        reason: String,
    },
}

#[derive(Clone, Debug)]
enum Test {
    Equals(String),
    Matches(Regex),
}

/// One condition on a VM object.
#[derive(Clone, Debug)]
pub struct Filter {
    field: Field,
    test: Test,
}

/// What is wrong with a pattern: the last line of what the library draws over several.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    excerpt(last.strip_prefix("error: ").unwrap_or(last))
}

impl Filter {
    /// Reads `key=value` (the same text) or `key=~regex` (found anywhere, whatever the case).
    ///
    /// # Errors
    /// [`FilterError`]: an unknown key, a bad form, a bad or too large pattern.
    pub fn parse(text: &str, context: Context) -> Result<Self, FilterError> {
        let (key, wanted) = text.split_once('=').ok_or_else(|| FilterError::Form(excerpt(text)))?;
        let field = Field::parse(key).ok_or_else(|| match context {
            Context::List => FilterError::FilterKey(excerpt(key)),
            Context::Lookup => FilterError::LookupKey(excerpt(key)),
        })?;
        let test = if let Some(pattern) = wanted.strip_prefix('~') {
            let regex = RegexBuilder::new(pattern)
                .case_insensitive(true)
                .size_limit(limits::REGEX_SIZE)
                .dfa_size_limit(limits::REGEX_SIZE)
                .build()
                .map_err(|error| FilterError::Pattern { key: excerpt(key), reason: reason(&error) })?;
            Test::Matches(regex)
        } else if field.is_mac() {
            Test::Equals(wanted.parse::<Mac>().map_or_else(|_| wanted.to_owned(), |mac| mac.to_string()))
        } else {
            Test::Equals(wanted.to_owned())
        };
        Ok(Self { field, test })
    }

    /// Whether a VM object passes. An absent field passes `key=` only.
    pub fn matches(&self, vm: &JsonMap) -> bool {
        let values = self.field.values(vm);
        if values.is_empty() {
            return matches!(&self.test, Test::Equals(text) if text.is_empty());
        }
        values.iter().any(|value| self.passes(value))
    }

    fn passes(&self, value: &Value) -> bool {
        let text = value::display(value);
        match &self.test {
            Test::Equals(wanted) => text == *wanted,
            Test::Matches(regex) => regex.is_match(&text),
        }
    }
}
