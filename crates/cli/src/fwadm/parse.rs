//! `fwadm parse`: rules in, normal forms out, a line each (ruling 27): for scripts, and for comparison with other readers of the language.

use std::io::{BufRead, BufReader, Read, Write};

use serde_json::json;
use triton_fwrule::{Limits, Spec};

use super::Failure;

/// Longest line; the longest rule that means anything is far shorter.
const LONGEST: usize = 4 << 20;

pub(super) fn parse(input: impl Read, mut output: impl Write) -> Result<(), Failure> {
    let mut input = BufReader::new(input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(output.flush()?);
        }
        if line.len() == LONGEST && line.last() != Some(&b'\n') {
            return Err(Failure::failed(format!("a line is longer than {LONGEST} bytes")));
        }
        let answer = match std::str::from_utf8(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Err(error) => json!({"ok": false, "error": error.to_string()}),
            Ok(text) => match Spec::parse(text, &Limits::default()) {
                Ok(spec) => json!({"ok": true, "rule": spec.to_string()}),
                Err(error) => json!({"ok": false, "error": error.to_string()}),
            },
        };
        writeln!(output, "{answer}")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_answered_by_a_line() {
        let mut output = Vec::new();
        parse(
            &b"from any to all vms allow tcp port 0080\nFROM any TO any ALLOW tcp PORT 22\n\xff\n\nFROM tag a TO any BLOCK esp"[..],
            &mut output,
        )
        .unwrap();
        let lines: Vec<serde_json::Value> =
            String::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0], json!({"ok": true, "rule": "FROM any TO all vms ALLOW tcp PORT 80"}));
        assert_eq!(lines[1], json!({"ok": false, "error": "rule does not affect VMs"}));
        assert_eq!(lines[2]["ok"], false);
        assert_eq!(lines[3]["error"], "No rule specified");
        assert_eq!(lines[4], json!({"ok": true, "rule": "FROM tag \"a\" TO any BLOCK esp"}));
        assert_eq!(lines.len(), 5);
    }
}
