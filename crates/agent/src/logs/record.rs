//! One record: its fixed fields, and fields collected from events and spans.

use std::{error::Error, fmt};

use serde_json::{Map, Value};
use tracing::{
    Level,
    field::{Field, Visit},
};

/// Text longer than this (bytes) is cut, so that one hostile string does not fill the journal.
const MAX_TEXT: usize = 8 << 10;
/// More fields than this are left out.
const MAX_FIELDS: usize = 64;

/// Bunyan's number of a level.
pub fn level_number(level: Level) -> u8 {
    match level {
        Level::TRACE => 10,
        Level::DEBUG => 20,
        Level::INFO => 30,
        Level::WARN => 40,
        Level::ERROR => 50,
    }
}

/// The machine's name, as records carry it.
pub fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "unknown".to_owned())
}

/// Fields of an event or a span.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    pub(super) map: Map<String, Value>,
    pub(super) message: Option<String>,
}

const RESERVED: [&str; 7] = ["v", "name", "hostname", "pid", "level", "time", "msg"];

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("_pw")
        || ["password", "passwd", "secret", "token", "authorization", "private_key"].iter().any(|word| name.contains(word))
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        let name = field.name();
        if self.map.len() >= MAX_FIELDS && !self.map.contains_key(name) {
            return;
        }
        let value = if is_secret(name) { Value::from("(hidden)") } else { value };
        if RESERVED.contains(&name) {
            self.map.insert(format!("{name}_"), value);
        } else {
            self.map.insert(name.to_owned(), value);
        }
    }

    fn put_text(&mut self, field: &Field, text: String) {
        let text = cut(text);
        if field.name() == "message" {
            self.message = Some(text);
        } else {
            self.put(field, Value::String(text));
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put_text(field, crate::chain(value).to_string());
    }
}
