//! Tables: upper-case headers, columns two spaces apart.

/// Lays out rows; `header` is left out when empty. Control characters of the cells are replaced, so that no text of a
/// manifest moves the cursor.
pub(super) fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &String| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let mut lines: Vec<Vec<String>> = Vec::new();
    if !header.is_empty() {
        lines.push(header.iter().map(|name| name.to_uppercase()).collect());
    }
    lines.extend(rows.iter().map(|row| row.iter().map(clean).collect()));
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "long name".to_owned(), "x".to_owned()], vec!["bbb".to_owned(), "n\n".to_owned(), "y".to_owned()]];
        assert_eq!(render(&["uuid", "name", "os"], &rows), "UUID  NAME       OS\na     long name  x\nbbb   n?         y\n");
        assert_eq!(render(&[], &[vec!["a".to_owned()]]), "a\n");
        assert_eq!(render(&["uuid"], &[]), "UUID\n");
    }
}
