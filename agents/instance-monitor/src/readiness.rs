//! Telling the starter how the start went: a line on a descriptor, or systemd's protocol.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use triton_instance::Readiness;

use crate::ffi;

/// Bytes of an error text.
pub const ERROR_LIMIT: usize = 2048;

/// Who is waiting for the start's outcome. It is told once; after that its descriptor is closed.
pub enum Starter {
    /// A launcher that reads a line.
    Line(File),
    /// systemd, if it is there.
    Systemd,
}

impl Starter {
    /// The one behind descriptor `fd`, or systemd.
    pub fn new(fd: Option<i32>) -> Self {
        let Some(number) = fd else { return Self::Systemd };
        // Descriptor 1 is also Rust's stdout: a copy is told, and /dev/null takes its number.
        let copy = ffi::take_fd(number).and_then(|fd: OwnedFd| {
            let copy = fd.try_clone();
            if number <= 2 {
                let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
                let mut fd = fd;
                nix::unistd::dup2(&null, &mut fd)?;
                // The number stays in use.
                std::mem::forget(fd);
            }
            copy
        });
        copy.map_or(Self::Systemd, |fd| Self::Line(File::from(fd)))
    }

    /// Init runs.
    pub fn ready(self, pid: i32) {
        self.tell(&Readiness { ok: true, pid: Some(pid), error: None });
    }

    /// It does not.
    pub fn failed(self, reason: &str) {
        let reason: String = reason.chars().take(ERROR_LIMIT).collect();
        self.tell(&Readiness { ok: false, pid: None, error: Some(reason) });
    }

    fn tell(self, readiness: &Readiness) {
        match self {
            Self::Line(mut file) => {
                // A starter that went away is told nothing.
                let _ = serde_json::to_string(readiness).map(|line| file.write_all(format!("{line}\n").as_bytes()));
            }
            Self::Systemd if readiness.ok => {
                let status = readiness.pid.map(|pid| format!("READY=1\nSTATUS=init of the guest is process {pid}\n"));
                let _ = notify(status.as_deref().unwrap_or("READY=1\n"));
            }
            Self::Systemd => {
                // The unit's status outlives the unit's failure: whoever started it reads the reason there.
                let reason = readiness.error.as_deref().unwrap_or("the monitor gave no reason");
                let _ = notify(&format!("STATUS={}\n", reason.lines().collect::<Vec<_>>().join("; ")));
            }
        }
    }
}

fn notify(text: &str) -> std::io::Result<()> {
    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address).map(drop)
}
