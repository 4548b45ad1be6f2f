//! `command_execute` (cn-agent.md section 3.8). Its reply always has the same five keys; a script that fails is no failed task.
//!
//! An exit status of 113 has no meaning here: rebooting after a script is the matter of ur-agent and of `server_reboot` (section 7.5).

use std::{io, os::unix::process::ExitStatusExt, path::Path, time::Duration};

use nix::{errno::Errno, sys::signal::Signal};
use serde_json::{Value, json};

use super::{
    Model,
    execution::{Ended, Execution, Ran},
};
use crate::{Params, TaskContext, TaskError};

/// Runs a script and tells how it ended.
pub(super) async fn command_execute(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let execution = parse(&context.params).ok_or(TaskError::Crashed(context.name))?;
    let ran = execution.run(&model.script_directories, &context.cancelled).await;
    let ran = ran.map_err(|error| TaskError::failed(format!("could not write the script: {error}")))?;
    match ran.ended {
        Ended::Cancelled => Err(TaskError::Cancelled),
        _ => Ok(reply(&ran)),
    }
}

/// `None` for parameters of a wrong type.
fn parse(params: &Params) -> Option<Execution> {
    let script = params.get("script")?.as_str()?.to_owned();
    let args = match params.get("args") {
        None => Vec::new(),
        Some(list) => list.as_array()?.iter().map(word).collect::<Option<_>>()?,
    };
    let env = match params.get("env") {
        None => Vec::new(),
        Some(map) => map.as_object()?.iter().map(|(key, value)| Some((name(key)?, word(value)?))).collect::<Option<_>>()?,
    };
    let timeout = match params.get("timeout") {
        None => None,
        Some(value) => Some(value.as_f64()?).filter(|ms| *ms > 0.0).and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok()),
    };
    Some(Execution { script, args, env, timeout })
}

/// A text, or a number or boolean as text. The kernel's strings cannot hold a NUL.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (!text.contains('\0')).then(|| text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// The name of a variable.
fn name(key: &str) -> Option<String> {
    (!key.is_empty() && !key.contains(['\0', '='])).then(|| key.to_owned())
}

fn reply(ran: &Ran) -> Value {
    let (cause, exit_code, signal) = match &ran.ended {
        Ended::Exited(status) => match (status.code(), status.signal()) {
            (Some(0), _) => (None, Some(0), None),
            (Some(code), _) => (Some(format!("exited with status {code}")), Some(code), None),
            (None, signal) => {
                let signal = signal_name(signal.unwrap_or_default());
                (Some(format!("unexpectedly terminated by signal {signal}")), None, Some(signal))
            }
        },
        Ended::TimedOut => (Some("unexpectedly terminated by signal SIGKILL".to_owned()), None, Some("SIGKILL".to_owned())),
        Ended::TooMuch(stream) => (Some(format!("{stream} maxBuffer exceeded")), None, None),
        Ended::NotStarted(error) => (Some(format!("spawn {} {}", ran.path.display(), errno_name(error))), None, None),
        Ended::Cancelled => (Some("was given up".to_owned()), None, None),
    };
    json!({
        "err": cause.map(|cause| error_object(&ran.path, &cause)),
        "exitCode": exit_code,
        "signal": signal,
        "stderr": text(&ran.stderr),
        "stdout": text(&ran.stdout),
    })
}

/// In the form of upstream's error objects; readers look at `message` alone.
fn error_object(path: &Path, cause: &str) -> Value {
    let command = format!("exec \"{}\"", path.display());
    json!({
        "jse_shortmsg": command,
        "jse_info": {},
        "jse_cause": {"jse_shortmsg": cause, "jse_info": {}, "message": cause},
        "message": format!("{command}: {cause}"),
    })
}

/// Output as text; a character that the limit cut in two is left out.
fn text(bytes: &[u8]) -> String {
    let cut = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    String::from_utf8_lossy(&bytes[..cut]).into_owned()
}

fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().to_owned())
}

fn errno_name(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("{:?}", Errno::from_raw(number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cn-agent case 27
    #[test]
    fn parameters_of_a_wrong_type_are_refused() {
        let good = |value| parse(&Params::new(value)).is_some();
        assert!(good(json!({"script": "", "args": ["a", 1, true], "env": {"A": "b"}, "timeout": 5, "jobid": {}})));
        assert!(good(json!({"script": "x", "args": null, "env": null, "timeout": 0})));
        for bad in [
            json!({}),
            json!({"script": 1}),
            json!({"script": "x", "args": "a"}),
            json!({"script": "x", "args": [{}]}),
            json!({"script": "x", "args": ["a\u{0}b"]}),
            json!({"script": "x", "env": ["A=b"]}),
            json!({"script": "x", "env": {"A=B": "c"}}),
            json!({"script": "x", "timeout": "500"}),
        ] {
            assert!(!good(bad.clone()), "{bad}");
        }
    }

    #[test]
    fn a_character_cut_in_two_is_left_out_and_foreign_bytes_are_marked() {
        assert_eq!(text("aä".as_bytes().split_last().unwrap().1), "a");
        assert_eq!(text(b"a\xffb"), "a\u{fffd}b");
    }
}
