//! The table of `vmadm list` (instances.md section 4.3).

use std::{cmp::Ordering, fmt::Write as _};

use serde_json::Value;
use triton_types::JsonMap;

use crate::{error::excerpt, fields::Field, value};

/// Columns unless `-o` names others.
pub const DEFAULT_COLUMNS: &str = "uuid,type,ram,state,alias";
/// Order unless `-s` names another.
pub const DEFAULT_SORT: &str = "ram,uuid";

/// A table that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Unknown field in `-o`.
    #[error("invalid order field: {0}")]
    OrderField(String),
    /// Unknown field in `-s`.
    #[error("invalid sort field: {0}")]
    SortField(String),
    /// A field with `*`, which only filters may have.
    #[error("Invalid order key: \"{0}\"")]
    Wildcard(String),
}

/// How to print.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// `-o`: columns, separated by commas.
    pub columns: Option<String>,
    /// `-s`: fields to sort by, separated by commas, `-` before a descending one, `+` allowed.
    pub sort: Option<String>,
    /// `-p`: colons instead of columns, no header.
    pub parsable: bool,
    /// `-h` (true) or `-H` (false).
    pub header: Option<bool>,
}

/// Prints VM objects as a table, each line ended by a newline.
///
/// # Errors
/// [`ListError`]: a field that cannot be listed or sorted by.
pub fn list(vms: &[&JsonMap], options: &ListOptions) -> Result<String, ListError> {
    let names: Vec<&str> = options.columns.as_deref().unwrap_or(DEFAULT_COLUMNS).split(',').collect();
    let columns = names.iter().map(|name| column(name)).collect::<Result<Vec<_>, _>>()?;
    let order = options.sort.as_deref().unwrap_or(DEFAULT_SORT).split(',').map(sort_key).collect::<Result<Vec<_>, _>>()?;

    let mut rows: Vec<(Vec<Option<Value>>, &JsonMap)> =
        vms.iter().map(|vm| (order.iter().map(|(field, _)| field.value(vm)).collect(), *vm)).collect();
    rows.sort_by(|(a, _), (b, _)| {
        let each = order.iter().zip(a.iter().zip(b)).map(|((_, descending), (a, b))| {
            let ascending = compare(a.as_ref(), b.as_ref());
            if *descending { ascending.reverse() } else { ascending }
        });
        each.fold(Ordering::Equal, Ordering::then)
    });

    let layout: Vec<(String, usize)> = columns.iter().zip(&names).map(|(field, name)| field.column(name)).collect();
    let mut table = String::new();
    if options.header.unwrap_or(!options.parsable) {
        let titles: Vec<String> = layout.iter().map(|(title, _)| title.clone()).collect();
        line(&mut table, &titles, &layout, options.parsable);
    }
    for (_, vm) in rows {
        let cells: Vec<String> = columns.iter().map(|field| cell(field.value(vm).as_ref(), options.parsable)).collect();
        line(&mut table, &cells, &layout, options.parsable);
    }
    Ok(table)
}

fn column(name: &str) -> Result<Field, ListError> {
    let field = Field::parse(name).ok_or_else(|| ListError::OrderField(excerpt(name)))?;
    if field.is_wildcard() { Err(ListError::Wildcard(excerpt(name))) } else { Ok(field) }
}

/// A field to sort by, and whether it descends.
fn sort_key(name: &str) -> Result<(Field, bool), ListError> {
    let plain = name.strip_prefix(['+', '-']).unwrap_or(name);
    let field = Field::parse(plain).ok_or_else(|| ListError::SortField(excerpt(plain)))?;
    if field.is_wildcard() { Err(ListError::Wildcard(excerpt(plain))) } else { Ok((field, name.starts_with('-'))) }
}

/// Unset before set, numbers by value, anything else by its text.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    let set = |value: Option<&Value>| value.is_some_and(|v| !value::is_blank(v));
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => {
            a.as_f64().unwrap_or(f64::NAN).partial_cmp(&b.as_f64().unwrap_or(f64::NAN)).unwrap_or(Ordering::Equal)
        }
        _ if !set(a) || !set(b) => set(a).cmp(&set(b)),
        (Some(a), Some(b)) => value::display(a).cmp(&value::display(b)),
        _ => Ordering::Equal,
    }
}

/// `-` (nothing when parsable) for what is unset, blank or false; 0 is shown.
fn cell(value: Option<&Value>, parsable: bool) -> String {
    match value {
        None | Some(Value::Null | Value::Bool(false)) => if parsable { "" } else { "-" }.to_owned(),
        Some(Value::String(text)) if text.is_empty() => if parsable { "" } else { "-" }.to_owned(),
        // A line break or an escape sequence in an alias must not forge lines or drive the operator's terminal.
        Some(value) => value::display(value).chars().map(|c| if c.is_control() { '?' } else { c }).collect(),
    }
}

fn line(table: &mut String, cells: &[String], layout: &[(String, usize)], parsable: bool) {
    if parsable {
        table.push_str(&cells.join(":"));
    } else {
        let start = table.len();
        for (cell, (_, width)) in cells.iter().zip(layout) {
            if table.len() > start {
                table.push_str("  ");
            }
            // Writing to a String cannot fail.
            let _ = write!(table, "{cell:<width$}");
        }
        let end = start + table[start..].trim_end_matches(' ').len();
        table.truncate(end);
    }
    table.push('\n');
}
