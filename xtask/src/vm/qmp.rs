//! QEMU's control socket: one command, one answer.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Longest answer, and how long one may take: saving a machine's memory to a slow disk takes a while.
const LINE: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs a command of QEMU's human monitor and returns what it printed.
pub fn monitor(socket: &Path, command: &str) -> Result<String> {
    let what = || format!("could not ask QEMU at {} for: {command}", socket.display());
    let stream = UnixStream::connect(socket).with_context(what)?;
    stream.set_read_timeout(Some(PATIENCE)).with_context(what)?;
    let mut reader = BufReader::new(stream.try_clone().with_context(what)?);
    let mut writer = stream;
    read(&mut reader).with_context(what)?;
    execute(&mut reader, &mut writer, &json!({"execute": "qmp_capabilities"})).with_context(what)?;
    let answer = json!({"execute": "human-monitor-command", "arguments": {"command-line": command}});
    let answer = execute(&mut reader, &mut writer, &answer).with_context(what)?;
    Ok(answer.as_str().unwrap_or_default().trim().to_owned())
}

/// As [`monitor`], for commands that print nothing but errors.
pub fn silent(socket: &Path, command: &str) -> Result<()> {
    let printed = monitor(socket, command)?;
    if printed.is_empty() { Ok(()) } else { bail!("QEMU refused \"{command}\": {printed}") }
}

fn execute(reader: &mut impl BufRead, writer: &mut impl Write, command: &Value) -> Result<Value> {
    writeln!(writer, "{command}")?;
    loop {
        let mut answer = read(reader)?;
        if let Some(error) = answer.get("error") {
            bail!("{}", error["desc"].as_str().unwrap_or("an error without words"));
        }
        if let Some(value) = answer.get_mut("return") {
            return Ok(value.take());
        }
        // Everything else is an event.
    }
}

fn read(reader: &mut impl BufRead) -> Result<Value> {
    let mut line = Vec::new();
    std::io::Read::take(&mut *reader, LINE).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        bail!("the connection ended");
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_before_the_answer_are_skipped_and_errors_told() {
        let mut said = "{\"event\": \"STOP\"}\n{\"return\": \"ok\"}\n{\"error\": {\"desc\": \"no such snapshot\"}}\n".as_bytes();
        let mut written = Vec::new();
        assert_eq!(execute(&mut said, &mut written, &json!({"execute": "x"})).unwrap(), "ok");
        let error = execute(&mut said, &mut written, &json!({"execute": "x"})).unwrap_err();
        assert_eq!(error.to_string(), "no such snapshot");
        assert!(execute(&mut said, &mut written, &json!({})).unwrap_err().to_string().contains("ended"));
    }
}
