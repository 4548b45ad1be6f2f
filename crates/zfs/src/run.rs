//! Running `zfs` and `zpool`: a clean environment, bounded output, a deadline.

use std::{
    io::{self, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{FailureKind, Invocation, Program, Unavailable, ZfsError};

/// Where distributions put the commands.
const DIRECTORIES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// Most bytes of output that are kept: 100,000 datasets with every column fit in.
const MAX_OUTPUT: usize = 64 << 20;
/// Most bytes of error text that are kept.
const MAX_ERROR: usize = 64 << 10;

/// Time for a command. A pool that is suspended or resilvers heavily answers late, not never.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

fn find(program: Program, directories: &[&str]) -> Result<PathBuf, Unavailable> {
    directories
        .iter()
        .map(|directory| Path::new(directory).join(program.name()))
        .find(|path| path.is_file())
        .ok_or(Unavailable::Command(program.name()))
}

fn command(invocation: &Invocation, directories: &[&str]) -> Result<Command, Unavailable> {
    let mut command = Command::new(find(invocation.program, directories)?);
    command
        .args(&invocation.arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(command)
}

fn failed(invocation: &Invocation, kind: FailureKind, reason: &dyn std::fmt::Display) -> ZfsError {
    ZfsError::Failed { action: invocation.action, target: invocation.target.clone(), kind, reason: reason.to_string() }
}

/// Ends the child when it is left early, so that none outlives its caller's interest.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Runs the command and returns its standard output.
///
/// # Errors
/// When it is not installed, fails, prints too much, or does not end in time.
pub(crate) fn run(invocation: &Invocation) -> Result<String, ZfsError> {
    run_in(invocation, &DIRECTORIES, DEADLINE)
}

fn run_in(invocation: &Invocation, directories: &[&str], deadline: Duration) -> Result<String, ZfsError> {
    let io = |error: io::Error| failed(invocation, FailureKind::Other, &error);
    let mut running = Running(command(invocation, directories)?.spawn().map_err(io)?);
    let (output, errors) = collect(&mut running.0, invocation, deadline)?;
    let status = running.0.wait().map_err(io)?;
    if !status.success() {
        return Err(ZfsError::from_text(invocation.action, &invocation.target, &String::from_utf8_lossy(&errors)));
    }
    String::from_utf8(output).map_err(|_| ZfsError::Output { what: "a command's output", line: "not UTF-8".to_owned() })
}

/// Reads both streams to their ends.
fn collect(child: &mut Child, invocation: &Invocation, deadline: Duration) -> Result<(Vec<u8>, Vec<u8>), ZfsError> {
    let io = |error: io::Error| failed(invocation, FailureKind::Other, &error);
    let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed(invocation, FailureKind::Other, &"its output is not connected"));
    };
    let end = Instant::now() + deadline;
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let mut open = [true, true];
    let mut buffer = vec![0; 64 << 10];
    while open != [false, false] {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(failed(invocation, FailureKind::TimedOut, &format!("no answer within {} s", deadline.as_secs())));
        }
        let timeout = PollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(u16::MAX).max(1));
        let ready: Vec<bool> = {
            let mut descriptors = Vec::new();
            if open[0] {
                descriptors.push(PollFd::new(stdout.as_fd(), PollFlags::POLLIN));
            }
            if open[1] {
                descriptors.push(PollFd::new(stderr.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut descriptors, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(io(errno.into())),
            }
            let mut results = descriptors.iter().map(|d| d.any().unwrap_or(false));
            open.map(|is_open| is_open && results.next().unwrap_or(false)).to_vec()
        };
        if ready[0] {
            let count = stdout.read(&mut buffer).map_err(io)?;
            open[0] = count > 0;
            output.extend_from_slice(&buffer[..count]);
            if output.len() > MAX_OUTPUT {
                return Err(failed(invocation, FailureKind::Other, &"it prints more than 64 MiB"));
            }
        }
        if ready[1] {
            let count = stderr.read(&mut buffer).map_err(io)?;
            open[1] = count > 0;
            let room = MAX_ERROR.saturating_sub(errors.len());
            errors.extend_from_slice(&buffer[..count.min(room)]);
        }
    }
    Ok((output, errors))
}

/// Runs the command and writes its standard output to `out`, however much it is. It may be silent for [`DEADLINE`] at most.
///
/// # Errors
/// As [`run`]; a failing writer ends the command, and its error is the result.
pub(crate) fn draw(invocation: &Invocation, out: &mut dyn Write) -> Result<(), ZfsError> {
    draw_in(invocation, &DIRECTORIES, DEADLINE, out)
}

fn draw_in(invocation: &Invocation, directories: &[&str], silence: Duration, out: &mut dyn Write) -> Result<(), ZfsError> {
    let io = |error: io::Error| failed(invocation, FailureKind::Other, &error);
    let mut running = Running(command(invocation, directories)?.spawn().map_err(io)?);
    let (Some(mut stdout), Some(mut stderr)) = (running.0.stdout.take(), running.0.stderr.take()) else {
        return Err(failed(invocation, FailureKind::Other, &"its output is not connected"));
    };
    // What it says of errors is read beside the stream, or it would wait for that.
    let errors = std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = stderr.by_ref().take(MAX_ERROR as u64).read_to_end(&mut text);
        let _ = io::copy(&mut stderr, &mut io::sink());
        text
    });
    let mut buffer = vec![0; 128 << 10];
    loop {
        let timeout = PollTimeout::try_from(silence).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(failed(invocation, FailureKind::TimedOut, &format!("no data within {} s", silence.as_secs()))),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(io(errno.into())),
            Ok(_) => {}
        }
        match stdout.read(&mut buffer).map_err(io)? {
            0 => break,
            count => out.write_all(&buffer[..count]).map_err(io)?,
        }
    }
    let status = running.0.wait().map_err(io)?;
    let errors = errors.join().unwrap_or_default();
    if status.success() {
        return Ok(());
    }
    Err(ZfsError::from_text(invocation.action, &invocation.target, &String::from_utf8_lossy(&errors)))
}

