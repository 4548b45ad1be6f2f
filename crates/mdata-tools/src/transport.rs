//! The way to the service: a socket, else the second serial line.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::{fs::FileTypeExt, net::UnixStream},
    path::Path,
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use triton_mdata::client::{Ask, NEGOTIATE, NEGOTIATED, Told, read};

use crate::serial::Serial;

/// Where the socket may be, in the order of preference.
const SOCKETS: [&str; 3] = ["/.zonecontrol/metadata.sock", "/native/.zonecontrol/metadata.sock", "/var/run/smartdc/metadata.sock"];
/// How long a socket is waited for whose directory is there: the service may be restarting.
const PATIENCE: Duration = Duration::from_secs(60);
/// Until the versions are agreed on.
const GREETING: Duration = Duration::from_secs(6);
/// For the answer to a request.
const ANSWER: Duration = Duration::from_secs(45);
/// A request is sent so often before it is given up.
const TRIES: u32 = 3;
/// Longest line that is taken.
const MAX_LINE: usize = 32 << 20;

/// Why nothing was learnt.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) String);

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A line to the service: bytes with a deadline for each read.
pub(crate) trait Line: Read + Write {
    /// How long the next read may take.
    fn patience(&mut self, patience: Duration) -> io::Result<()>;
}

impl Line for UnixStream {
    fn patience(&mut self, patience: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(patience))
    }
}

/// How a line is opened, again after it was lost.
type Open = Box<dyn Fn() -> io::Result<Box<dyn Line>>>;

/// The service.
pub(crate) struct Server {
    open: Open,
    /// A line that is open already.
    ready: Option<Box<dyn Line>>,
    name: String,
}

impl Server {
    /// Finds the service, and waits for it if it is only restarting.
    pub(crate) fn find() -> Result<Self, Lost> {
        let begin = Instant::now();
        loop {
            if let Some(path) = SOCKETS.iter().find(|path| fs::metadata(path).is_ok_and(|meta| meta.file_type().is_socket())) {
                return Ok(Self { name: (*path).to_owned(), open: Box::new(|| connect(path)), ready: None });
            }
            let promised = SOCKETS.iter().filter_map(|path| Path::new(path).parent()).any(is_mounted);
            if !promised || begin.elapsed() > PATIENCE {
                break;
            }
            sleep(Duration::from_millis(200));
        }
        let line = serial()
            .map_err(|error| Lost(format!("could not initialise protocol: there is no metadata socket, and {}: {error}", Serial::PATH)))?;
        let open: Open = Box::new(|| Ok(Box::new(Serial::open()?)));
        Ok(Self { name: Serial::PATH.to_owned(), open, ready: Some(Box::new(line)) })
    }

    /// Asks, and asks again when the line is lost or nothing comes.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Result<Told, Lost> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            if attempt > 0 {
                sleep(Duration::from_secs(1));
            }
            let told = self.ready.take().map_or_else(&self.open, Ok).and_then(|line| converse(line, ask, request_id(attempt)));
            match told {
                Ok(told) => return Ok(told),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    return Err(Lost(format!("{}: {error}: only root may ask", self.name)));
                }
                Err(error) => last = error.to_string(),
            }
        }
        Err(Lost(format!("{}: {last}", self.name)))
    }
}

/// The serial line. What its last user left in it may cost the first tries.
fn serial() -> io::Result<Serial> {
    let mut attempt = 1;
    loop {
        match Serial::open() {
            Err(error) if attempt < TRIES && matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::InvalidData) => {
                attempt += 1;
                sleep(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

/// True for a directory that something was mounted on: the host promises a socket in it.
fn is_mounted(directory: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let above = directory.parent().and_then(|above| fs::metadata(above).ok());
    matches!((fs::metadata(directory), above), (Ok(own), Some(above)) if own.dev() != above.dev())
}

fn connect(path: &str) -> io::Result<Box<dyn Line>> {
    let begin = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(Box::new(stream)),
            // Between two lives of the service.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) && begin.elapsed() < PATIENCE =>
            {
                sleep(Duration::from_millis(100));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Not secret, only unlike the one before.
fn request_id(attempt: u32) -> u32 {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.subsec_nanos());
    (nanos ^ std::process::id().rotate_left(16)).wrapping_add(attempt) | 1
}

fn converse(mut line: Box<dyn Line>, ask: &Ask, request: u32) -> io::Result<Told> {
    let mut rest = Vec::new();
    line.write_all(NEGOTIATE.as_bytes())?;
    let greeting = next(line.as_mut(), &mut rest, GREETING)?;
    if greeting != NEGOTIATED {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the service does not speak version 2: it said {greeting:?}")));
    }
    line.write_all(ask.encode(request).as_bytes())?;
    let begin = Instant::now();
    loop {
        let left = ANSWER.checked_sub(begin.elapsed()).ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))?;
        let text = next(line.as_mut(), &mut rest, left)?;
        if let Some(told) = read(&text, request) {
            return Ok(told);
        }
    }
}

/// The next line, which ends within `patience`.
pub(crate) fn next(line: &mut dyn Line, rest: &mut Vec<u8>, patience: Duration) -> io::Result<String> {
    let begin = Instant::now();
    loop {
        if let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            let mut text: Vec<u8> = rest.drain(..=end).collect();
            text.truncate(end);
            return Ok(String::from_utf8_lossy(&text).trim_end().to_owned());
        }
        if rest.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer does not end"));
        }
        let left = patience.checked_sub(begin.elapsed()).filter(|left| !left.is_zero());
        line.patience(left.ok_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "the service does not answer"))?)?;
        let mut chunk = [0; 64 << 10];
        match line.read(&mut chunk) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the service closed the connection")),
            Ok(count) => rest.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the service does not answer"));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
