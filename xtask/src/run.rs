//! Commands of the machine, with their output kept for the error and a sign of life while they run.

use std::{
    io::Read,
    os::fd::AsFd,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::say::Progress;

/// What a command said and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Standard output and standard error, as they came.
    pub text: String,
    /// Exit status 0.
    pub success: bool,
    status: String,
}

/// At most this much of a command's output is kept, its end.
const KEPT: usize = 256 << 10;

/// Runs `command` for at most `limit`, both outputs together, turning the spinner of `progress`.
pub fn run(command: Command, limit: Duration, progress: &mut Progress) -> Result<Output> {
    run_with(command, Stdio::null(), limit, progress)
}

/// As [`run`], with standard input.
pub fn run_with(mut command: Command, input: Stdio, limit: Duration, progress: &mut Progress) -> Result<Output> {
    let name = describe(&command);
    let (mut reader, writer) = std::io::pipe().context("could not make a pipe")?;
    let error = writer.try_clone().context("could not make a pipe")?;
    let mut child = command.stdin(input).stdout(writer).stderr(error).spawn().with_context(|| format!("could not run {name}"))?;
    // The command holds the pipe's writing ends: without them the pipe's end is seen.
    drop(command);
    let deadline = Instant::now() + limit;
    let mut text = Vec::new();
    let mut buffer = [0; 16 << 10];
    loop {
        let ready = {
            let mut fds = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::from(100u16)).unwrap_or(0) > 0
        };
        if ready {
            let count = reader.read(&mut buffer).with_context(|| format!("could not read what {name} says"))?;
            if count == 0 {
                break;
            }
            text.extend_from_slice(&buffer[..count]);
            if text.len() > 2 * KEPT {
                text.drain(..text.len() - KEPT);
            }
        } else if child.try_wait()?.is_some() {
            // Whoever it left behind in the background may keep the pipe open: the command itself is what counts.
            break;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} had not ended after {} s; it said: {}", limit.as_secs(), tail(&text));
        }
        progress.turn(last_line(&text));
    }
    let status = child.wait().with_context(|| format!("could not wait for {name}"))?;
    Ok(Output { text: String::from_utf8_lossy(&text).into_owned(), success: status.success(), status: status.to_string() })
}

/// As [`run`]; a failure is an error with the command, its status and the end of its output.
pub fn succeed(command: Command, limit: Duration, progress: &mut Progress) -> Result<String> {
    fed(command, Stdio::null(), limit, progress)
}

/// As [`succeed`], with standard input.
pub fn fed(command: Command, input: Stdio, limit: Duration, progress: &mut Progress) -> Result<String> {
    let name = describe(&command);
    let output = run_with(command, input, limit, progress)?;
    if !output.success {
        bail!("{name} ended with {}: {}", output.status, tail(output.text.as_bytes()));
    }
    Ok(output.text)
}

/// Standard output alone of a short command.
pub fn answer(command: &mut Command) -> Result<String> {
    let name = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not run {name}"))?;
    if !output.status.success() {
        bail!("{name} ended with {}: {}", output.status, tail(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn describe(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

fn tail(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n    ").trim().to_owned()
}

fn last_line(text: &[u8]) -> &str {
    let end = &text[text.len().saturating_sub(200)..];
    let line = end.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty()).unwrap_or_default();
    std::str::from_utf8(line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_command_said_and_its_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let error = succeed(command, Duration::from_secs(60), &mut Progress::new(1)).unwrap_err().to_string();
        assert!(error.contains("out") && error.contains("err") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");
        let error = run(command, Duration::from_millis(200), &mut Progress::new(1)).unwrap_err().to_string();
        assert!(error.contains("sleep 600") && error.contains("had not ended"), "{error}");
    }

    #[test]
    fn what_a_command_leaves_in_the_background_is_not_waited_for() {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 20 & echo $!"]);
        let said = succeed(command, Duration::from_secs(10), &mut Progress::new(1)).unwrap();
        let pid: i32 = said.trim().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}
