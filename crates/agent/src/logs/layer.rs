//! The tracing layer that writes bunyan records.

use serde_json::{Map, Value};
use tracing::{Event, Subscriber, span};
use tracing_subscriber::{
    layer::{Context, Layer},
    registry::LookupSpan,
};
use triton_types::Timestamp;

use super::record::{Fields, hostname, level_number};

/// Gets whole lines, with their newline.
pub type Writer = Box<dyn Fn(&[u8]) + Send + Sync>;

/// Writes each event as one bunyan record.
pub struct Bunyan {
    name: String,
    hostname: String,
    pid: u32,
    write: Writer,
}

impl Bunyan {
    /// A layer for the agent `name`, writing with `write`.
    pub fn new(name: &str, write: Writer) -> Self {
        Self { name: name.to_owned(), hostname: hostname(), pid: std::process::id(), write }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Bunyan {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut record = Map::new();
        record.insert("v".into(), Value::from(0));
        record.insert("name".into(), Value::from(self.name.as_str()));
        record.insert("hostname".into(), Value::from(self.hostname.as_str()));
        record.insert("pid".into(), Value::from(self.pid));
        record.insert("level".into(), Value::from(level_number(*event.metadata().level())));
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                record.extend(fields.map.iter().map(|(key, value)| (key.clone(), value.clone())));
            }
        }
        record.extend(own.map);
        record.insert("msg".into(), Value::from(own.message.unwrap_or_default()));
        record.insert("time".into(), Value::from(Timestamp::now().to_string()));
        let mut line = Value::Object(record).to_string().into_bytes();
        line.push(b'\n');
        (self.write)(&line);
    }
}
