//! `docker_copy`: files out of an instance and into it, as a tar archive on a socket (cn-agent.md section 3.13).

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    process::Command,
};
use triton_types::Timestamp;

use super::{
    Model,
    docker::{Guest, offer},
};
use crate::{
    GuestPlace, TaskContext, TaskError,
    guest::{Action, Entry, Looked, normal},
};

/// How long a look at a path may take; CNAPI gives the task 10 seconds.
const LOOK: Duration = Duration::from_secs(8);
/// How long a copy may stand still.
const IDLE: Duration = Duration::from_secs(30);
/// How long the helper may take to end after the last byte.
const END: Duration = Duration::from_secs(30);

/// Bits of the mode that docker's client looks at.
const DIRECTORY: u64 = 1 << 31;
const LINK: u64 = 1 << 27;

/// Copies, or only says what is there.
pub(super) async fn docker_copy(model: Model, context: TaskContext) -> Result<Value, TaskError> {
    let params = &context.params;
    // An older form has both in an object.
    let older = params.get("payload").filter(|_| params.text("path").is_none());
    let older = |key: &str| older.and_then(|payload| payload.get(key)?.as_str());
    let path = params.text("path").or_else(|| older("path")).ok_or(TaskError::Crashed(context.name))?.to_owned();
    let mode = params.text("mode").or_else(|| older("mode")).unwrap_or("read").to_owned();
    let guest = Guest::of(&model, &context).await?;
    let looked = tokio::time::timeout(LOOK, look(&guest.place, &path)).await;
    let looked = looked.map_err(|_| failed(&path, "it could not be looked at in time"))?.map_err(|error| failed(&path, &error))?;
    match mode.as_str() {
        "stat" => Ok(json!({"host": model.admin_ip, "containerPathStat": stat(&path, &looked)?})),
        "read" => {
            let stat = stat(&path, &looked)?;
            let helper = helper(&guest.place, Action::Read { path: path.clone() }).map_err(|error| failed(&path, &error))?;
            let mut reply = offer(&model, move |stream| async move { note(send(helper, stream).await) }).await?;
            reply["containerPathStat"] = stat;
            Ok(reply)
        }
        "write" => {
            // A link to a directory is one for whoever copies into it.
            if let Looked::Is { directory: false, link: None, .. } = looked {
                return Err(coded(format!("path was not a directory: {}", normal(&path)), "PathNotDirectory"));
            }
            stat(&path, &looked)?;
            let keep_directories = params.flag("no_overwrite_dir");
            let action = Action::Write { path: path.clone(), keep_directories };
            let helper = helper(&guest.place, action).map_err(|error| failed(&path, &error))?;
            offer(&model, move |stream| async move { note(receive(helper, stream).await) }).await
        }
        other => Err(TaskError::failed(format!("unknown mode: {other}"))),
    }
}

fn failed(path: &str, error: &str) -> TaskError {
    TaskError::failed(format!("docker_copy: {}: {error}", normal(path)))
}

fn coded(message: String, code: &str) -> TaskError {
    TaskError::Failed { message, rest_code: Some(code.to_owned()) }
}

/// What docker's client is told of a path.
fn stat(path: &str, looked: &Looked) -> Result<Value, TaskError> {
    let path = normal(path);
    match looked {
        Looked::Is { directory, link, size, modified, mode } => {
            let kind = if *directory { DIRECTORY } else { 0 } | if link.is_some() { LINK } else { 0 };
            Ok(json!({
                "name": path.trim_start_matches('/'),
                "size": size,
                "mtime": Timestamp::from_millis(*modified),
                "linkTarget": link.as_deref().unwrap_or_default(),
                "mode": kind | u64::from(mode & 0o777),
            }))
        }
        Looked::Absent => Err(coded(format!("no such file in container: {path}"), "FileNotFound")),
        Looked::NotDirectory => Err(coded(format!("path was not a directory: {path}"), "PathNotDirectory")),
        Looked::Failed(error) => Err(TaskError::failed(format!("docker_copy: {error}"))),
    }
}

fn helper(place: &GuestPlace, action: Action) -> Result<Command, String> {
    let mut command = Entry { place: place.clone(), action }.command()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command)
}

async fn look(place: &GuestPlace, path: &str) -> Result<Looked, String> {
    let mut helper = helper(place, Action::Look { path: path.to_owned() })?;
    let output = helper.stdout(Stdio::piped()).output().await.map_err(|error| format!("the helper could not be started: {error}"))?;
    serde_json::from_slice(&output.stdout).map_err(|_| said(&output.stderr))
}

fn said(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    text.trim().chars().take(500).collect()
}

fn note(result: Result<(), String>) {
    if let Err(error) = result {
        tracing::warn!(error, "a copy out of or into an instance did not succeed");
    }
}

/// Copies until the end, as long as it goes on.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    let still = |_| std::io::Error::other(format!("nothing moved for {} seconds", IDLE.as_secs()));
    let mut buffer = vec![0; 64 << 10];
    loop {
        match tokio::time::timeout(IDLE, from.read(&mut buffer)).await.map_err(still)?? {
            0 => return to.shutdown().await,
            count => tokio::time::timeout(IDLE, to.write_all(&buffer[..count])).await.map_err(still)??,
        }
    }
}

/// Ends with the helper, whose errors it gives.
async fn ended(child: tokio::process::Child, moved: std::io::Result<()>) -> Result<(), String> {
    let output = tokio::time::timeout(END, child.wait_with_output()).await;
    let output = output.map_err(|_| "the helper does not end".to_owned())?.map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(said(&output.stderr));
    }
    moved.map_err(|error| error.to_string())
}

async fn send(mut helper: Command, mut stream: TcpStream) -> Result<(), String> {
    let mut child = helper.stdout(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let Some(stdout) = child.stdout.take() else { return Err("it has no output".to_owned()) };
    let moved = pump(stdout, &mut stream).await;
    if moved.is_err() {
        let _ = child.start_kill();
    }
    ended(child, moved).await
}

async fn receive(mut helper: Command, mut stream: TcpStream) -> Result<(), String> {
    let mut child = helper.stdin(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let Some(stdin) = child.stdin.take() else { return Err("it has no input".to_owned()) };
    let moved = pump(&mut stream, stdin).await;
    let result = ended(child, moved).await;
    // The caller waits for this end to know that all of it is there.
    let _ = stream.shutdown().await;
    result
}
