//! Tables of rules: for people, for scripts, as JSON.

use std::io::{self, Write};

use serde_json::Value;
use triton_fwrule::Rule;
use triton_types::JsonMap;

use super::{Failure, args::List, print_json};

const FIELDS: [&str; 9] = ["uuid", "enabled", "rule", "owner_uuid", "global", "version", "created_by", "description", "log"];
const DEFAULT: [&str; 3] = ["uuid", "enabled", "rule"];

/// What is wrong with the options, before any work.
pub(super) fn check(list: &List, json: bool) -> Result<(), Failure> {
    if list.parsable && json {
        return Err(Failure::Usage("cannot specify both -j and -p".to_owned()));
    }
    if list.delimiter.is_some() && !list.parsable {
        return Err(Failure::Usage("-d requires -p".to_owned()));
    }
    fields(list).map(drop)
}

/// Fields to print; none when they were not given.
fn fields(list: &List) -> Result<Option<Vec<&str>>, Failure> {
    let Some(output) = &list.output else { return Ok(None) };
    let fields: Vec<&str> = output.split(',').map(str::trim).collect();
    let unknown: Vec<&str> = fields.iter().copied().filter(|field| !FIELDS.contains(field)).collect();
    match unknown.as_slice() {
        [] => Ok(Some(fields)),
        [one] => Err(Failure::failed(format!("Invalid display field: {one}"))),
        many => Err(Failure::failed(format!("Invalid display fields: {}", many.join(", ")))),
    }
}

/// Prints rules, in their order.
pub(super) fn print(rules: &[&Rule], list: &List, json: bool) -> Result<(), Failure> {
    let wanted = fields(list)?;
    let objects = rules.iter().filter_map(|rule| match rule.to_json() {
        Value::Object(object) => Some(object),
        _ => None,
    });
    if json {
        let pick = |object: JsonMap| match &wanted {
            None => object,
            Some(fields) => fields.iter().filter_map(|field| Some(((*field).to_owned(), object.get(*field)?.clone()))).collect(),
        };
        return print_json(&objects.map(pick).collect::<Vec<JsonMap>>());
    }
    let fields = wanted.unwrap_or_else(|| DEFAULT.to_vec());
    let rows: Vec<Vec<String>> = objects.map(|object| fields.iter().map(|field| cell(object.get(*field))).collect()).collect();
    let mut out = io::stdout().lock();
    if list.parsable {
        let delimiter = list.delimiter.as_deref().unwrap_or(":");
        for row in rows {
            writeln!(out, "{}", parsable(&row, delimiter))?;
        }
        return Ok(());
    }
    let header = fields.iter().map(|field| field.to_uppercase()).collect();
    let lines = [vec![header], rows].concat();
    let width = |column: usize| lines.iter().map(|line: &Vec<String>| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..fields.len()).map(width).collect();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", cells.join(" ").trim_end())?;
    }
    Ok(())
}

/// What is absent is a dash; what is false says so (firewaller.md section 13, number 12).
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        // A line stays a line, and a terminal a terminal.
        Some(Value::String(text)) => {
            text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
        }
        Some(other) => other.to_string(),
    }
}

fn parsable(row: &[String], delimiter: &str) -> String {
    let escaped: Vec<String> = if delimiter.is_empty() {
        row.to_vec()
    } else {
        row.iter().map(|cell| cell.replace(delimiter, &format!("\\{delimiter}"))).collect()
    };
    escaped.join(delimiter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn list(output: Option<&str>, parsable: bool, delimiter: Option<&str>) -> List {
        List { output: output.map(str::to_owned), parsable, delimiter: delimiter.map(str::to_owned) }
    }

    /// firewaller cases C1, L16
    #[test]
    fn options_that_do_not_fit_are_wrong_usage_and_unknown_fields_are_named() {
        assert_eq!(check(&list(None, true, None), true), Err(Failure::Usage("cannot specify both -j and -p".to_owned())));
        assert_eq!(check(&list(None, false, Some("|")), false), Err(Failure::Usage("-d requires -p".to_owned())));
        assert_eq!(check(&list(Some("bogus"), false, None), false), Err(Failure::failed("Invalid display field: bogus")));
        assert_eq!(check(&list(Some("uuid,x,y"), false, None), false), Err(Failure::failed("Invalid display fields: x, y")));
        assert_eq!(check(&list(Some("uuid, rule"), true, Some("|")), false), Ok(()));
    }

    /// firewaller case C1
    #[test]
    fn the_delimiter_is_escaped_where_it_is_no_delimiter() {
        let row = ["u", "true", "FROM ip fd00::1 TO all vms"].map(str::to_owned);
        assert_eq!(parsable(&row, ":"), r"u:true:FROM ip fd00\:\:1 TO all vms");
        assert_eq!(parsable(&row, "|"), "u|true|FROM ip fd00::1 TO all vms");
    }

    #[test]
    fn absent_is_a_dash_false_is_false_and_control_characters_are_shown() {
        assert_eq!(
            [cell(None), cell(Some(&json!(false))), cell(Some(&json!(""))), cell(Some(&json!("a\x1b\n")))],
            ["-", "false", "-", "a\\u{1b}\\n"]
        );
    }
}
