//! Reading one field of a JSON object: absent, right, or wrong with its place named.

use serde_json::Value;
use triton_types::JsonMap;

use crate::{Problem, problem::shown};

/// Collects what is wrong while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Problems(pub Vec<Problem>);

impl Problems {
    pub(crate) fn value(&mut self, place: impl Into<String>, reason: impl Into<String>) {
        self.0.push(Problem::Value { place: place.into(), reason: reason.into() });
    }
}

/// A JSON value as it may be shown: its text, shortened.
pub(crate) fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        Value::Array(_) => "an array".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// One object of the document, and where it stands (`vnics[2].`, empty for the whole).
pub(crate) struct Object<'a> {
    pub map: &'a JsonMap,
    pub place: String,
}

impl<'a> Object<'a> {
    pub(crate) fn place(&self, key: &str) -> String {
        format!("{}{key}", self.place)
    }

    /// The value, unless it is absent or `null`.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A text; the empty one counts as absent.
    pub(crate) fn text(&self, key: &str, problems: &mut Problems) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            other => {
                problems.value(self.place(key), format!("{} is no text", shown_value(other)));
                None
            }
        }
    }

    /// A text that reads as a `T`; `what` says in the problem what it should be.
    pub(crate) fn parsed<T: std::str::FromStr>(&self, key: &str, what: &str, problems: &mut Problems) -> Option<T> {
        let text = self.text(key, problems)?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            problems.value(self.place(key), format!("{} is not {what}", shown(text)));
        }
        parsed
    }

    /// A number, or a text of digits.
    pub(crate) fn number(&self, key: &str) -> Option<Option<u32>> {
        Some(match self.get(key)? {
            Value::String(text) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            value => value.as_u64().and_then(|number| u32::try_from(number).ok()),
        })
    }

    /// An MTU between `least` and 9000 bytes.
    pub(crate) fn mtu(&self, least: u32, problems: &mut Problems) -> Option<u32> {
        let mtu = self.number("mtu")?.filter(|mtu| (least..=9000).contains(mtu));
        if mtu.is_none() {
            let value = self.get("mtu").map(shown_value).unwrap_or_default();
            problems.value(self.place("mtu"), format!("{value} is no MTU from {least} to 9000: the default is used"));
        }
        mtu
    }

    /// The elements of an array, none if it is absent.
    pub(crate) fn array(&self, key: &str, problems: &mut Problems) -> &'a [Value] {
        match self.get(key) {
            None => &[],
            Some(Value::Array(elements)) => elements,
            Some(other) => {
                problems.value(self.place(key), format!("{} is no array", shown_value(other)));
                &[]
            }
        }
    }

    /// The objects in an array; an element that is none is named and skipped.
    pub(crate) fn objects(&self, key: &str, problems: &mut Problems) -> Vec<Object<'a>> {
        let mut objects = Vec::new();
        for (index, element) in self.array(key, problems).iter().enumerate() {
            let place = format!("{}[{index}]", self.place(key));
            match element {
                Value::Object(map) => objects.push(Object { map, place: format!("{place}.") }),
                other => problems.value(place, format!("{} is no object", shown_value(other))),
            }
        }
        objects
    }

    /// The texts in an array that read as a `T`.
    pub(crate) fn list<T: std::str::FromStr>(&self, key: &str, what: &str, problems: &mut Problems) -> Vec<T> {
        let mut list = Vec::new();
        for (index, element) in self.array(key, problems).iter().enumerate() {
            match element.as_str().and_then(|text| text.parse().ok()) {
                Some(parsed) => list.push(parsed),
                None => problems.value(format!("{}[{index}]", self.place(key)), format!("{} is not {what}", shown_value(element))),
            }
        }
        list
    }

    /// The entries of an object, none if it is absent.
    pub(crate) fn entries(&self, key: &str, problems: &mut Problems) -> Vec<(&'a String, &'a Value)> {
        match self.get(key) {
            None => Vec::new(),
            Some(Value::Object(map)) => map.iter().collect(),
            Some(other) => {
                problems.value(self.place(key), format!("{} is no object", shown_value(other)));
                Vec::new()
            }
        }
    }

    /// A host or domain name.
    pub(crate) fn domain(&self, key: &str, problems: &mut Problems) -> Option<String> {
        let text = self.text(key, problems)?;
        let legal = is_domain(text);
        if !legal {
            problems.value(self.place(key), format!("{} is no host or domain name", shown(text)));
        }
        legal.then(|| text.to_owned())
    }
}

/// Whether `text` is a name of the DNS, or a part of one.
pub(crate) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}
