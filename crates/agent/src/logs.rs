//! Logs: one bunyan record (a JSON object) per line, for journald and for upstream's log tools.
//!
//! Every record has `v`, `name`, `hostname`, `pid`, `level`, `time`, `msg`; the fields of the event and of the spans it is
//! in follow. `req_id` is a field like any other: open a span with it. Control characters of guest or headnode text are
//! escaped by JSON. Fields with the name of a secret are not written.

mod layer;
mod record;

use std::io::{self, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, layer::SubscriberExt};

pub use layer::{Bunyan, Writer};
pub use record::{hostname, level_number};

/// Where records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Daemons.
    Stdout,
    /// Tools, whose standard output is for results.
    Stderr,
}

/// Starts logging for the whole process. A second call changes nothing.
///
/// `name` is bunyan's `name` field: the agent. `level` is the least severe level that is written.
pub fn init(name: &str, level: LevelFilter, output: Output) {
    let write: Writer = match output {
        Output::Stdout => Box::new(|line| drop(io::stdout().lock().write_all(line))),
        Output::Stderr => Box::new(|line| drop(io::stderr().lock().write_all(line))),
    };
    let subscriber = tracing_subscriber::registry().with(Bunyan::new(name, write).with_filter(level));
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// A level as configurations write it: a word of bunyan (`fatal` too) or its number; anything else is `info`.
pub fn parse_level(text: &str) -> LevelFilter {
    match text.trim().to_ascii_lowercase().as_str() {
        "trace" | "10" => LevelFilter::TRACE,
        "debug" | "20" => LevelFilter::DEBUG,
        "warn" | "40" => LevelFilter::WARN,
        "error" | "fatal" | "50" | "60" => LevelFilter::ERROR,
        "off" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    }
}

#[cfg(test)]
mod tests;
