//! Fields of images, stored and computed, and filtering and sorting by them.

use std::cmp::Ordering;

use serde_json::Value;
use triton_types::JsonMap;

use super::Failure;

/// What is listed: a manifest and what is known beside it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) manifest: JsonMap,
    pub(super) source: Option<String>,
    /// Installed images only.
    pub(super) zpool: Option<String>,
    pub(super) clones: Option<usize>,
}

impl Row {
    /// The field's value: computed ones first, then the manifest's own.
    pub(super) fn field(&self, name: &str) -> Value {
        let published = || self.manifest.get("published_at").and_then(Value::as_str);
        let value = match name {
            // 2026-01-02T03:04:05.678Z
            "published" => published().map(|at| Value::from(without_millis(at))),
            "pub" | "published_date" => published().map(|at| Value::from(at.split('T').next().unwrap_or(at))),
            "size" => self.manifest.get("files").and_then(|files| files.get(0)?.get("size").cloned()),
            "source" => self.source.clone().map(Value::from),
            "zpool" => self.zpool.clone().map(Value::from),
            "clones" => self.clones.map(Value::from),
            name => self.manifest.get(name).cloned(),
        };
        value.unwrap_or(Value::Null)
    }

    /// The field as a cell of a table.
    pub(super) fn cell(&self, name: &str) -> String {
        match self.field(name) {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            Value::String(text) => text,
            other => other.to_string(),
        }
    }
}

fn without_millis(at: &str) -> String {
    match at.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => at.to_owned(),
    }
}

/// One condition.
#[derive(Debug)]
pub(super) struct Filter {
    field: String,
    value: String,
    part: bool,
}

impl Filter {
    /// `FIELD=VALUE` or `FIELD=~TEXT`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (field, value) = text
            .split_once('=')
            .filter(|(field, _)| !field.is_empty())
            .ok_or_else(|| Failure::usage(format!("invalid filter {text:?}: FIELD=VALUE or FIELD=~TEXT is needed")))?;
        let (value, part) = match value.strip_prefix('~') {
            Some(rest) => (rest, true),
            None => (value, false),
        };
        Ok(Self { field: field.to_owned(), value: value.to_owned(), part })
    }

    pub(super) fn matches(&self, row: &Row) -> bool {
        let text = match row.field(&self.field) {
            Value::Null => return false,
            Value::String(text) => text,
            other => other.to_string(),
        };
        if self.part { text.contains(&self.value) } else { text == self.value }
    }
}

/// Sorts by the fields, each perhaps with `-` for the reverse order; then by uuid.
pub(super) fn sort(rows: &mut [Row], fields: &str) {
    let fields: Vec<&str> = fields.split(',').map(str::trim).filter(|field| !field.is_empty()).chain(["uuid"]).collect();
    rows.sort_by(|a, b| {
        let order = |field: &&str| match field.strip_prefix('-') {
            Some(field) => compare(&b.field(field), &a.field(field)),
            None => compare(&a.field(field), &b.field(field)),
        };
        fields.iter().map(order).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
    });
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Null, Value::Null) => Ordering::Equal,
        (Value::Null, _) => Ordering::Less,
        (_, Value::Null) => Ordering::Greater,
        (a, b) => a.to_string().cmp(&b.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(name: &str, size: u64, published: &str) -> Row {
        let manifest = json!({"uuid": name, "name": name, "public": true, "published_at": published, "files": [{"size": size}]});
        Row { manifest: manifest.as_object().unwrap().clone(), source: None, zpool: None, clones: Some(2) }
    }

    #[test]
    fn computed_fields_are_those_of_upstream() {
        let row = row("a", 5, "2026-01-02T03:04:05.678Z");
        assert_eq!((row.cell("published").as_str(), row.cell("pub").as_str()), ("2026-01-02T03:04:05Z", "2026-01-02"));
        assert_eq!((row.cell("size").as_str(), row.cell("clones").as_str(), row.cell("urn").as_str()), ("5", "2", "-"));
    }

    #[test]
    fn filters_compare_whole_values_or_parts_of_them() {
        let row = row("alpine", 5, "2026-01-02T03:04:05Z");
        for (filter, matches) in
            [("name=alpine", true), ("name=alp", false), ("name=~alp", true), ("public=true", true), ("urn=x", false), ("size=5", true)]
        {
            assert_eq!(Filter::parse(filter).unwrap().matches(&row), matches, "{filter}");
        }
        assert_eq!(Filter::parse("alpine").unwrap_err().status, 2);
    }

    #[test]
    fn numbers_sort_as_numbers_and_a_hyphen_reverses() {
        let mut rows = [row("b", 10, "2026"), row("a", 9, "2026"), row("c", 100, "2025")];
        let names = |rows: &[Row]| rows.iter().map(|row| row.cell("name")).collect::<Vec<_>>();
        sort(&mut rows, "published_at,name");
        assert_eq!(names(&rows), ["c", "a", "b"]);
        sort(&mut rows, "-size");
        assert_eq!(names(&rows), ["c", "b", "a"]);
    }
}
