//! The guest's second serial line, `/dev/ttyS1`, for metadata clients that know no socket (metadata.md section 5.3, ruling 32).
//!
//! It is a pseudo terminal, made anew for each boot. This process keeps both of its sides open, so that it outlives every
//! client in the guest and every metadata service, and lends the master to whoever connects to `line.sock` in the instance's
//! runtime directory: the metadata service, again after each of its restarts. The end of that connection tells it that the
//! line is another one, or gone.
//!
//! The words (a stable protocol, ruling 58): `L` comes with the master; `N` says that there is none here, since the guest was
//! adopted from a supervisor that was killed, and is answered with `L` and the master by a service that still has it.

use std::{
    fs::{File, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::{
            fs::{PermissionsExt, fchown},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr},
};
use triton_instance::{LINE_SOCKET, Machines};
use triton_process::{receive_descriptor, send_descriptor, terminal_of_master};

use crate::node::Node;

/// How long a client of the socket may take for a word.
const PATIENCE: Duration = Duration::from_secs(2);
/// After the socket could not be served, most likely for want of descriptors.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the thread that serves the socket: monitors are many (ruling 55).
const STACK: usize = 64 << 10;

/// A pseudo terminal, open on both sides: a master alone is hung up.
struct Pair {
    master: OwnedFd,
    _terminal: OwnedFd,
}

#[derive(Default)]
struct State {
    pair: Option<Pair>,
    borrower: Option<UnixStream>,
}

/// The line of one guest, and the socket at which it is lent. Both end with this.
pub struct Line {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Line {
    /// Serves the socket; there is no line yet. The socket of a supervisor that was killed is replaced.
    pub fn open(node: &Node) -> io::Result<Self> {
        let directory = File::open(node.records.directory())?;
        // The name of a socket has at most 107 bytes: below a deep root it goes through a descriptor.
        let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(LINE_SOCKET);
        match std::fs::remove_file(&short) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&short)?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::Builder::new().name("line".to_owned()).stack_size(STACK).spawn(move || lend(&listener, &shared))?;
        Ok(Self { socket: node.records.directory().join(LINE_SOCKET), state })
    }

    /// A new line for the next boot; returns its device. Whoever had the old one hears its end.
    pub fn renew(&self, node: &Node) -> io::Result<PathBuf> {
        let mut state = lock(&self.state);
        *state = State::default();
        let machine = Machines::new(&node.layout).read_alone(node.uuid).map_err(io::Error::other)?;
        let owner = machine.storage.map(|storage| storage.ids.base).ok_or(io::ErrorKind::NotFound)?;
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let device = PathBuf::from(ptsname_r(&master)?);
        let terminal = terminal_of_master(master.as_fd())?;
        // Raw before the guest can open it: nothing that the service says may come back as if the guest had said it.
        let mut settings = tcgetattr(&terminal)?;
        cfmakeraw(&mut settings);
        tcsetattr(&terminal, SetArg::TCSANOW, &settings)?;
        fchown(&terminal, Some(owner), Some(owner))?;
        let terminal = File::from(terminal);
        terminal.set_permissions(Permissions::from_mode(0o600))?;
        state.pair = Some(Pair { master: master.into(), _terminal: terminal.into() });
        Ok(device)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        *lock(&self.state) = State::default();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Lends the line to whoever asks, one at a time, until this process ends.
fn lend(listener: &UnixListener, state: &Mutex<State>) {
    loop {
        match listener.accept() {
            // One that went away, or said nothing sensible, may come again.
            Ok((stream, _)) => drop(lend_to(stream, state)),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn lend_to(stream: UnixStream, state: &Mutex<State>) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut held = lock(state);
    if held.pair.is_none() {
        drop(held);
        send_descriptor(&stream, b'N', None)?;
        let (word, offered) = receive_descriptor(&stream)?;
        held = lock(state);
        if held.pair.is_some() {
            // The next boot has begun meanwhile: it asks again, for the new line.
            return Ok(());
        }
        if let (b'L', Some(master)) = (word, offered) {
            let terminal = terminal_of_master(master.as_fd())?;
            held.pair = Some(Pair { master, _terminal: terminal });
        }
    } else if let Some(pair) = &held.pair {
        send_descriptor(&stream, b'L', Some(pair.master.as_fd()))?;
    }
    held.borrower = Some(stream);
    Ok(())
}
