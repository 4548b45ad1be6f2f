//! `docker_exec`: a program inside a running instance, its streams on a socket (cn-agent.md section 3.13).
//!
//! Lines of JSON. To the caller: `{"type":"stdout"|"stderr"|"tty","data":text}`, at the end `{"type":"end","data":{code,signal}}`. From
//! it: `{"type":"stdin"|"tty","data":text}`, `{"type":"tty","resize":{"w":..,"h":..}}`, `{"type":"end"}`.

use std::{os::unix::process::ExitStatusExt, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::mpsc,
};

use super::{
    Model,
    docker::{Guest, offer},
    terminal::{Input, Terminal},
};
use crate::{
    TaskContext, TaskError,
    guest::{Action, Entry, Run},
};

/// Longest line of a caller.
const LONGEST: u64 = 1 << 20;
/// How long output is awaited after the program's end: what it left in the background may hold the streams for ever.
const REST: Duration = Duration::from_secs(1);

/// Runs a command.
pub(super) async fn docker_exec(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let failed = |message: &str| TaskError::failed(format!("docker_exec: {message}"));
    let command = context.params.get("command").and_then(Value::as_object).ok_or(TaskError::Crashed(context.name))?;
    let flag = |name: &str| command.get(name).and_then(Value::as_bool).unwrap_or(false);
    if flag("AttachConsole") || flag("Logs") {
        return Err(failed("attaching to the console and reading its log are not available: see `vmadm console` on the compute node"));
    }
    let words = |name: &str| -> Option<Vec<String>> {
        command.get(name)?.as_array()?.iter().map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let arguments = words("Cmd").filter(|words| !words.is_empty()).ok_or_else(|| failed("Cmd is no list of words"))?;
    let text = |name: &str| command.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
    let guest = Guest::of(&model, &context).await?;
    guest.must_run(&context)?;
    let own = |key: &str| guest.vm["internal_metadata"][key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let declared: Vec<String> = own("docker:env").and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let environment = declared.into_iter().chain(words("Env").unwrap_or_default());
    let run = Run {
        command: arguments,
        environment: environment.filter_map(|line| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect(),
        user: text("User").or_else(|| own("docker:user")),
        directory: text("WorkingDir").or_else(|| own("docker:workdir")),
        terminal: flag("Tty") && !flag("Detach"),
        detached: flag("Detach"),
    };
    let (terminal, detached) = (run.terminal, run.detached);
    let helper = Entry { place: guest.place, action: Action::Run(run) }.command().map_err(|error| failed(&error))?;
    if detached {
        return detach(helper).map(|()| json!({})).map_err(|error| failed(&error.to_string()));
    }
    let input = flag("AttachStdin");
    offer(&model, move |stream| async move {
        let result = if terminal { on_terminal(helper, stream).await } else { on_pipes(helper, stream, input).await };
        if let Err(error) = result {
            tracing::info!(%error, "a docker stream broke off");
        }
    })
    .await
}

fn detach(mut helper: Command) -> std::io::Result<()> {
    let mut child = helper.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()?;
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// Bytes as pieces of text: a character that is cut in two waits for its other half.
#[derive(Default)]
pub(super) struct Pieces(Vec<u8>);

impl Pieces {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.0.extend_from_slice(bytes);
        let cut = match std::str::from_utf8(&self.0) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.0.len(),
        };
        // More than one cut may be in there: what is no text is shown as such.
        let rest = if self.0.len() - cut < 4 { self.0.split_off(cut) } else { Vec::new() };
        let text = String::from_utf8_lossy(&self.0).into_owned();
        self.0 = rest;
        text
    }
}

/// Sends what a stream gives, until its end or the caller's.
pub(super) async fn forward(mut from: impl AsyncRead + Unpin, kind: &'static str, to: mpsc::Sender<Value>) {
    let (mut buffer, mut pieces) = (vec![0; 32 << 10], Pieces::default());
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let text = pieces.push(&buffer[..count]);
        if !text.is_empty() && to.send(json!({"type": kind, "data": text})).await.is_err() {
            return;
        }
    }
    if !pieces.0.is_empty() {
        let _ = to.send(json!({"type": kind, "data": String::from_utf8_lossy(&pieces.0)})).await;
    }
}

/// Reads lines of a caller until its end, or something that is no such line.
pub(super) async fn listen(from: impl AsyncRead + Unpin, to: mpsc::Sender<Input>) {
    let mut from = BufReader::new(from);
    loop {
        let mut line = Vec::new();
        let read = (&mut from).take(LONGEST).read_until(b'\n', &mut line).await;
        if !matches!(read, Ok(1..)) || line.last() != Some(&b'\n') {
            break;
        }
        let Some(input) = Input::parse(&line) else { continue };
        if matches!(input, Input::End) || to.send(input).await.is_err() {
            break;
        }
    }
    let _ = to.send(Input::End).await;
}

/// Writes lines to the caller; ends with the senders, or when the caller is gone.
pub(super) async fn tell(mut lines: mpsc::Receiver<Value>, mut to: impl tokio::io::AsyncWrite + Unpin) -> std::io::Result<()> {
    while let Some(line) = lines.recv().await {
        to.write_all(format!("{line}\r\n").as_bytes()).await?;
    }
    to.shutdown().await
}

fn ending(status: std::process::ExitStatus) -> Value {
    let signal = status.signal().map(triton_process::signal_name);
    json!({"type": "end", "data": {"code": status.code(), "signal": signal}})
}

async fn on_pipes(mut helper: Command, stream: TcpStream, with_input: bool) -> std::io::Result<()> {
    let (from, to) = stream.into_split();
    helper.stdin(if with_input { Stdio::piped() } else { Stdio::null() }).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = helper.kill_on_drop(true).spawn()?;
    let (lines, outgoing) = mpsc::channel(16);
    let mut teller = tokio::spawn(tell(outgoing, to));
    let mut readers = tokio::task::JoinSet::new();
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        readers.spawn(forward(stdout, "stdout", lines.clone()));
        readers.spawn(forward(stderr, "stderr", lines.clone()));
    }
    let stdin = child.stdin.take();
    let (inputs, mut incoming) = mpsc::channel(16);
    let listener = tokio::spawn(listen(from, inputs));
    let feeder = tokio::spawn(async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(Input::Data(data)) = incoming.recv().await {
            if stdin.write_all(data.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let status = tokio::select! {
        status = child.wait() => status?,
        // The caller takes no more: the program has nobody to talk to.
        gone = &mut teller => return end_of(child, gone).await,
    };
    let _ = tokio::time::timeout(REST, async { while readers.join_next().await.is_some() {} }).await;
    readers.abort_all();
    listener.abort();
    feeder.abort();
    let _ = lines.send(ending(status)).await;
    drop((lines, readers));
    teller.await.map_err(std::io::Error::other)?
}

async fn end_of(mut child: Child, gone: Result<std::io::Result<()>, tokio::task::JoinError>) -> std::io::Result<()> {
    child.kill().await?;
    gone.map_err(std::io::Error::other)?
}

async fn on_terminal(mut helper: Command, stream: TcpStream) -> std::io::Result<()> {
    let (from, to) = stream.into_split();
    let (terminal, slave) = Terminal::open()?;
    helper.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave);
    let mut child = helper.kill_on_drop(true).spawn()?;
    // The command keeps descriptors of the terminal, whose end is to be seen.
    drop(helper);
    let (lines, outgoing) = mpsc::channel(16);
    let mut teller = tokio::spawn(tell(outgoing, to));
    let (inputs, mut incoming) = mpsc::channel(16);
    let listener = tokio::spawn(listen(from, inputs));
    let mut reader = tokio::spawn(forward(terminal.clone(), "tty", lines.clone()));
    let mut writer = terminal;
    let mut open = true;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            gone = &mut teller => return end_of(child, gone).await,
            input = incoming.recv(), if open => match input {
                Some(Input::Data(data)) => writer.write_all(data.as_bytes()).await?,
                Some(Input::Resize { width, height }) => writer.resize(width, height)?,
                // Whoever was at the terminal has left it.
                Some(Input::End) | None => { open = false; child.start_kill()?; }
            }
        }
    };
    let _ = tokio::time::timeout(REST, &mut reader).await;
    reader.abort();
    listener.abort();
    let _ = lines.send(ending(status)).await;
    drop(lines);
    teller.await.map_err(std::io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_in_two_is_sent_whole_and_what_is_no_text_does_not_wait() {
        let mut pieces = Pieces::default();
        let bytes = "grün".as_bytes();
        assert_eq!((pieces.push(&bytes[..3]), pieces.push(&bytes[3..])), ("gr".to_owned(), "ün".to_owned()));
        assert_eq!(pieces.push(&[0xff, b'a']), "\u{fffd}a");
        assert!(pieces.0.is_empty());
    }
}
