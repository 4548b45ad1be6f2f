//! `cn-agent status`: what the running agent says of itself.

use std::io::{self, Write};

use serde_json::Value;
use triton_files::Layout;

/// Asks the running agent and prints its answer, as lines or as JSON.
///
/// # Errors
/// When no agent answers below this root, or the output cannot be written.
pub fn print_status(layout: &Layout, json: bool, out: &mut impl Write) -> io::Result<()> {
    let status = triton_agent::metrics::fetch_status(layout, crate::NAME)?;
    if json {
        return writeln!(out, "{status:#}");
    }
    for (key, value) in status.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writeln!(out, "{key:<18} {text}")?;
    }
    Ok(())
}