/// Runs the command with `begin` and then `rest` as its standard input. Lasts as long as the reader does.
///
/// # Errors
/// As [`run`]; a failing reader ends the command, and its error is the result.
pub(crate) fn feed(invocation: &Invocation, begin: &[u8], rest: &mut dyn Read) -> Result<(), ZfsError> {
    feed_in(invocation, &DIRECTORIES, begin, rest)
}

fn feed_in(invocation: &Invocation, directories: &[&str], begin: &[u8], rest: &mut dyn Read) -> Result<(), ZfsError> {
    let io = |error: io::Error| failed(invocation, FailureKind::Other, &error);
    let mut running = Running(command(invocation, directories)?.stdin(Stdio::piped()).spawn().map_err(io)?);
    let mut stdin = running.0.stdin.take().ok_or_else(|| failed(invocation, FailureKind::Other, &"its input is not connected"))?;
    let fed = pump(begin, rest, &mut stdin);
    drop(stdin);
    match fed {
        // The reader's own failure: the stream is incomplete whatever the command makes of it.
        Err(Pump::Reader(error)) => return Err(io(error)),
        // The command closed its input: its own words say why.
        Ok(()) | Err(Pump::Writer) => {}
    }
    let (_, errors) = collect(&mut running.0, invocation, DEADLINE)?;
    let status = running.0.wait().map_err(io)?;
    if !status.success() {
        return Err(ZfsError::from_text(invocation.action, &invocation.target, &String::from_utf8_lossy(&errors)));
    }
    Ok(())
}

/// Which side of a pump failed.
#[derive(Debug)]
pub(crate) enum Pump {
    Reader(io::Error),
    Writer,
}

