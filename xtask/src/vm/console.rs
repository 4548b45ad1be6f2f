//! The serial console, as somebody who sits at it: what it said, and what is typed.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::qemu;

/// What the console says from now on.
#[derive(Debug)]
pub struct Console {
    log: PathBuf,
    socket: PathBuf,
    from: u64,
}

impl Console {
    /// The console of the machine in `dir`, from now on.
    pub fn from_now(dir: &Path) -> Self {
        let log = qemu::log(dir);
        let from = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
        Self { log, socket: qemu::console(dir), from }
    }

    /// What it said since then.
    ///
    /// # Errors
    /// When there is no log.
    pub fn said(&self) -> Result<String> {
        let mut bytes = Vec::new();
        let mut file = File::open(&self.log).with_context(|| format!("could not open {}", self.log.display()))?;
        file.seek(SeekFrom::Start(self.from))?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until it has said something.
    ///
    /// # Errors
    /// When it does not within `limit`, with its last words.
    pub fn wait_for(&self, text: &str, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let said = self.said()?;
            if said.contains(text) {
                return Ok(());
            }
            if Instant::now() > end {
                let tail: Vec<&str> = said.lines().rev().take(10).collect();
                bail!(
                    "the console did not say {text:?} within {} s; its last words: {}",
                    limit.as_secs(),
                    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// Types a line.
    ///
    /// # Errors
    /// When the machine does not run.
    pub fn type_line(&self, line: &str) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket).with_context(|| format!("could not reach {}", self.socket.display()))?;
        stream.write_all(format!("{line}\r").as_bytes())?;
        // QEMU reads as fast as the emulated port does, and what is in the socket when it is closed would be lost.
        std::thread::sleep(Duration::from_secs(2));
        Ok(())
    }
}
