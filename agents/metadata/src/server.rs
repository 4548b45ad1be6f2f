//! The socket of one instance.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use nix::sys::socket::{Backlog, listen};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Guest, talk};

/// Connections that may wait to be accepted.
const QUEUE: i32 = 64;

/// A socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not listen on {}", path.display())]
pub struct ServeError {
    path: PathBuf,
    source: io::Error,
}

/// A socket that is served, until this is dropped: then its connections end too.
#[derive(Debug)]
pub(crate) struct Server {
    path: PathBuf,
    identity: (u64, u64),
    stop: CancellationToken,
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Server {
    /// Binds `path`, whose directory is there, for the guest whose root is `owner` on the host, and serves it.
    pub(crate) fn start(guest: Arc<Guest>, path: &Path, owner: u32, tasks: &TaskTracker) -> Result<Self, ServeError> {
        let bind = || -> io::Result<(UnixListener, (u64, u64))> {
            let listener = triton_agent::unix::bind(path, 0o660)?;
            chown(path, Some(0), Some(owner))?;
            // A queue that is soon worked off: who floods it with connections that are gone has it free again at once.
            listen(&listener, Backlog::new(QUEUE)?)?;
            listener.set_nonblocking(true)?;
            let identity = identity(path).ok_or(io::ErrorKind::NotFound)?;
            Ok((UnixListener::from_std(listener)?, identity))
        };
        let (listener, identity) = bind().map_err(|source| ServeError { path: path.to_owned(), source })?;
        let stop = CancellationToken::new();
        tasks.spawn(accept(guest, listener, owner, stop.clone(), tasks.clone()));
        Ok(Self { path: path.to_owned(), identity, stop })
    }

    /// Whether the socket is still the one that clients find.
    pub(crate) fn is_there(&self) -> bool {
        identity(&self.path) == Some(self.identity)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn accept(guest: Arc<Guest>, listener: UnixListener, owner: u32, stop: CancellationToken, tasks: TaskTracker) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let next = async {
            // Connections cost as lines do: whoever makes many waits in its own queue.
            guest.admit().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            () = stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: others may close some.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        if open.load(Ordering::Relaxed) >= guest.limits.connections || !is_root(&stream, owner) {
            guest.numbers.refused();
            continue;
        }
        let place = Place::new(&open);
        let (guest, stop) = (guest.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            let _connected = guest.numbers.connected();
            tokio::select! {
                () = talk(&guest, stream) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Only the guest's root, and the host's, may ask. The kernel tells who connected, in ids of the host.
fn is_root(stream: &UnixStream, owner: u32) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == owner || peer.uid() == 0)
}

/// A place among an instance's connections.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