/// Writes `begin` and then all of `rest` to `to`.
pub(crate) fn pump(begin: &[u8], rest: &mut dyn Read, to: &mut dyn Write) -> Result<(), Pump> {
    let mut buffer = vec![0; 128 << 10];
    to.write_all(begin).map_err(|_| Pump::Writer)?;
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).map_err(|_| Pump::Writer)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Pump::Reader(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    /// A directory with a `zfs` of one's own.
    struct Fake(PathBuf);
    impl Fake {
        fn new(name: &str, script: &str) -> Self {
            let path = std::env::temp_dir().join(format!("triton-zfs-run-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("zfs"), format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(path.join("zfs"), fs::Permissions::from_mode(0o755)).unwrap();
            Self(path)
        }
        fn run(&self, deadline: Duration) -> Result<String, ZfsError> {
            run_in(&Invocation::mount(&"zones/a".parse().unwrap()), &[self.0.to_str().unwrap()], deadline)
        }
    }
    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_environment_is_clean_and_the_arguments_are_as_built() {
        let fake = Fake::new("env", "echo \"$LC_ALL|$HOME|$*\"");
        assert_eq!(fake.run(DEADLINE).unwrap(), "C||mount zones/a\n");
    }

    #[test]
    fn output_larger_than_a_pipe_on_both_streams_does_not_block() {
        let fake = Fake::new("large", "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero | tr '\\0' o");
        assert_eq!(fake.run(DEADLINE).unwrap().len(), 300_000);
    }

    #[test]
    fn a_failure_carries_the_commands_words_and_kind() {
        let fake = Fake::new("fail", "echo \"cannot mount 'zones/a': dataset does not exist\" >&2; exit 1");
        let error = fake.run(DEADLINE).unwrap_err();
        assert_eq!(error.kind(), FailureKind::NotFound);
        assert_eq!(error.to_string(), "could not mount zones/a: cannot mount 'zones/a': dataset does not exist");
    }

    #[test]
    fn a_command_that_hangs_is_ended_at_its_deadline() {
        let fake = Fake::new("hang", "exec sleep 600");
        assert_eq!(fake.run(Duration::from_millis(200)).unwrap_err().kind(), FailureKind::TimedOut);
    }

    #[test]
    fn a_stream_reaches_the_command_whole_and_its_refusal_is_told() {
        let invocation = Invocation::receive(&"zones/a".parse().unwrap(), None, false);
        let fake = Fake::new("feed", "test \"$(wc -c)\" = 500004 || { echo 'invalid stream' >&2; exit 1; }");
        let directories = [fake.0.to_str().unwrap()];
        feed_in(&invocation, &directories, b"head", &mut io::repeat(7).take(500_000)).unwrap();
        let error = feed_in(&invocation, &directories, b"head", &mut io::repeat(7).take(10)).unwrap_err();
        assert_eq!(error.kind(), FailureKind::Invalid);
        let fake = Fake::new("feed-early", "echo 'cannot receive: out of space' >&2; exit 1");
        let error = feed_in(&invocation, &[fake.0.to_str().unwrap()], b"head", &mut io::repeat(7).take(50_000_000)).unwrap_err();
        assert_eq!(error.kind(), FailureKind::NoSpace);
    }

    #[test]
    fn a_commands_output_reaches_the_writer_whole_and_a_failure_of_either_is_told() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let invocation = Invocation::send(&"zones/a@s".parse().unwrap(), None, false);
        let draw = |fake: &Fake, silence, out: &mut dyn Write| draw_in(&invocation, &[fake.0.to_str().unwrap()], silence, out);
        let fake = Fake::new("draw", "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 500000 /dev/zero | tr '\\0' o");
        let mut out = Vec::new();
        draw(&fake, DEADLINE, &mut out).unwrap();
        assert!(out.len() == 500_000 && out.iter().all(|byte| *byte == b'o'));
        assert!(draw(&fake, DEADLINE, &mut Full).is_err());
        let fake = Fake::new("draw-fail", "echo part; echo \"cannot open 'zones/a@s': dataset does not exist\" >&2; exit 1");
        assert_eq!(draw(&fake, DEADLINE, &mut Vec::new()).unwrap_err().kind(), FailureKind::NotFound);
        let fake = Fake::new("draw-hang", "exec sleep 600");
        assert_eq!(draw(&fake, Duration::from_millis(200), &mut Vec::new()).unwrap_err().kind(), FailureKind::TimedOut);
    }

    #[test]
    fn an_absent_command_is_unavailable_by_name() {
        let error = run_in(&Invocation::pools(), &["/nonexistent"], DEADLINE).unwrap_err();
        assert_eq!(error.to_string(), "ZFS is not available: the command zpool is not installed");
    }
}
