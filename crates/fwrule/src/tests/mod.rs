//! The numbered cases of the language (firewaller.md sections 15.1 and 15.2), and what holds for every text.

mod decisions;
mod fields;
mod objects;
mod properties;
mod tables;
mod world;

use crate::{Limits, RuleError, Spec};

/// Reads a rule as a compute node does.
fn text(input: &str) -> Result<Spec, RuleError> {
    Spec::parse(input, &Limits::default())
}

/// Reads a rule as an API of an older version of the language does.
fn older(input: &str, max_version: u8) -> Result<Spec, RuleError> {
    Spec::parse(input, &Limits { max_version, ..Limits::default() })
}
