//! Printing lists of images.

use std::io::{self, Write};

use serde::Serialize;

use super::{
    Failure,
    fields::{Filter, Row, sort},
    table,
};

/// Filters and sorts.
pub(super) fn select(mut rows: Vec<Row>, filters: &[String], order: &str) -> Result<Vec<Row>, Failure> {
    let filters = filters.iter().map(|text| Filter::parse(text)).collect::<Result<Vec<_>, _>>()?;
    rows.retain(|row| filters.iter().all(|filter| filter.matches(row)));
    sort(&mut rows, order);
    Ok(rows)
}

/// Prints the fields of each row.
pub(super) fn print_table(rows: &[Row], fields: &str, header: bool) -> Result<(), Failure> {
    let fields: Vec<&str> = fields.split(',').map(str::trim).filter(|field| !field.is_empty()).collect();
    if fields.is_empty() {
        return Err(Failure::usage("no field to show was given"));
    }
    let cells: Vec<Vec<String>> = rows.iter().map(|row| fields.iter().map(|field| row.cell(field)).collect()).collect();
    let text = table::render(if header { &fields } else { &[] }, &cells);
    Ok(io::stdout().write_all(text.as_bytes())?)
}

/// Prints indented JSON.
pub(super) fn print_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::new("InternalError", error.to_string()))?;
    Ok(writeln!(io::stdout(), "{text}")?)
}

/// Prints a line for people.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{text}")?)
}
