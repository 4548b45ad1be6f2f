//! Payloads from files and standard input, bounded.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use serde_json::Value;
use triton_types::JsonMap;

use super::{Failure, args::Input};

/// Largest payload: cn-agent takes bodies of the same order (cn-agent.md section 2.2).
const MAX_PAYLOAD: u64 = 16 << 20;

/// Reads the payload of `verb`.
pub(super) fn payload(input: &Input, verb: &str) -> Result<JsonMap, Failure> {
    let text = match input.file.as_deref() {
        Some(path) if path != Path::new("-") => {
            let file = File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Failure::Failed(format!("File: {} does not exist.", path.display())),
                _ => Failure::Failed(format!("File: {} cannot be read: {error}", path.display())),
            })?;
            if file.metadata()?.is_dir() {
                return Err(Failure::Failed(format!("File: {} cannot be read: it is a directory", path.display())));
            }
            read(file)?
        }
        _ if io::stdin().is_terminal() => {
            return Err(Failure::Usage(format!("Will not {verb} from stdin when stdin is a tty.")));
        }
        _ => read(io::stdin().lock())?,
    };
    parse(&text)
}

/// A payload made of `KEY=VALUE` words: all values are text (instances.md section 2.8). The last of several of one key counts.
pub(super) fn words(words: &[String]) -> Result<JsonMap, Failure> {
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), Value::from(value))),
        _ => Err(Failure::Usage(format!("Invalid argument: \"{word}\" (must be KEY=VALUE)."))),
    };
    words.iter().map(pair).collect()
}

fn read(source: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    source.take(MAX_PAYLOAD + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_PAYLOAD {
        return Err(Failure::Failed(format!("Invalid JSON payload: larger than {MAX_PAYLOAD} bytes")));
    }
    Ok(bytes)
}

fn parse(text: &[u8]) -> Result<JsonMap, Failure> {
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(Failure::Failed("Invalid JSON payload: not an object".to_owned())),
        Err(error) => Err(Failure::Failed(format!("Invalid JSON payload: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_object_is_refused_with_the_reason() {
        for (text, reason) in [("{\"a\":", "EOF"), ("[1]", "not an object"), ("", "EOF")] {
            match parse(text.as_bytes()) {
                Err(Failure::Failed(message)) => {
                    assert!(message.starts_with("Invalid JSON payload: ") && message.contains(reason), "{message}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn words_become_text_and_others_are_wrong_usage() {
        let payload = words(&["alias=a=b".into(), "cpu_cap=0".into(), "hostname=".into()]).unwrap();
        assert_eq!(Value::Object(payload), serde_json::json!({"alias": "a=b", "cpu_cap": "0", "hostname": ""}));
        for bad in ["alias", "=x"] {
            assert!(matches!(words(&[bad.to_owned()]), Err(Failure::Usage(text)) if text.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        let text = "[".repeat(1 << 20);
        assert!(parse(text.as_bytes()).is_err());
    }
}
