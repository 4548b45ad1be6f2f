//! The guest's serial line: the same lines and answers as on a socket, on something that can be neither refused nor closed, and
//! that all clients in the guest share (metadata.md section 5.3, ruling 32).
//!
//! So what ends a connection elsewhere here means: the rest of a line that is too long is discarded up to its end, a line that
//! does not end in time is forgotten, and an answer that nobody reads is dropped.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::termios::{LocalFlags, SetArg, cfmakeraw, tcgetattr, tcsetattr},
    unistd,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, sleep, timeout, timeout_at},
};

use triton_agent::watch_descriptor;

use crate::{
    Guest,
    budget::Share,
    intake::{Meter, of_answer},
};

/// Bytes that are read at once.
const CHUNK: usize = 4 << 10;
/// Before the next look at a line that cannot be read: nobody holds its other side.
const HUNG_UP: Duration = Duration::from_millis(200);
/// Between looks at whether there is room again, beside the kernel's word for it.
const ROOM: Duration = Duration::from_millis(250);
/// Lines of answers that are remembered, to recognise them when they come back.
const REMEMBERED: usize = 32;

/// The master of a guest's line.
#[derive(Debug)]
pub struct Terminal(AsyncFd<OwnedFd>);

impl Terminal {
    /// Takes it over; must be called within the runtime.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub fn new(master: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&master, FcntlArg::F_GETFL)?);
        fcntl(&master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(watch_descriptor(master)?))
    }

    /// The descriptor.
    pub fn master(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.async_io(Interest::READABLE, |master| Ok(unistd::read(master, buffer)?)).await
    }

    /// Writes all of it, or as much as is taken before nothing is for `patience`; true for all.
    async fn write(&self, mut bytes: &[u8], patience: Duration) -> bool {
        let mut since = Instant::now();
        while !bytes.is_empty() {
            match unistd::write(self.0.get_ref(), bytes) {
                Ok(count) if count > 0 => (bytes, since) = (&bytes[count..], Instant::now()),
                Ok(_) | Err(Errno::EAGAIN) => {
                    if since.elapsed() >= patience {
                        return false;
                    }
                    if let Ok(Ok(mut ready)) = timeout(ROOM, self.0.writable()).await {
                        ready.clear_ready();
                        // Without room there is no next event for what is there already.
                        tokio::task::yield_now().await;
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// True, after it was made raw again, if the line echoes what is sent.
    fn stop_echo(&self) -> bool {
        let Ok(mut settings) = tcgetattr(self.0.get_ref().as_fd()) else { return false };
        let echoes = settings.local_flags.intersects(LocalFlags::ECHO | LocalFlags::ECHONL);
        if echoes {
            cfmakeraw(&mut settings);
            let _ = tcsetattr(self.0.get_ref().as_fd(), SetArg::TCSANOW, &settings);
        }
        echoes
    }
}

/// What was sent last, by line.
#[derive(Default)]
struct Sent(VecDeque<u64>);

impl Sent {
    fn of(line: &[u8]) -> u64 {
        let mut hasher = DefaultHasher::new();
        line.trim_ascii_end().hash(&mut hasher);
        hasher.finish()
    }

    fn remember(&mut self, answer: &[u8]) {
        for line in answer.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            self.0.truncate(REMEMBERED - 1);
            self.0.push_front(Self::of(line));
        }
    }

    fn has(&self, line: &[u8]) -> bool {
        self.0.contains(&Self::of(line))
    }
}

/// Serves the line, for ever: whoever calls it says when it is over.
pub async fn serve_line(guest: &Guest, terminal: &Terminal) {
    let limits = &guest.limits;
    let mut share = Share::new(&guest.memory);
    let (mut buffer, mut searched, mut discarding): (Vec<u8>, usize, bool) = (Vec::new(), 0, false);
    let mut meter = Meter::default();
    let mut began = Instant::now();
    let mut sent = Sent::default();
    loop {
        while let Some(end) = buffer[searched..].iter().position(|&byte| byte == b'\n').map(|at| searched + at) {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            (searched, began) = (0, Instant::now());
            guest.pay(if discarding { meter.grown_by(end) } else { meter.grown_to(end) }).await;
            meter.next_line();
            if std::mem::take(&mut discarding) || (sent.has(&line) && terminal.stop_echo()) {
                guest.numbers.dropped();
                continue;
            }
            if let Some(answer) = guest.answer(&line[..end]).await {
                sent.remember(answer.as_bytes());
                guest.pay(of_answer(answer.len())).await;
                let fits = share.resize(buffer.capacity() + answer.len());
                if !fits || !terminal.write(answer.as_bytes(), limits.serial_stalled()).await {
                    guest.numbers.cut();
                }
            }
        }
        searched = buffer.len();
        let owed = if discarding {
            buffer.clear();
            meter.grown_by(std::mem::take(&mut searched))
        } else {
            meter.grown_to(searched)
        };
        if searched > limits.line || !share.resize(searched + CHUNK) {
            guest.numbers.cut();
            (buffer, searched, discarding) = (Vec::new(), 0, true);
            if !share.resize(CHUNK) {
                // Its guest's share is used up elsewhere.
                sleep(HUNG_UP).await;
            }
        }
        if buffer.is_empty() && buffer.capacity() > CHUNK {
            buffer = Vec::new();
        }
        let mut chunk = [0; CHUNK];
        let pending = discarding || !buffer.is_empty();
        let more = async {
            guest.pay(owed).await;
            terminal.read(&mut chunk).await
        };
        let read = match pending {
            true => timeout_at(began + limits.partial(), more).await,
            false => Ok(more.await),
        };
        match read {
            Ok(Ok(count)) if count > 0 => {
                if !pending {
                    began = Instant::now();
                }
                buffer.extend_from_slice(&chunk[..count]);
            }
            Ok(_) => sleep(HUNG_UP).await,
            // A client that died in the middle of a line.
            Err(_) => {
                (buffer, searched, discarding) = (Vec::new(), 0, false);
                meter.next_line();
            }
        }
    }
}
