//! Where a guest's serial line comes from: its monitor lends it, for as long as the guest runs (ruling 32).
//!
//! The connection to the monitor stays open, since its end means something: the guest has ended, or boots again with another
//! line, or its monitor was killed. In the last case the line is still good; it is served on, and given to the monitor that
//! adopts the guest. A new service borrows the same lines again, and no client in a guest has to open anything.
//! The service manager keeps a duplicate of each line, for when the monitor and this service are killed at once.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::UnixStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use triton_agent::kept;
use triton_process::{receive_descriptor, send_descriptor};

use crate::{Guest, Terminal, serve_line};

/// How long a monitor may take for its word.
const PATIENCE: Duration = Duration::from_secs(3);
/// Bounds of the pause before a monitor is asked again that did not answer.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// The line of one guest, served until this is dropped.
#[derive(Debug)]
pub(crate) struct Line {
    wake: Arc<Notify>,
    stop: CancellationToken,
}

impl Line {
    /// Serves the line that is lent at `socket`, whenever it is; `kept` is the one that the service manager had of the guest.
    pub(crate) fn start(guest: Arc<Guest>, socket: PathBuf, kept: Option<OwnedFd>, tasks: &TaskTracker) -> Self {
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let (woken, stopped) = (wake.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = keep(&guest, &socket, kept, &woken) => {}
                () = stopped.cancelled() => {}
            }
        });
        Self { wake, stop }
    }

    /// Something about the instance changed: it may run now.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn keep(guest: &Guest, socket: &Path, kept: Option<OwnedFd>, wake: &Notify) {
    let mut line: Option<Terminal> = kept.and_then(|master| Terminal::new(master).ok());
    let mut pause = PAUSES.0;
    loop {
        match borrow(guest, socket, &mut line).await {
            Ok(mut monitor) => {
                pause = PAUSES.0;
                let ended = async { while matches!(monitor.read(&mut [0; 16]).await, Ok(count) if count > 0) {} };
                serve_until(guest, line.as_ref(), ended).await;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if line.take().is_some() {
                    kept::forget(&guest.uuid.to_string());
                }
                wake.notified().await;
            }
            // There is a socket and nobody behind it: the monitor was killed. Or it is only slow.
            Err(error) => {
                tracing::debug!(vm_uuid = %guest.uuid, %error, "the guest's monitor lends no line");
                let asked = async { drop(timeout(pause, wake.notified()).await) };
                serve_until(guest, line.as_ref(), asked).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// Serves the line, if there is one, until `over` is.
async fn serve_until(guest: &Guest, line: Option<&Terminal>, over: impl Future<Output = ()>) {
    match line {
        Some(terminal) => {
            let _open = guest.numbers.line_open();
            tokio::select! {
                () = serve_line(guest, terminal) => {}
                () = over => {}
            }
        }
        None => over.await,
    }
    // Whatever is wrong with a monitor, it is not asked in a tight loop.
    sleep(Duration::from_millis(5)).await;
}

/// Borrows the line from the monitor, or gives it the one that is still held; returns the connection.
async fn borrow(guest: &Guest, socket: &Path, line: &mut Option<Terminal>) -> io::Result<UnixStream> {
    let held = line.as_ref().map(|line| line.master().as_fd().try_clone_to_owned()).transpose()?;
    let path = socket.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let stream = triton_agent::unix::connect(&path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let (word, lent) = receive_descriptor(&stream)?;
        if word == b'N' {
            let answer = if held.is_some() { b'L' } else { b'N' };
            send_descriptor(&stream, answer, held.as_ref().map(AsFd::as_fd))?;
        }
        stream.set_nonblocking(true)?;
        Ok::<_, io::Error>((stream, lent))
    });
    let (stream, lent) = asked.await.map_err(io::Error::other)??;
    if let Some(lent) = lent {
        // Should the monitor be killed together with this service, nobody else would have the line that the guest has open.
        kept::keep(&guest.uuid.to_string(), lent.as_fd());
        *line = Some(Terminal::new(lent)?);
    }
    UnixStream::from_std(stream)
}
